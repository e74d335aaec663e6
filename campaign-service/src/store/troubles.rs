//! Workers whose provider fails.

use super::{StoreResult, Tx};
use campaign_domain::access::Tenant;
use campaign_domain::serving::Abilities;
use chrono::TimeDelta;
use tokio_postgres::Row;
use uuid::Uuid;

/// Time for which a worker's report is believed. A worker that still runs reports again well within
/// this time.
const BELIEVED: TimeDelta = TimeDelta::minutes(5);
/// Most reports among which one of a worker that serves a campaign is looked for.
const MAX_REPORTS: i64 = 100;

/// Records that a worker's provider fails, as the worker reports on a stream.
pub async fn put(
    tx: &Tx<'_>,
    worker_id: &str,
    tenant: &Tenant,
    stream: Uuid,
    abilities: &Abilities,
    reason: &str,
) -> StoreResult<()> {
    let sql = "INSERT INTO provider_troubles
            (worker_id, stream_id, reason, reported_at, tenant, pools, channels)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (worker_id) DO UPDATE SET stream_id = excluded.stream_id,
            reason = excluded.reason, reported_at = excluded.reported_at,
            pools = excluded.pools, channels = excluded.channels";
    let pools: Vec<&String> = abilities.pools.iter().collect();
    let channels: Vec<&String> = abilities.channels.iter().collect();
    tx.execute(sql, &[&worker_id, &stream, &reason, &tx.now, &tenant.name(), &pools, &channels])
        .await?;
    Ok(())
}

/// Records that a worker's provider works again, or that the stream is over. A report on another
/// stream stays, because the end of an old stream may be noticed long after a new one began.
pub async fn remove(tx: &Tx<'_>, worker_id: &str, stream: Uuid) -> StoreResult<()> {
    let sql = "DELETE FROM provider_troubles WHERE worker_id = $1 AND stream_id = $2";
    tx.execute(sql, &[&worker_id, &stream]).await?;
    Ok(())
}

/// Lists the latest reports of failing providers, newest first: the reason, and the abilities of the
/// worker. Only of workers that serve a tenant.
pub async fn latest(tx: &Tx<'_>, tenant: &Tenant) -> StoreResult<Vec<(String, Abilities)>> {
    let sql = "SELECT reason, pools, channels FROM provider_troubles
        WHERE reported_at > $1 AND tenant IN ('', $2) ORDER BY reported_at DESC LIMIT $3";
    let rows = tx.query(sql, &[&(tx.now - BELIEVED), &tenant.name(), &MAX_REPORTS]).await?;
    let set = |names: Vec<String>| names.into_iter().collect();
    let read = |row: &Row| {
        let abilities = Abilities { pools: set(row.get(1)), channels: set(row.get(2)) };
        (row.get(0), abilities)
    };
    Ok(rows.iter().map(read).collect())
}
