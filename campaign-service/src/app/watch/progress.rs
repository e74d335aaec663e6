//! Progress of the current run: the standing of every contact.

use super::Buckets;
use super::idling::idle_reason;
use super::sharing::{Shared, Viewer};
use crate::app::DispatchLimits;
use crate::app::error::Result;
use crate::app::existing;
use crate::metrics::Metrics;
use crate::store::Db;
use crate::store::counts::{HistoryTotals, View};
use crate::store::kept;
use crate::store::purge::{self, PurgeProgress};
use crate::store::troubles;
use campaign_domain::Instant;
use campaign_domain::campaign::Campaign;
use campaign_domain::standing::{IdleReason, Standing, standing};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Use cases of watching a campaign.
#[derive(Clone, Debug)]
pub struct Watch {
    db: Db,
    limits: DispatchLimits,
    metrics: Arc<Metrics>,
    shared: Shared<Progress>,
}

/// Progress of a campaign at one time.
#[derive(Clone, Debug)]
pub struct Progress {
    pub campaign: Campaign,
    pub read_at: Instant,
    pub buckets: Buckets,
    pub history: HistoryTotals,
    pub idle: Option<(IdleReason, Option<Instant>)>,
    /// Message of a worker about its provider, if the provider is the reason. If no worker takes the
    /// contacts, the workers that are needed, if not any worker will do.
    pub idle_message: String,
    pub purge: Option<PurgeProgress>,
}

/// Watcher of a campaign, who looks again and again.
#[derive(Debug)]
pub struct Watcher {
    watch: Watch,
    campaign: Uuid,
    viewer: Viewer<Progress>,
}

impl Watcher {
    /// Returns progress that is not much older than `interval`. The first one is from now.
    pub async fn progress(&mut self, interval: Duration) -> Result<Arc<Progress>> {
        let (watch, campaign) = (&self.watch, self.campaign);
        self.viewer.recent(interval, || watch.read(campaign)).await
    }
}

impl Watch {
    /// Creates the use cases. Their readings take a part of the connections to `db` only.
    #[must_use]
    pub fn new(db: &Db, limits: DispatchLimits, metrics: Arc<Metrics>) -> Self {
        Self { db: db.for_looking(), limits, metrics, shared: Shared::default() }
    }

    /// Returns the progress of a campaign, read after this call.
    pub async fn progress(&self, id: Uuid) -> Result<Arc<Progress>> {
        Viewer::new(&self.shared, id).fresh(|| self.read(id)).await
    }

    /// Returns a watcher of a campaign.
    #[must_use]
    pub fn watcher(&self, campaign: Uuid) -> Watcher {
        Watcher { watch: self.clone(), campaign, viewer: Viewer::new(&self.shared, campaign) }
    }

    /// Reads the progress of a campaign.
    async fn read(&self, id: Uuid) -> Result<Progress> {
        self.metrics.counts.readings.inc();
        let mut connection = self.db.connect().await?;
        let tx = connection.begin_snapshot().await?;
        let campaign = existing(&tx, id).await?;
        let rules = campaign.rules();
        let view =
            View { epoch: rules.epoch, run: rules.run, position_limit: rules.position_limit };
        let survey = kept::read(&tx, id, view).await?;
        let mut buckets = Buckets::default();
        let mut next_retry: Option<Instant> = None;
        for class in survey.classes {
            let bucket = match standing(rules.judge(&class.candidate, tx.now), class.slot) {
                Standing::Waiting => &mut buckets.waiting,
                Standing::WaitingRetry(due_at) => {
                    next_retry = Some(next_retry.map_or(due_at, |known| known.min(due_at)));
                    &mut buckets.waiting_retry
                }
                Standing::Leased => &mut buckets.leased,
                Standing::InCall => &mut buckets.in_call,
                Standing::Removed(reason) => buckets.removed.entry(reason).or_default(),
            };
            *bucket += class.contacts;
            buckets.total += class.contacts;
        }
        let history = survey.totals;
        let mut idle = idle_reason(&tx, &campaign, &self.limits, &buckets, next_retry).await?;
        let mut idle_message = String::new();
        if let Some((reason @ IdleReason::NoWorker, _)) = &mut idle {
            let needs = &campaign.config.needs;
            let troubles = troubles::latest(&tx, &campaign.tenant).await?;
            match troubles.into_iter().find(|(_, abilities)| abilities.meet(needs)) {
                Some((why, _)) => (*reason, idle_message) = (IdleReason::ProviderFailing, why),
                None => idle_message = needs.in_words(),
            }
        }
        let purge = purge::progress(&tx, id).await?;
        Ok(Progress { read_at: tx.now, campaign, buckets, history, idle, idle_message, purge })
    }
}
