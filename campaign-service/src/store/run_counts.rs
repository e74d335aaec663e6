//! Counts of the attempts authorised in each run.
//!
//! An authorisation appends what is to be added. A chore folds that into the run, so that no worker
//! waits for a row that others write. A run is counted anew when it is over, and never changes then.

use super::{StoreResult, Tx};
use chrono::TimeDelta;
use uuid::Uuid;

/// Advisory lock of the transaction that folds or counts. Only one does at a time.
const COUNTING: i64 = 0x63_6f_75_6e_74_69_6e_67;
/// Time after which a run that is over has no authorisation under way.
const QUIET: TimeDelta = TimeDelta::seconds(60);

/// SQL expression: attempts authorised in the run `r`.
pub(super) const AUTHORIZED: &str = "CASE WHEN r.authorized_attempts IS NULL
    THEN (SELECT coalesce(sum(cardinality(a.slots)), 0) FROM authorizations a
        WHERE a.campaign_id = r.campaign_id AND a.run = r.run)
    WHEN r.is_attempt_count_final THEN r.authorized_attempts
    ELSE r.authorized_attempts + (SELECT coalesce(sum(d.attempts), 0) FROM run_attempts d
        WHERE d.campaign_id = r.campaign_id AND d.run = r.run) END::int8";

/// Returns whether this transaction may fold or count. Nobody else does until its end.
pub async fn may_count(tx: &Tx<'_>) -> StoreResult<bool> {
    Ok(tx.query_one("SELECT pg_try_advisory_xact_lock($1)", &[&COUNTING]).await?.get(0))
}

/// Folds at most `limit` appended counts into their runs. The caller must have [`may_count`].
pub async fn fold(tx: &Tx<'_>, limit: i64) -> StoreResult<()> {
    // The sum of a run that was never counted stays null until the run is counted.
    let sql = "WITH gone AS (DELETE FROM run_attempts
            WHERE ctid = ANY (ARRAY(SELECT ctid FROM run_attempts LIMIT $1))
            RETURNING campaign_id, run, attempts),
        more AS (SELECT campaign_id, run, sum(attempts)::int8 AS attempts FROM gone GROUP BY 1, 2)
        UPDATE runs r SET authorized_attempts = r.authorized_attempts + more.attempts FROM more
        WHERE r.campaign_id = more.campaign_id AND r.run = more.run AND NOT r.is_attempt_count_final";
    tx.execute(sql, &[&limit]).await?;
    Ok(())
}

/// Lists runs to count: runs that were never counted, and runs that are over.
pub async fn to_count(tx: &Tx<'_>, limit: i64) -> StoreResult<Vec<(Uuid, i32)>> {
    let sql = "(SELECT campaign_id, run FROM runs WHERE authorized_attempts IS NULL
            ORDER BY campaign_id, run LIMIT $2)
        UNION
        (SELECT campaign_id, run FROM runs
            WHERE ended_at < $1 AND NOT is_attempt_count_final ORDER BY ended_at LIMIT $2)
        LIMIT $2";
    let rows = tx.query(sql, &[&(tx.now - QUIET), &limit]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Counts the attempts of a run. The count is final if the run is over, which was at least a minute
/// ago. The caller must have [`may_count`].
pub async fn count(tx: &Tx<'_>, campaign: Uuid, run: i32) -> StoreResult<()> {
    // One statement sees one state: what it deletes is among what it counts.
    let sql = "WITH gone AS (DELETE FROM run_attempts WHERE campaign_id = $1 AND run = $2)
        UPDATE runs SET is_attempt_count_final = coalesce(ended_at < $3::timestamptz, false),
            authorized_attempts = (SELECT coalesce(sum(cardinality(slots)), 0)::int8
                FROM authorizations WHERE campaign_id = $1 AND run = $2)
        WHERE campaign_id = $1 AND run = $2";
    tx.execute(sql, &[&campaign, &run, &(tx.now - QUIET)]).await?;
    Ok(())
}
