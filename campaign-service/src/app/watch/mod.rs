//! Progress of runs, for people who watch them.

mod idling;
pub mod progress;

use super::DispatchLimits;
use crate::store::Db;
use campaign_domain::eligibility::Reason;
use std::collections::BTreeMap;

/// Use cases of watching a campaign.
#[derive(Clone, Debug)]
pub struct Watch {
    pub db: Db,
    pub limits: DispatchLimits,
}

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
