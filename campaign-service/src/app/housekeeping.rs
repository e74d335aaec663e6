//! Chores on what campaigns leave behind: attempts to count.

use super::error::Result;
use crate::store::{Db, Gate, run_counts};

/// Most appended counts folded in one transaction.
const FOLD_ROWS: i64 = 5_000;
/// Most runs counted in one round.
const COUNTED_RUNS: i64 = 20;

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
