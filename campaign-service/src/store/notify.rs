//! Notices from one replica to all: control changes, not contacts.
//!
//! Notices are best effort. A notice is sent in one message with its COMMIT, and after it. So a
//! change is done even if its notice fails, and no notice tells of a change that is not done. The
//! whole server has one queue of notices, and any session that listens and idles in a transaction
//! can fill the queue. A missed notice costs only time: workers learn of a stop when they renew a
//! lease, and of everything when they ask to authorise.

use super::error::StoreResult;
use super::json::to_json;
use super::session::literal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Statement that listens on the channel of all replicas.
pub(super) const LISTEN: &str = "LISTEN campaign_control";

/// Notice between replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ControlEvent {
    /// A run is paused or over.
    Stopped { campaign: Uuid, run: i32, cause: StopCause, hang_up: bool },
    /// There may be contacts to lease.
    Work { campaign: Uuid },
    /// A contact must not be dialled any more.
    ContactRemoved { campaign: Uuid, position: i64, cause: RemovalCause },
    /// Contacts must not be dialled any more. The version before takes this for [`Self::Missed`].
    ContactsRemoved { campaign: Uuid, positions: Vec<i64>, cause: RemovalCause },
    /// A replica may have missed notices. Never sent: a replica raises this for itself.
    Missed,
}

/// Reason why a run stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopCause {
    Paused,
    Cancelled,
    Completed,
}

/// Reason why a contact was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RemovalCause {
    OptedOut,
    Suppressed,
}

/// Returns the SQL that commits and then sends notices.
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
