//! Deletion of history that a reset made unreachable. Nobody sees these rows any more; the deletion
//! only frees their space.
//!
//! The ids of facts are kept. A fact without a time of its own counts when it first arrives, and so
//! does one from just before the launch, also if its attempt was made before the reset. Nothing but
//! the id tells a repeated fact from a new one. Facts reported again are therefore duplicates.

use super::{StoreResult, Tx, calls, states};
use uuid::Uuid;

/// Progress of the deletion in one campaign.
#[derive(Clone, Copy, Debug)]
pub struct PurgeProgress {
    pub positions_done: i64,
    pub positions_total: i64,
}

/// Schedules the deletion of everything older than a generation, from the first contact on.
pub async fn start(tx: &Tx<'_>, campaign: Uuid, generation: i32) -> StoreResult<()> {
    let sql = "INSERT INTO history_purges (campaign_id, generation) VALUES ($1, $2)
        ON CONFLICT (campaign_id) DO UPDATE SET generation = excluded.generation,
            position = 0, lease = 0";
    tx.execute(sql, &[&campaign, &generation]).await?;
    Ok(())
}

/// Returns the progress in one campaign, or `None` when nothing is to be deleted.
pub async fn progress(tx: &Tx<'_>, campaign: Uuid) -> StoreResult<Option<PurgeProgress>> {
    let sql = "SELECT LEAST(p.position, k.next_position), k.next_position
        FROM history_purges p JOIN campaign_counters k USING (campaign_id) WHERE campaign_id = $1";
    let row = tx.query_opt(sql, &[&campaign]).await?;
    Ok(row.map(|row| PurgeProgress { positions_done: row.get(0), positions_total: row.get(1) }))
}

/// Lists campaigns that have history to delete.
pub async fn pending(tx: &Tx<'_>, limit: i64) -> StoreResult<Vec<Uuid>> {
    let sql = "SELECT campaign_id FROM history_purges ORDER BY campaign_id LIMIT $1";
    Ok(tx.query(sql, &[&limit]).await?.iter().map(|row| row.get(0)).collect())
}

/// Deletes old history of the next `span` positions, and after the last position calls in at most
/// `span` reports. The caller must hold the campaign's gate exclusively, so that nothing is written
/// to these rows meanwhile. Returns whether there is more to delete.
pub async fn step(tx: &Tx<'_>, campaign: Uuid, span: i64) -> StoreResult<bool> {
    let find = "SELECT p.generation, p.position, p.lease, k.next_position
        FROM history_purges p JOIN campaign_counters k USING (campaign_id) WHERE campaign_id = $1";
    let Some(row) = tx.query_opt(find, &[&campaign]).await? else { return Ok(false) };
    let (generation, from, lease, end): (i32, i64, i64, i64) =
        (row.get(0), row.get(1), row.get(2), row.get(3));
    let (to, lease) = if from < end {
        let to = from + span;
        let empty = "UPDATE interactions SET seconds = 0, detail = '', occurred_at = NULL
            WHERE campaign_id = $1 AND position >= $2 AND position < $3 AND generation < $4
                AND (seconds <> 0 OR detail <> '' OR occurred_at IS NOT NULL)";
        tx.execute(empty, &[&campaign, &from, &to, &generation]).await?;
        states::purge(tx, campaign, from..to, generation).await?;
        (to, Some(lease))
    } else {
        (from, calls::purge(tx, campaign, lease, generation, span).await?)
    };
    let Some(lease) = lease else {
        tx.execute("DELETE FROM history_purges WHERE campaign_id = $1", &[&campaign]).await?;
        return Ok(false);
    };
    let save = "UPDATE history_purges SET position = $2, lease = $3 WHERE campaign_id = $1";
    tx.execute(save, &[&campaign, &to, &lease]).await?;
    Ok(true)
}
