//! Progress of the current run: the standing of every contact.

use super::idling::idle_reason;
use super::{Buckets, Watch};
use crate::app::error::Result;
use crate::app::existing;
use crate::store::counts::{self, HistoryTotals, View};
use crate::store::purge::{self, PurgeProgress};
use crate::store::troubles;
use campaign_domain::Instant;
use campaign_domain::campaign::Campaign;
use campaign_domain::standing::{IdleReason, Standing, standing};
use uuid::Uuid;

/// Answer of [`Watch::progress`].
#[derive(Clone, Debug)]
pub struct Progress {
    pub campaign: Campaign,
    pub read_at: Instant,
    pub buckets: Buckets,
    pub history: HistoryTotals,
    pub idle: Option<(IdleReason, Option<Instant>)>,
    /// Message of a worker about its provider, if the provider is the reason.
    pub idle_message: String,
    pub purge: Option<PurgeProgress>,
}

impl Watch {
    /// Counts every contact of a campaign.
    pub async fn progress(&self, id: Uuid) -> Result<Progress> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin_snapshot().await?;
        let campaign = existing(&tx, id).await?;
        let rules = campaign.rules();
        let view =
            View { epoch: rules.epoch, run: rules.run, position_limit: rules.position_limit };
        let survey = counts::survey(&tx, id, view).await?;
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
        if let Some((reason @ IdleReason::NoWorker, _)) = &mut idle
            && let Some(trouble) = troubles::latest(&tx, &campaign.tenant).await?
        {
            (*reason, idle_message) = (IdleReason::ProviderFailing, trouble);
        }
        let purge = purge::progress(&tx, id).await?;
        Ok(Progress { read_at: tx.now, campaign, buckets, history, idle, idle_message, purge })
    }
}
