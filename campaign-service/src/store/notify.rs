//! Word from one replica to all: control changes, not contacts.

use super::{StoreResult, Tx};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The channel that every replica listens on.
pub const CHANNEL: &str = "campaign_control";

/// What replicas tell each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ControlEvent {
    /// A run is held or over.
    Stopped { campaign: Uuid, run: i32, cause: StopCause, hang_up: bool },
    /// There may be something to lease.
    Work { campaign: Uuid },
    /// A contact must not be dialled any more.
    ContactRemoved { campaign: Uuid, position: i64, cause: RemovalCause },
    /// Never sent: a replica tells itself that it may have missed something.
    Missed,
}

/// Why a run stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopCause {
    Paused,
    Cancelled,
    Completed,
}

/// Why a contact was taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RemovalCause {
    OptedOut,
    Suppressed,
}

/// Tells all replicas, when the transaction commits.
pub async fn send(tx: &Tx<'_>, event: &ControlEvent) -> StoreResult<()> {
    let payload = super::to_json(event)?.to_string();
    tx.execute("SELECT pg_notify($1, $2)", &[&CHANNEL, &payload]).await?;
    Ok(())
}
