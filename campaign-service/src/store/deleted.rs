//! Deletion of everything that a deleted campaign left.
//!
//! The audit log stays, with its heads, because it only grows. First answers of requests go by their
//! own age. Suppressions and records of erasures belong to no campaign.

use super::{StoreResult, Tx};
use campaign_domain::Instant;
use uuid::Uuid;

/// Tables that a deleted campaign's rows are deleted from, the ones with people's data first. A row of
/// `campaigns` goes last.
const TABLES: [&str; 23] = [
    "class_checks",
    "class_deltas",
    "class_counts",
    "class_waits",
    "recounts",
    "agenda",
    "contacts",
    "state_blocks",
    "interactions",
    "import_problems",
    "call_reports",
    "due_contacts",
    "authorizations",
    "run_attempts",
    "imports",
    "frontiers",
    "contact_groups",
    "campaign_paces",
    "campaign_revisions",
    "history_purges",
    "leases",
    "runs",
    "campaign_counters",
];

/// Lists campaigns that were deleted before a time and hold no lease, the longest deleted first. A
/// lease may have calls in progress, and expires.
pub async fn deleted_before(tx: &Tx<'_>, time: Instant, limit: i64) -> StoreResult<Vec<Uuid>> {
    let sql = "SELECT c.campaign_id FROM campaigns c WHERE c.deleted_at <= $1
            AND NOT EXISTS (SELECT FROM leases l WHERE l.campaign_id = c.campaign_id)
        ORDER BY c.deleted_at LIMIT $2";
    Ok(tx.query(sql, &[&time, &limit]).await?.iter().map(|row| row.get(0)).collect())
}

/// Deletes at most `limit` rows of a deleted campaign, all of one table. At last, deletes the
/// campaign. Returns whether there is more to delete. The caller must hold the campaign's gate
/// exclusively.
pub async fn step(tx: &Tx<'_>, campaign: Uuid, limit: i64) -> StoreResult<bool> {
    for table in TABLES {
        // The campaign's id is named twice, so that only one partition is looked into.
        let sql = format!(
            "DELETE FROM {table} WHERE campaign_id = $1 AND ctid = ANY (ARRAY(
                SELECT ctid FROM {table} WHERE campaign_id = $1 LIMIT $2))"
        );
        if tx.execute(&sql, &[&campaign, &limit]).await? > 0 {
            return Ok(true);
        }
    }
    let sql = "DELETE FROM campaigns WHERE campaign_id = $1 AND deleted_at IS NOT NULL";
    tx.execute(sql, &[&campaign]).await?;
    Ok(false)
}
