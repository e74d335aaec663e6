//! Backlog for monitoring, counted in the background every few seconds, up to a bound.

use super::error::Result;
use crate::metrics::{Backlog, Metrics};
use crate::store::backlog::Waiting;
use crate::store::{Db, Gate, Tx, agenda, backlog, campaigns, groups};
use campaign_domain::Instant;
use campaign_domain::lifecycle::State;
use campaign_domain::schedule::Hours;
use chrono::TimeDelta;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use uuid::Uuid;

/// Time between two counts.
const INTERVAL: Duration = Duration::from_secs(5);
/// Most campaigns looked at, those whose contacts wait longest.
const MAX_CAMPAIGNS: i64 = 1_000;
/// Most contacts counted in all. Scaling by the number needs no more.
const MAX_CONTACTS: usize = 100_000;
/// Most leases read.
const MAX_LEASES: i64 = 10_000;

/// Count of the backlog, for the metrics of one replica.
#[derive(Debug)]
pub struct BacklogWatch {
    pub db: Db,
    pub metrics: Arc<Metrics>,
}

impl BacklogWatch {
    /// Counts the backlog again and again, until told to stop.
    pub async fn run(&self, stop: &CancellationToken) {
        loop {
            match self.count().await {
                Ok(backlog) => self.metrics.waiting.set(&backlog),
                // An unavailable database is reported elsewhere.
                Err(error) => debug!(%error, "the backlog could not be counted"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }

    async fn count(&self) -> Result<Backlog> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let mut counted = Backlog::default();
        for found in backlog::campaigns(&tx).await? {
            let overdue = seconds_since(found.overdue_start, tx.now);
            counted.overdue_start_seconds = counted.overdue_start_seconds.max(overdue);
            let place = match found.state {
                State::Scheduled => &mut counted.scheduled,
                State::Running => &mut counted.running,
                _ => &mut counted.paused,
            };
            *place = count(found.campaigns);
        }
        let mut oldest_due = None;
        let clock_due = agenda::clock_due(&tx, None, 1).await?;
        counted.clock_lag_seconds = seconds_since(clock_due.first().map(|(at, _)| *at), tx.now);
        // A campaign without work at any time has no contacts that wait.
        for campaign in agenda::with_work(&tx, MAX_CAMPAIGNS).await? {
            let left = MAX_CONTACTS.saturating_sub(counted.ahead + counted.due);
            let most = i64::try_from(left).unwrap_or(0);
            let Some(waiting) = backlog::waiting(&tx, campaign, None, most).await? else {
                continue;
            };
            counted.callable += callable(&tx, campaign, &waiting, most).await?.min(left);
            counted.due += count(waiting.due);
            counted.ahead += count(waiting.ahead).min(left - count(waiting.due));
            oldest_due = waiting.oldest_due.into_iter().chain(oldest_due).min();
        }
        counted.oldest_due_seconds = seconds_since(oldest_due, tx.now);
        (counted.leased, counted.in_call) = backlog::held(&tx, MAX_LEASES).await?;
        counted.purge_contacts = count(backlog::purges(&tx).await?);
        Ok(counted)
    }
}

/// Counts the contacts that wait in a campaign and may be called at this hour.
async fn callable(tx: &Tx<'_>, campaign: Uuid, waiting: &Waiting, most: i64) -> Result<usize> {
    if waiting.ahead + waiting.due == 0 {
        return Ok(0);
    }
    let Some(found) = campaigns::find(tx, campaign).await? else { return Ok(0) };
    let zones = groups::zones(tx, campaign).await?;
    let is_open = |zone: &str| match &found.config.schedule {
        Some(schedule) => schedule.hours(zone, tx.now) == Hours::Open,
        None => true,
    };
    let open: Vec<i32> =
        zones.iter().filter(|(_, zone)| is_open(zone)).map(|(group, _)| *group).collect();
    if open.len() == zones.len() {
        return Ok(count(waiting.ahead + waiting.due));
    }
    let waiting = backlog::waiting(tx, campaign, Some(&open), most).await?;
    Ok(waiting.map_or(0, |waiting| count(waiting.ahead + waiting.due)))
}

fn count(count: i64) -> usize {
    usize::try_from(count).unwrap_or(0)
}

fn seconds_since(time: Option<Instant>, now: Instant) -> f64 {
    time.map_or(TimeDelta::zero(), |time| now - time).as_seconds_f64().max(0.0)
}
