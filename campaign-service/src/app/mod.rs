//! Use cases of the service: one small struct for each kind, with only what it needs. Each use case
//! reads the store, asks the domain, and writes the store.

pub mod backlog;
pub mod campaigns;
pub mod chores;
pub mod control;
pub mod dispatch;
pub mod error;
pub mod facts;
mod group_commit;
mod housekeeping;
pub mod kept_counts;
mod lanes;
mod outlook;
pub mod people;
mod returning;
pub mod watch;

use crate::store::{Statements, campaigns as rows};
use campaign_domain::campaign::Campaign;
use campaign_domain::caps::CapScope;
use error::{Error, Result};
use std::time::Duration;
use uuid::Uuid;

/// Limits of what workers get.
#[derive(Clone, Debug)]
pub struct DispatchLimits {
    /// Time after which a lease ends, from when it was given or renewed.
    pub lease_ttl: Duration,
    /// Most contacts in one batch.
    pub max_batch_contacts: usize,
    /// Most contacts looked at for one batch.
    pub max_scan_contacts: usize,
    /// Most outstanding credit of one worker.
    pub max_credit_contacts: usize,
    /// Most interactions in one report, and attempts in one authorisation.
    pub max_report_interactions: usize,
    /// Most attempts on one number in 24 hours; 0: no cap.
    pub max_attempts_per_number: u16,
    /// Campaigns whose attempts on a number count together.
    pub attempt_cap_scope: CapScope,
    /// Shortest wait before the retry of a contact whose last attempt has an unknown outcome, in
    /// seconds.
    pub unknown_retry_min_seconds: u32,
    /// Wait after an attempt in which no phone can have rung, in seconds. It doubles each time.
    pub congested_retry_seconds: u32,
    /// Time for which a worker may stay after it was asked to leave.
    pub drain_grace: Duration,
    /// Longest time that a worker's stream stays open; `None` for ever.
    pub stream_max_age: Option<Duration>,
}

/// Loads a campaign that exists and is not deleted.
async fn existing(tx: &Statements<'_>, id: Uuid) -> Result<Campaign> {
    present(rows::find(tx, id).await?, id)
}

/// Returns a campaign that was found and is not deleted.
fn present(found: Option<Campaign>, id: Uuid) -> Result<Campaign> {
    let present = found.filter(|campaign| !campaign.is_deleted);
    present.ok_or_else(|| Error::NotFound(format!("campaigns/{id}")))
}
