//! Where every contact of the current run stands.

use super::error::Result;
use super::{App, existing};
use crate::store::campaigns::Campaign;
use crate::store::counts::{self, HistoryTotals, View};
use crate::store::purge::{self, PurgeProgress};
use crate::store::{Tx, due, groups, paces, troubles};
use campaign_domain::Instant;
use campaign_domain::eligibility::{Reason, Verdict};
use campaign_domain::lease::Slot;
use campaign_domain::lifecycle::State;
use campaign_domain::schedule::Hours;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Contacts by bucket; each is in one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buckets {
    pub total: i64,
    pub waiting: i64,
    pub waiting_retry: i64,
    pub leased: i64,
    pub in_call: i64,
    pub removed: BTreeMap<Reason, i64>,
}

/// The bucket of a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Waiting,
    /// Until then.
    WaitingRetry(Instant),
    Leased,
    InCall,
    Removed(Reason),
}

/// Why a running campaign hands nothing out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleReason {
    NotRunning,
    WindowClosed,
    WaitingRetry,
    Exhausted,
    NoWorker,
    Capped,
    Throttled,
    Paused,
    ProviderFailing,
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Progress {
    pub campaign: Campaign,
    pub read_at: Instant,
    pub buckets: Buckets,
    pub history: HistoryTotals,
    pub idle: Option<(IdleReason, Option<Instant>)>,
    /// What a worker says of its provider, when that is why.
    pub idle_message: String,
    pub purge: Option<PurgeProgress>,
}

/// The bucket of a contact with this verdict, held in this slot.
pub(super) fn standing(verdict: Verdict, slot: Option<Slot>) -> Standing {
    match (slot, verdict) {
        (Some(Slot::Authorized), _) => Standing::InCall,
        (_, Verdict::Removed(reason)) => Standing::Removed(reason),
        (Some(Slot::Leased), _) => Standing::Leased,
        (_, Verdict::NotBefore(due_at)) => Standing::WaitingRetry(due_at),
        (_, Verdict::Eligible) => Standing::Waiting,
    }
}

impl App {
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
        for class in survey.classes {
            let bucket = match standing(rules.judge(&class.candidate, tx.now), class.slot) {
                Standing::Waiting => &mut buckets.waiting,
                Standing::WaitingRetry(_) => &mut buckets.waiting_retry,
                Standing::Leased => &mut buckets.leased,
                Standing::InCall => &mut buckets.in_call,
                Standing::Removed(reason) => buckets.removed.entry(reason).or_default(),
            };
            *bucket += class.contacts;
            buckets.total += class.contacts;
        }
        let history = survey.totals;
        let mut idle = idle_reason(&tx, &campaign, &buckets).await?;
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

type Idle = Option<(IdleReason, Option<Instant>)>;

async fn idle_reason(tx: &Tx<'_>, campaign: &Campaign, buckets: &Buckets) -> Result<Idle> {
    match campaign.state {
        State::Running => {}
        State::Paused => return Ok(Some((IdleReason::Paused, None))),
        _ => return Ok(Some((IdleReason::NotRunning, None))),
    }
    if buckets.waiting == 0 && buckets.waiting_retry == 0 {
        let is_busy = buckets.leased > 0 || buckets.in_call > 0;
        return Ok((!is_busy).then_some((IdleReason::Exhausted, None)));
    }
    if let Some(idle) = throttled(tx, campaign, buckets).await? {
        return Ok(Some(idle));
    }
    if buckets.leased > 0 || buckets.in_call > 0 {
        return Ok(None);
    }
    let next_due = due::next_time(tx, campaign.id, campaign.run).await?;
    if buckets.waiting == 0 {
        return Ok(Some((IdleReason::WaitingRetry, next_due)));
    }
    let groups = groups::all(tx, campaign.id, campaign.run, campaign.position_limit).await?;
    if let Some(schedule) = &campaign.config.schedule {
        let hours: Vec<Hours> =
            groups.iter().map(|group| schedule.hours(&group.time_zone, tx.now)).collect();
        if !hours.contains(&Hours::Open) {
            let openings = hours.iter().filter_map(|hours| match hours {
                Hours::ShutUntil(opening) => Some(*opening),
                Hours::Open | Hours::Shut => None,
            });
            return Ok(Some((IdleReason::WindowClosed, openings.min())));
        }
    }
    // Eligible, yet put off: their numbers had all the attempts of a day.
    let is_put_off = !groups.iter().any(|group| group.has_work_ahead);
    match next_due.filter(|due_at| is_put_off && *due_at > tx.now) {
        Some(due_at) => Ok(Some((IdleReason::Capped, Some(due_at)))),
        None => Ok(Some((IdleReason::NoWorker, None))),
    }
}

/// Whether pacing is why no call begins.
async fn throttled(tx: &Tx<'_>, campaign: &Campaign, buckets: &Buckets) -> Result<Idle> {
    let pacing = campaign.config.pacing;
    if !pacing.is_limited() {
        return Ok(None);
    }
    let in_progress = usize::try_from(buckets.in_call).unwrap_or(0);
    let next_call_at = paces::find(tx, campaign.id).await?.unwrap_or(tx.now);
    let allowed = pacing.allow(1, in_progress, next_call_at, tx.now);
    let until = (next_call_at > tx.now).then_some(next_call_at);
    Ok((allowed.calls == 0).then_some((IdleReason::Throttled, until)))
}
