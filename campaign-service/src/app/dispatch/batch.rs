//! Leases as workers ask for them and get them.

use crate::store::contacts::Leasable;
use crate::store::leases::Lease;
use campaign_domain::roster::Yield;
use campaign_domain::serving::{Abilities, Needs};
use std::sync::Arc;
use uuid::Uuid;

/// Key that names a lease and proves its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseKey {
    pub campaign: Uuid,
    pub number: i64,
    pub token: Uuid,
}

/// Contact in a lease just given.
#[derive(Debug)]
pub struct LeasedContact {
    pub slot: usize,
    pub contact: Leasable,
    /// Time zone of the contact, or the campaign's.
    pub time_zone: String,
    /// Number of the contact's next attempt, from 1.
    pub attempt_number: i32,
    /// Link for a text; empty if there is none.
    pub link: String,
}

/// Worker that asks for contacts, and how many it takes.
#[derive(Clone, Debug)]
pub struct Want {
    pub worker_id: String,
    pub contacts: usize,
    pub abilities: Arc<Abilities>,
}

/// Leases of some workers, made together.
#[derive(Debug)]
pub struct Leased {
    /// Batches in the order of the workers; `None` for a worker that gets nothing.
    pub batches: Vec<Option<LeasedBatch>>,
    /// Whether the campaign may have more contacts.
    pub left: Yield,
    /// Needs of the campaign, if a worker does not meet them any more.
    pub unmet: Option<Needs>,
}

impl Leased {
    /// Returns the answer of a campaign that has nobody to hand out.
    pub(super) fn nothing() -> Self {
        Self { batches: Vec::new(), left: Yield::NoMore, unmet: None }
    }
}

/// Lease just given.
#[derive(Debug)]
pub struct LeasedBatch {
    pub lease: Lease,
    /// `traceparent` of the launch of the run; empty if the launch was not traced.
    pub launch_traceparent: String,
    pub contacts: Vec<LeasedContact>,
}

impl LeasedBatch {
    /// Returns the key of the lease.
    #[must_use]
    pub fn key(&self) -> LeaseKey {
        let Lease { campaign, number, token, .. } = self.lease;
        LeaseKey { campaign, number, token }
    }
}
