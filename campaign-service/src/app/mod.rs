//! Use cases of the service, one per file. Each reads the store, asks the domain, and writes the
//! store.

pub mod auditing;
pub mod authorizing;
pub mod backlog;
pub mod batch;
pub mod chores;
pub mod contacts;
pub mod control;
pub mod erasing;
pub mod error;
pub mod explaining;
mod group_commit;
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
mod releasing;
pub mod report;
pub mod stops;
pub mod suppressing;

use crate::eraser::Eraser;
use crate::links::Links;
use crate::metrics::Metrics;
use crate::store::audit::{self, Event};
use crate::store::campaigns::{self, Run};
use crate::store::{Db, Gate, Statements};
use batch::Lessor;
use campaign_domain::Instant;
use campaign_domain::access::{Reach, Tenant};
use campaign_domain::campaign::Campaign;
use error::{Error, Result};
use past_runs::PastRuns;
use report::Recorder;
use std::sync::Arc;
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
    /// Most attempts on one number in 24 hours, over all campaigns; 0: no cap.
    pub max_attempts_per_number: u16,
    /// Shortest wait before the retry of a contact whose last attempt has an unknown outcome, in
    /// seconds.
    pub unknown_retry_min_seconds: u32,
    /// Time for which a worker may stay after it was asked to leave.
    pub drain_grace: Duration,
}

/// Use cases. One instance serves the whole process.
#[derive(Clone, Debug)]
pub struct App {
    pub db: Db,
    pub limits: DispatchLimits,
    /// Links for texts; `None` if texts carry no links.
    pub links: Option<Links>,
    /// Eraser, which knows erased people; `None` if nobody can be erased.
    pub eraser: Option<Eraser>,
    pub metrics: Arc<Metrics>,
    recorder: Arc<Recorder>,
    lessor: Arc<Lessor>,
    past_runs: Arc<PastRuns>,
}

impl App {
    /// Creates the use cases on a database.
    #[must_use]
    pub fn new(db: Db, limits: DispatchLimits) -> Self {
        let (recorder, lessor) = (Arc::new(report::recorder()), Arc::new(batch::lessor()));
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

    /// Returns whether a campaign is within the caller's reach. Nothing else decides this. Must be
    /// asked before anything is done with the campaign, its gate passed or time spent on it. So
    /// another tenant's campaign cannot be told from one that never was.
    pub async fn reaches(&self, reach: &Reach, id: Uuid) -> Result<bool> {
        let Reach::Of(tenant) = reach else { return Ok(true) };
        Ok(campaigns::is_of(&self.db.connect().await?, id, tenant).await?)
    }

    /// Returns a campaign that exists, and how many contacts it has.
    pub async fn get_campaign(&self, id: Uuid) -> Result<(Campaign, i64)> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let campaign = existing(&tx, id).await?;
        Ok((campaign, campaigns::counters(&tx, id).await?.contacts))
    }

    /// Lists a tenant's campaigns with their contact counts, newest first, after the last one of
    /// the previous page.
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

    /// Lists a campaign's runs with a number below `before`, newest first.
    pub async fn list_runs(&self, id: Uuid, before: Option<i32>, limit: i64) -> Result<Vec<Run>> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        existing(&tx, id).await?;
        Ok(campaigns::list_runs(&tx, id, before, limit).await?)
    }

    /// Lists the audit events of a campaign, deleted or not, with a number below `before`, newest
    /// first.
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

/// Returns a campaign that was found and is not deleted.
fn present(found: Option<Campaign>, id: Uuid) -> Result<Campaign> {
    let present = found.filter(|campaign| !campaign.is_deleted);
    present.ok_or_else(|| Error::NotFound(format!("campaigns/{id}")))
}
