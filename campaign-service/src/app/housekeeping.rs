//! Chores on what campaigns leave behind: attempts to count, history that was reset, and everything
//! of deleted campaigns.

use super::error::Result;
use crate::store::states::BLOCK_CONTACTS;
use crate::store::{Connection, Db, Gate, campaigns, deleted, due, purge, run_counts};
use chrono::TimeDelta;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Most appended counts folded in one transaction.
const FOLD_ROWS: i64 = 5_000;
/// Most runs counted in one round.
const COUNTED_RUNS: i64 = 20;
/// Contacts whose old history is deleted in one transaction: whole blocks of states.
const PURGE_SPAN_CONTACTS: i64 = 160 * BLOCK_CONTACTS;
/// Most due times of older runs that are deleted in one transaction.
const PURGE_DUE_ROWS: i64 = 5_000;
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

/// Deletes history of a campaign that a reset made unreachable, in one step. Returns whether there is
/// more to delete. Others may pass the gate between two steps.
pub(super) async fn purge_step(connection: &mut Connection, campaign: Uuid) -> Result<bool> {
    let tx = connection.begin(Gate::Exclusive(campaign)).await?;
    let has_more = purge::step(&tx, campaign, PURGE_SPAN_CONTACTS).await?;
    if let Some(found) = campaigns::find(&tx, campaign).await? {
        due::delete_older_runs(&tx, campaign, found.run, PURGE_DUE_ROWS).await?;
    }
    tx.commit().await?;
    Ok(has_more)
}
