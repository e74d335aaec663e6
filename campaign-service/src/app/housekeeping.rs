//! Chores on what campaigns leave behind: attempts to count, and everything of deleted campaigns.

use super::error::Result;
use crate::store::{Db, Gate, deleted, run_counts};
use chrono::TimeDelta;
use std::time::{Duration, Instant};

/// Most appended counts folded in one transaction.
const FOLD_ROWS: i64 = 5_000;
/// Most runs counted in one round.
const COUNTED_RUNS: i64 = 20;
/// Deleted campaigns looked at in one round.
const DELETED_CAMPAIGNS: i64 = 20;
/// Most rows of a deleted campaign that go in one transaction.
const DELETED_ROWS: i64 = 2_000;
/// Longest time that one round deletes. Whatever is left waits for the next round.
const ROUND_LIMIT: Duration = Duration::from_millis(200);

/// Folds the counts of attempts into their runs, and counts runs that are over.
pub(super) async fn count_attempts(db: &Db) -> Result<()> {
    let mut connection = db.connect().await?;
    let tx = connection.begin(Gate::Open).await?;
    if !run_counts::may_count(&tx).await? {
        return Ok(());
    }
    run_counts::fold(&tx, FOLD_ROWS).await?;
    let runs = run_counts::to_count(&tx, COUNTED_RUNS).await?;
    tx.commit().await?;
    for (campaign, run) in runs {
        let tx = connection.begin(Gate::Open).await?;
        if run_counts::may_count(&tx).await? {
            run_counts::count(&tx, campaign, run).await?;
            tx.commit().await?;
        }
    }
    Ok(())
}

/// Deletes what campaigns left that were deleted longer than `retention` ago, in small steps.
pub(super) async fn purge_deleted(db: &Db, retention: TimeDelta) -> Result<()> {
    let begun = Instant::now();
    let mut connection = db.connect().await?;
    let tx = connection.begin(Gate::Open).await?;
    let campaigns = deleted::deleted_before(&tx, tx.now - retention, DELETED_CAMPAIGNS).await?;
    drop(tx);
    for id in campaigns {
        let mut has_more = true;
        while has_more && begun.elapsed() < ROUND_LIMIT {
            let tx = connection.begin(Gate::Exclusive(id)).await?;
            has_more = deleted::step(&tx, id, DELETED_ROWS).await?;
            tx.commit().await?;
        }
    }
    Ok(())
}
