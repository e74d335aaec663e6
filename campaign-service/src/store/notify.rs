//! Word from one replica to all: control changes, not contacts.
//!
//! A notice is a courtesy. It is sent in one message with the COMMIT that it tells of, and after it: what cannot be
//! told is done all the same, and what is not done is not told. The queue of notices is one for the whole server, and
//! any session that listens and idles in a transaction can fill it. Whoever misses a notice learns of a stop when it
//! renews a lease, and of everything when it asks to authorise.

use super::session::literal;
use super::{StoreResult, Tx, to_json};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Begins to listen on the channel of all replicas.
pub(super) const LISTEN: &str = "LISTEN campaign_control";

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

/// Tells all replicas once the transaction is committed.
pub fn on_commit(tx: &Tx<'_>, event: ControlEvent) {
    tx.notices().push(event);
}

/// Commits, and then tells.
pub(super) fn commit_and_tell(events: &[ControlEvent]) -> StoreResult<String> {
    let mut payloads = Vec::with_capacity(events.len());
    for event in events {
        payloads.push(literal(&to_json(event)?.to_string()));
    }
    let payloads = payloads.join(", ");
    Ok(format!(
        "COMMIT; SELECT pg_catalog.pg_notify('campaign_control', payload) FROM unnest(ARRAY[{payloads}]) payload"
    ))
}
