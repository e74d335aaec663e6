//! Chores that the service does by itself: scheduled starts and ends, finished lists, expired
//! leases, old history, unfinished erasures. Each chore looks for due work and does a bounded part
//! of it. Every replica runs all chores. Each piece of work checks again behind its gate, so that
//! it is done once.

use super::campaigns::Campaigns;
use super::error::{Error, Result};
use super::facts::Facts;
use super::housekeeping::{count_attempts, purge_deleted, purge_step};
use super::kept_counts::{CHECK_INTERVAL, KeptCounts};
use super::people::erasing::Erasures;
use crate::metrics::{Chore, Metrics};
use crate::store::retention::Sweep;
use crate::store::{Db, Gate, agenda, leases, numbers, purge, requests, retention};
use chrono::TimeDelta;
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

/// Most pieces of one kind of work that are read at once.
const MAX_PIECES: i64 = 1_000;
/// Most pieces of one kind of work that are done at the same time.
const PIECES_AT_ONCE: usize = 4;
/// Campaigns whose agenda is checked in one round.
const CHECKED_CAMPAIGNS: i64 = 10;
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
    pub campaigns: Arc<Campaigns>,
    pub facts: Arc<Facts>,
    pub erasures: Erasures,
    pub counts: KeptCounts,
    pub metrics: Arc<Metrics>,
}

/// Places and times at which a chore goes on in its next round.
#[derive(Debug)]
struct Progress {
    next_number: i64,
    sweep: Sweep,
    last_checked: Uuid,
    next_check: Instant,
}

impl Chores {
    /// Runs all chores side by side, each round after round, until told to stop. A chore that is
    /// stuck holds up no other. The first rounds come after one interval.
    pub async fn run(&self, stop: &CancellationToken) {
        join_all(Chore::ALL.into_iter().map(|chore| self.repeat(chore, stop))).await;
    }

    async fn repeat(&self, chore: Chore, stop: &CancellationToken) {
        let interval = self.options.interval;
        let mut ticks = interval_at(Instant::now() + interval, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut progress = Progress {
            next_number: 0,
            sweep: Sweep::default(),
            last_checked: Uuid::nil(),
            next_check: Instant::now() + CHECK_INTERVAL,
        };
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let done = match stop.run_until_cancelled(self.round(chore, &mut progress)).await {
                Some(done) => done,
                None => return,
            };
            self.metrics.chore_done(chore, done.is_ok());
            if let Err(error) = done {
                let chore = chore.name();
                warn!(chore, %error, "a chore failed; it is tried again in the next round");
            }
        }
    }

    /// Runs one round of a chore.
    async fn round(&self, chore: Chore, progress: &mut Progress) -> Result<()> {
        match chore {
            Chore::ExpireLeases => self.expire_leases().await,
            Chore::AdvanceCampaigns => self.advance_campaigns().await,
            Chore::PurgeHistory => self.purge_history().await,
            Chore::ForgetAnswers => self.forget_answers().await,
            Chore::ForgetAttempts => self.forget_numbers(&mut progress.next_number).await,
            Chore::DeleteHistory => self.delete_history(&mut progress.sweep).await,
            Chore::FinishErasures => self.erasures.finish_left(self.options.erasure_patience).await,
            Chore::CountAttempts => count_attempts(&self.db).await,
            Chore::PurgeDeletedCampaigns => {
                purge_deleted(&self.db, self.options.deleted_retention).await
            }
            Chore::CheckAgenda => self.check_agenda(&mut progress.last_checked).await,
            Chore::KeepCounts => self.counts.settle_noted().await,
            Chore::CheckCounts => self.counts.check_in_turn(&mut progress.next_check).await,
        }
    }

    /// Works on pieces side by side. One campaign's failure does not hold up the others; its chore
    /// is tried again in the next round.
    async fn each<T, Work>(
        &self,
        chore: &str,
        pieces: Vec<(Uuid, T)>,
        work: impl Fn(Uuid, T) -> Work,
    ) where
        Work: Future<Output = Result<()>>,
    {
        let done = stream::iter(pieces).for_each_concurrent(PIECES_AT_ONCE, |(campaign, piece)| {
            let work = work(campaign, piece);
            async move { log_failure(chore, campaign, work.await) }
        });
        done.await;
    }

    async fn expire_leases(&self) -> Result<()> {
        let mut after = None;
        loop {
            let expired = {
                let mut connection = self.db.connect().await?;
                let tx = connection.begin(Gate::Open).await?;
                leases::expired(&tx, after, MAX_PIECES).await?
            };
            let Some(last) = expired.last() else { return Ok(()) };
            after = Some(*last);
            let pieces = expired.into_iter().map(|(_, campaign, lease)| (campaign, lease));
            let expire = |campaign, lease| self.facts.expire_lease(campaign, lease);
            self.each("expiring a lease", pieces.collect(), expire).await;
        }
    }

    /// Lets the clock act on all campaigns that are due for it, in order of time.
    async fn advance_campaigns(&self) -> Result<()> {
        let mut after = None;
        loop {
            let due = {
                let mut connection = self.db.connect().await?;
                let tx = connection.begin(Gate::Open).await?;
                agenda::clock_due(&tx, after, MAX_PIECES).await?
            };
            let Some(last) = due.last() else { return Ok(()) };
            after = Some(*last);
            let pieces = due.into_iter().map(|(_, campaign)| (campaign, ())).collect();
            let advance = |campaign, ()| self.campaigns.advance_by_clock(campaign);
            self.each("advancing", pieces, advance).await;
        }
    }

    /// Compares the agenda's entries of some campaigns with the campaigns, and goes on with the
    /// next ones in the next round. A mended entry is a fault, or the work of an older version.
    async fn check_agenda(&self, last: &mut Uuid) -> Result<()> {
        let page = {
            let mut connection = self.db.connect().await?;
            let tx = connection.begin(Gate::Open).await?;
            agenda::all_after(&tx, *last, CHECKED_CAMPAIGNS).await?
        };
        *last = page.last().copied().unwrap_or(Uuid::nil());
        for campaign in page {
            if self.campaigns.mend_agenda(campaign).await? {
                self.metrics.chores.agenda_mended.inc();
                warn!(%campaign, "the agenda's entry was late and is mended");
            }
        }
        Ok(())
    }

    async fn purge_history(&self) -> Result<()> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let pending = purge::pending(&tx, MAX_PIECES).await?;
        drop(tx);
        drop(connection);
        let pieces = pending.into_iter().map(|campaign| (campaign, ())).collect();
        self.each("purging history", pieces, |campaign, ()| self.purge(campaign)).await;
        Ok(())
    }

    async fn purge(&self, campaign: Uuid) -> Result<()> {
        let mut connection = self.db.connect().await?;
        for _ in 0..PURGE_STEPS {
            if !purge_step(&mut connection, campaign).await? {
                break;
            }
        }
        Ok(())
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
