//! What the service does, one use case a file. Reads the store, asks the domain, writes the store.

pub mod auditing;
pub mod authorizing;
pub mod backlog;
pub mod chores;
pub mod contacts;
pub mod control;
pub mod erasing;
pub mod error;
pub mod explaining;
mod grouping;
mod idling;
pub mod importing;
pub mod inbound;
pub mod leasing;
mod ledger;
pub mod lifecycle;
mod past_runs;
mod picking;
pub mod preview;
pub mod progress;
pub mod recording;
pub mod stops;
pub mod suppressing;

use crate::eraser::Eraser;
use crate::links::Links;
use crate::metrics::Metrics;
use crate::store::audit::{self, Event};
use crate::store::campaigns::{self, Campaign, Run};
use crate::store::{Db, Gate, Statements};
use campaign_domain::Instant;
use campaign_domain::access::{Reach, Tenant};
use error::{Error, Result};
use leasing::Lessor;
use past_runs::PastRuns;
use recording::Recorder;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Limits of what workers get.
#[derive(Clone, Debug)]
pub struct DispatchLimits {
    /// A lease ends this long after it was given or renewed.
    pub lease_ttl: Duration,
    /// Most contacts in one batch.
    pub max_batch_contacts: usize,
    /// Most contacts looked at for one batch.
    pub max_scan_contacts: usize,
    /// Most outstanding credit of one worker.
    pub max_credit_contacts: usize,
    /// Most interactions in one report, and attempts in one authorisation.
    pub max_report_interactions: usize,
    /// Most attempts on one number in 24 hours, over all campaigns; 0: no cap.
    pub max_attempts_per_number: u16,
    /// Least wait before a contact is tried again whose last attempt ended nobody knows how.
    pub unknown_retry_min_seconds: u32,
    /// How long a worker may stay after it was asked to leave.
    pub drain_grace: Duration,
}

/// The use cases. One for the whole process.
#[derive(Clone, Debug)]
pub struct App {
    pub db: Db,
    pub limits: DispatchLimits,
    /// For texts; `None`: they carry no links.
    pub links: Option<Links>,
    /// Knows erased people; `None`: nobody can be erased.
    pub eraser: Option<Eraser>,
    pub metrics: Arc<Metrics>,
    recorder: Arc<Recorder>,
    lessor: Arc<Lessor>,
    past_runs: Arc<PastRuns>,
}

impl App {
    /// On a database.
    #[must_use]
    pub fn new(db: Db, limits: DispatchLimits) -> Self {
        let (recorder, lessor) = (Arc::new(recording::recorder()), Arc::new(leasing::lessor()));
        Self {
            db,
            limits,
            links: None,
            eraser: None,
            metrics: Arc::default(),
            recorder,
            lessor,
            past_runs: Arc::default(),
        }
    }

    /// The one place that tells whether there is a campaign for who asks. Asked before anything is done
    /// with it, its gate passed or time spent on it, so that one of somebody else cannot be told from
    /// one that never was.
    pub async fn reaches(&self, reach: &Reach, id: Uuid) -> Result<bool> {
        let Reach::Of(tenant) = reach else { return Ok(true) };
        Ok(campaigns::is_of(&self.db.connect().await?, id, tenant).await?)
    }

    /// A campaign that exists, and how many contacts it has.
    pub async fn get_campaign(&self, id: Uuid) -> Result<(Campaign, i64)> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let campaign = existing(&tx, id).await?;
        Ok((campaign, campaigns::counters(&tx, id).await?.contacts))
    }

    /// Campaigns of a tenant with their contact counts, newest first, older than the last of the page before.
    pub async fn list_campaigns(
        &self,
        tenant: &Tenant,
        after: Option<(Instant, Uuid)>,
        limit: i64,
    ) -> Result<Vec<(Campaign, i64)>> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let mut found = Vec::new();
        for campaign in campaigns::list(&tx, tenant, after, limit).await? {
            let contacts = campaigns::counters(&tx, campaign.id).await?.contacts;
            found.push((campaign, contacts));
        }
        Ok(found)
    }

    /// Runs of a campaign, newest first, before the number given.
    pub async fn list_runs(&self, id: Uuid, before: Option<i32>, limit: i64) -> Result<Vec<Run>> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        existing(&tx, id).await?;
        Ok(campaigns::list_runs(&tx, id, before, limit).await?)
    }

    /// The audit log of a campaign, deleted or not; newest first, before the number given.
    pub async fn list_audit_events(
        &self,
        id: Uuid,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<Event>> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        if campaigns::find(&tx, id).await?.is_none() {
            return Err(Error::NotFound(format!("campaigns/{id}")));
        }
        Ok(audit::list(&tx, id, before, limit).await?)
    }
}

/// Loads a campaign that exists and is not deleted.
pub(crate) async fn existing(tx: &Statements<'_>, id: Uuid) -> Result<Campaign> {
    present(campaigns::find(tx, id).await?, id)
}

/// A campaign that was found and is not deleted.
fn present(found: Option<Campaign>, id: Uuid) -> Result<Campaign> {
    let present = found.filter(|campaign| !campaign.is_deleted);
    present.ok_or_else(|| Error::NotFound(format!("campaigns/{id}")))
}
