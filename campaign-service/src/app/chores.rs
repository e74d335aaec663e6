//! Chores that the service does by itself: scheduled starts and ends, finished lists, expired
//! leases, old history, unfinished erasures. Each chore looks for due work and does a bounded part
//! of it. Every replica runs all chores. Each piece of work checks again behind its gate, so that
//! it is done once.

use super::campaigns::Campaigns;
use super::error::{Error, Result};
use super::facts::Facts;
use super::housekeeping::{count_attempts, purge_deleted};
use super::people::erasing::Erasures;
use crate::metrics::{CHORES, Metrics};
use crate::store::retention::Sweep;
use crate::store::states::BLOCK_CONTACTS;
use crate::store::{Db, Gate, campaigns, due, leases, numbers, purge, requests, retention};
use campaign_domain::access::Reach;
use campaign_domain::lifecycle::State;
use chrono::TimeDelta;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

/// Most pieces of one kind of work in one round.
const MAX_PIECES: i64 = 1_000;
/// Contacts whose old history is deleted in one transaction: whole blocks of states.
const PURGE_SPAN_CONTACTS: i64 = 160 * BLOCK_CONTACTS;
/// Most rows deleted in one transaction.
const DELETE_ROWS: i64 = 5_000;
/// Most call reports looked at in one transaction; each has up to thousands of calls.
const DELETE_CALL_REPORTS: i64 = 100;
/// Most steps of one campaign's purge in one round.
const PURGE_STEPS: usize = 16;
/// Time for which first answers to request ids are kept.
const REQUEST_RETENTION: TimeDelta = TimeDelta::days(7);

/// Options of the chores.
#[derive(Clone, Copy, Debug)]
pub struct ChoreOptions {
    /// Time between rounds.
    pub interval: Duration,
    /// Time for which interactions are kept; `None` for as long as the campaign.
    pub history_retention: Option<TimeDelta>,
    /// Time for which everything of a deleted campaign is kept.
    pub deleted_retention: TimeDelta,
    /// Time that the replica that began an erasure has to finish it.
    pub erasure_patience: TimeDelta,
}

/// Chores of one replica.
#[derive(Debug)]
pub struct Chores {
    pub db: Db,
    pub options: ChoreOptions,
    pub campaigns: Campaigns,
    pub facts: Arc<Facts>,
    pub erasures: Erasures,
    pub metrics: Arc<Metrics>,
}

impl Chores {
    /// Runs all chores, round after round, until told to stop. The first round comes after one
    /// interval.
    pub async fn run(&self, stop: &CancellationToken) {
        let options = &self.options;
        let mut ticks = interval_at(Instant::now() + options.interval, options.interval);
        let (mut next_number, mut sweep) = (0, Sweep::default());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let results = [
                self.expire_leases().await,
                self.advance_campaigns().await,
                self.purge_history().await,
                self.forget_answers().await,
                self.forget_numbers(&mut next_number).await,
                self.delete_history(&mut sweep).await,
                self.erasures.finish_left(options.erasure_patience).await,
                count_attempts(&self.db).await,
                purge_deleted(&self.db, options.deleted_retention).await,
            ];
            for (index, (chore, result)) in CHORES.into_iter().zip(results).enumerate() {
                self.metrics.chore_done(index, result.is_ok());
                if let Err(error) = result {
                    warn!(chore, %error, "a chore failed; it is tried again in the next round");
                }
            }
        }
    }

    async fn expire_leases(&self) -> Result<()> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let expired = leases::expired(&tx, MAX_PIECES).await?;
        drop(tx);
        drop(connection);
        for (campaign, lease) in expired {
            let expired = self.facts.expire_lease(campaign, lease).await;
            log_failure("expiring a lease", campaign, expired);
        }
        Ok(())
    }

    async fn advance_campaigns(&self) -> Result<()> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let states = [State::Scheduled, State::Running, State::Paused];
        let active = campaigns::ids_in_states(&tx, &Reach::All, &states, MAX_PIECES).await?;
        drop(tx);
        drop(connection);
        for campaign in active {
            log_failure("advancing", campaign, self.campaigns.advance_by_clock(campaign).await);
        }
        Ok(())
    }

    async fn purge_history(&self) -> Result<()> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let pending = purge::pending(&tx, MAX_PIECES).await?;
        drop(tx);
        drop(connection);
        for campaign in pending {
            log_failure("purging history", campaign, self.purge(campaign).await);
        }
        Ok(())
    }

    async fn purge(&self, campaign: Uuid) -> Result<()> {
        for _ in 0..PURGE_STEPS {
            if !self.purge_step(campaign).await? {
                break;
            }
        }
        Ok(())
    }

    /// Deletes old history in one step. Returns whether there is more to delete. Others may pass
    /// the gate between two steps.
    async fn purge_step(&self, campaign: Uuid) -> Result<bool> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Exclusive(campaign)).await?;
        let has_more = purge::step(&tx, campaign, PURGE_SPAN_CONTACTS).await?;
        if let Some(found) = campaigns::find(&tx, campaign).await? {
            due::delete_older_runs(&tx, campaign, found.run, DELETE_ROWS).await?;
        }
        tx.commit().await?;
        Ok(has_more)
    }

    /// Deletes the next numbers that were last dialled before the window of the cap. Starts again
    /// after the last number.
    async fn forget_numbers(&self, next_number: &mut i64) -> Result<()> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let next = numbers::forget(&tx, *next_number, DELETE_ROWS).await?;
        tx.commit().await?;
        *next_number = next.unwrap_or(0);
        Ok(())
    }

    /// Deletes history that is no longer kept, in the next page of each table.
    async fn delete_history(&self, sweep: &mut Sweep) -> Result<()> {
        let Some(age) = self.options.history_retention else { return Ok(()) };
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let before = tx.now - age;
        retention::step_interactions(&tx, sweep, before, DELETE_ROWS).await?;
        retention::step_calls(&tx, sweep, before, DELETE_CALL_REPORTS).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn forget_answers(&self) -> Result<()> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        requests::delete_older(&tx, tx.now - REQUEST_RETENTION, DELETE_ROWS).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Logs a failure. One campaign's failure must not hold up the others; its chore is tried again in
/// the next round.
fn log_failure(chore: &str, campaign: Uuid, result: Result<()>) {
    match result {
        // The campaign was deleted meanwhile.
        Ok(()) | Err(Error::NotFound(_)) => {}
        Err(error) => warn!(chore, %campaign, %error, "a chore failed; it is tried again"),
    }
}
