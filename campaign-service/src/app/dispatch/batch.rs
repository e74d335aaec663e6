//! Leases as workers ask for them and get them.

use crate::app::group_commit::GroupCommit;
use crate::store::contacts::Leasable;
use crate::store::leases::Lease;
use uuid::Uuid;

/// Most transactions of one campaign at the same time. More would wait for the same frontiers, so
/// one takes for all.
const TURNS: usize = 1;
/// Most contacts leased in one transaction, unless one worker takes more.
const MAX_CONTACTS: usize = 4_000;

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
}

/// Leases of many workers, made together.
pub(super) type Lessor = GroupCommit<Want, Leased>;

pub(super) fn lessor() -> Lessor {
    GroupCommit::new(TURNS, MAX_CONTACTS, |want| want.contacts)
}

/// Answer to a worker that asks for contacts.
#[derive(Debug)]
pub enum Leased {
    Batch(Box<LeasedBatch>),
    /// There is nobody to engage now.
    Nothing,
    /// Nobody was found among the contacts looked at; there are more to look at.
    NothingYet,
}

/// Lease just given.
#[derive(Debug)]
pub struct LeasedBatch {
    pub lease: Lease,
    /// `traceparent` of the launch of the run; empty if the launch was not traced.
    pub launch_traceparent: String,
    pub contacts: Vec<LeasedContact>,
}
