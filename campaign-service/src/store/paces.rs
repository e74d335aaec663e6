//! Paces of campaigns that limit their calls.

use super::{StoreResult, Tx};
use campaign_domain::Instant;
use uuid::Uuid;

/// Locks a campaign's pace until commit. Returns when the next call would begin at an even pace.
pub async fn lock(tx: &Tx<'_>, campaign: Uuid) -> StoreResult<Instant> {
    let lock = "SELECT next_call_at FROM campaign_paces WHERE campaign_id = $1 FOR UPDATE";
    if let Some(row) = tx.query_opt(lock, &[&campaign]).await? {
        return Ok(row.get(0));
    }
    let add = "INSERT INTO campaign_paces (campaign_id, next_call_at) VALUES ($1, $2)
        ON CONFLICT DO NOTHING";
    tx.execute(add, &[&campaign, &tx.now]).await?;
    Ok(tx.query_one(lock, &[&campaign]).await?.get(0))
}

/// Writes back a locked pace.
pub async fn save(tx: &Tx<'_>, campaign: Uuid, next_call_at: Instant) -> StoreResult<()> {
    let sql = "UPDATE campaign_paces SET next_call_at = $2 WHERE campaign_id = $1";
    tx.execute(sql, &[&campaign, &next_call_at]).await?;
    Ok(())
}

/// Returns when the next call would begin, as committed.
pub async fn find(tx: &Tx<'_>, campaign: Uuid) -> StoreResult<Option<Instant>> {
    let sql = "SELECT next_call_at FROM campaign_paces WHERE campaign_id = $1";
    Ok(tx.query_opt(sql, &[&campaign]).await?.map(|row| row.get(0)))
}
