//! State that all connections to a database share.

use super::notify::ControlEvent;
use super::outages::Outages;
use super::to_count::ToCount;
use std::sync::atomic::AtomicI64;
use std::time::Duration;
use tokio::sync::broadcast;

/// State that all connections to a database share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) outages: Outages,
    /// Longest wait for an answer. A live database gives up earlier.
    pub(super) answer_limit: Duration,
    /// Notices that the database did not accept.
    pub(super) untold: broadcast::Sender<ControlEvent>,
    /// Number added to transaction ids that are stored: see [`clusters`].
    pub(super) transaction_shift: AtomicI64,
    pub(super) to_count: ToCount,
}
