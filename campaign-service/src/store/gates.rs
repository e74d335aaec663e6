//! Gates that a transaction passes after it began, of one campaign or of several.

use super::gate::{gate_key, limit};
use super::{StoreResult, Tx};
use uuid::Uuid;

/// Passes the gates of some campaigns exclusively, in one statement. Waits in order of id, so that no
/// two transactions deadlock. A caller that passes more gates later must keep to that order.
pub async fn pass(tx: &Tx<'_>, campaigns: &[Uuid]) -> StoreResult<()> {
    if campaigns.is_empty() {
        return Ok(());
    }
    let mut ids = campaigns.to_vec();
    ids.sort_unstable();
    let keys: Vec<i64> = ids.into_iter().map(gate_key).collect();
    let sql =
        format!("SELECT {}, pg_advisory_xact_lock(key) FROM unnest($1::int8[]) AS w(key)", limit());
    tx.query(&sql, &[&keys]).await?;
    Ok(())
}

/// Passes those gates of some campaigns exclusively that need no wait. Returns the campaigns whose
/// gates were passed. Never waits, so several gates are held for no longer than the transaction
/// works, and it cannot deadlock.
pub async fn try_pass(tx: &Tx<'_>, campaigns: &[Uuid]) -> StoreResult<Vec<Uuid>> {
    let keys: Vec<i64> = campaigns.iter().copied().map(gate_key).collect();
    let sql = "SELECT id FROM unnest($1::uuid[], $2::int8[]) AS w(id, key)
        WHERE pg_try_advisory_xact_lock(key)";
    tx.query_one(&format!("SELECT {}", limit()), &[]).await?;
    let rows = tx.query(sql, &[&campaigns, &keys]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
