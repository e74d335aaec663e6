//! Care for the kept counts: deltas are added up, contacts that were deleted or listed are counted
//! as such, and the counts are checked against every contact.

use super::error::Result;
use crate::metrics::Metrics;
use crate::store::{Db, Gate, checking, folding, recounts};
use chrono::TimeDelta;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::error;
use uuid::Uuid;

/// Most deltas added up in one transaction.
const FOLD_ROWS: i64 = 5_000;
/// Most contacts counted anew in one transaction, which holds the gate of their campaign.
const CORRECTED_CONTACTS: i64 = 1_000;
/// Most rows looked at for campaigns with contacts to count anew.
const NOTED_ROWS: i64 = 10_000;
/// Most numbers whose contacts are noted in one transaction.
const RELISTED_NUMBERS: i64 = 1_000;
/// Time for which a change of a list is looked up by number. Contacts that are being added while
/// the list changes are committed by then.
const RELISTED_FOR: TimeDelta = TimeDelta::seconds(30);
/// Age of a check after which counts that changed are checked again.
const CHECK_AGE: TimeDelta = TimeDelta::minutes(10);
/// Age of a check after which all counts are checked again.
const UNCHANGED_CHECK_AGE: TimeDelta = TimeDelta::days(1);
/// Time between two checks, in times of what a check takes.
const CHECK_REST: u32 = 20;
/// Least time between two checks.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Kept counts, cared for by one replica. Every replica does the same.
#[derive(Clone, Debug)]
pub struct KeptCounts {
    pub db: Db,
    pub metrics: Arc<Metrics>,
}

impl KeptCounts {
    /// Does what was noted, as soon as no addition of contacts can miss a change of a list.
    pub async fn settle_noted(&self) -> Result<()> {
        self.settle(RELISTED_FOR).await
    }

    /// Does what was noted: notes the contacts of numbers that were listed before `age`, counts
    /// noted contacts anew, adds up deltas, and begins to keep counts that were asked for.
    pub async fn settle(&self, age: TimeDelta) -> Result<()> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let expanded = recounts::expand(&tx, tx.now - age, RELISTED_NUMBERS).await?;
        let noted = recounts::campaigns(&tx, NOTED_ROWS).await?;
        if expanded > 0 {
            tx.commit().await?;
        } else {
            drop(tx);
        }
        drop(connection);
        // One campaign's failure must not hold up the others.
        let mut result = Ok(());
        for campaign in noted {
            result = result.and(self.correct(campaign).await);
        }
        for campaign in self.db.take_to_fold() {
            result = result.and(self.fold(campaign).await);
        }
        for campaign in self.db.take_unkept() {
            result = result.and(self.check(campaign).await.map(drop));
        }
        result
    }

    /// Counts noted contacts of a campaign anew, as many as hold the gate for a moment only.
    pub async fn correct(&self, campaign: Uuid) -> Result<()> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Exclusive(campaign)).await?;
        recounts::correct(&tx, campaign, CORRECTED_CONTACTS).await?;
        Ok(tx.commit().await?)
    }

    /// Adds up the deltas of a campaign.
    pub async fn fold(&self, campaign: Uuid) -> Result<()> {
        let mut connection = self.db.connect().await?;
        loop {
            let tx = connection.begin_relaxed(Gate::Open).await?;
            let has_more = folding::fold(&tx, campaign, FOLD_ROWS).await?;
            tx.commit().await?;
            if !has_more {
                return Ok(());
            }
        }
    }

    /// Checks the counts whose check is longest ago, if it is long ago and `next_check` has come.
    /// Then sets `next_check`.
    pub async fn check_in_turn(&self, next_check: &mut Instant) -> Result<()> {
        if *next_check > Instant::now() {
            return Ok(());
        }
        let began = Instant::now();
        let checked = self.check_oldest().await;
        *next_check = Instant::now() + CHECK_INTERVAL.max(began.elapsed() * CHECK_REST);
        checked
    }

    async fn check_oldest(&self) -> Result<()> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let next = checking::next(&tx, tx.now - CHECK_AGE, tx.now - UNCHANGED_CHECK_AGE).await?;
        drop(tx);
        drop(connection);
        if let Some(campaign) = next {
            self.check(campaign).await?;
        }
        Ok(())
    }

    /// Counts every contact of a campaign, corrects the kept counts, and keeps them from then on.
    /// Returns how many counts were thought right and were not.
    pub async fn check(&self, campaign: Uuid) -> Result<usize> {
        let mut connection = self.db.for_looking().connect().await?;
        let tx = connection.begin_snapshot().await?;
        let findings = checking::check(&tx, campaign).await?;
        drop(tx);
        let tx = connection.begin(Gate::Open).await?;
        if !checking::mend(&tx, campaign, &findings).await? {
            return Ok(0);
        }
        tx.commit().await?;
        let mends = findings.mends();
        if mends > 0 {
            error!(%campaign, mends, "kept counts were wrong and are corrected");
            self.metrics.counts.mends.inc_by(mends as u64);
        }
        Ok(mends)
    }
}
