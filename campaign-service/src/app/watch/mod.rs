//! Progress of runs, for people who watch them.

mod idling;
pub mod progress;
mod sharing;

use campaign_domain::eligibility::Reason;
pub use progress::{Watch, Watcher};
use std::collections::BTreeMap;

/// Numbers of contacts by bucket. Each contact is in exactly one bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buckets {
    pub total: i64,
    pub waiting: i64,
    pub waiting_retry: i64,
    pub leased: i64,
    pub in_call: i64,
    pub removed: BTreeMap<Reason, i64>,
}
