//! Workers whose provider fails.

use super::{StoreResult, Tx};
use campaign_domain::access::Tenant;
use chrono::TimeDelta;
use uuid::Uuid;

/// Time for which a worker's report is believed. A worker that still runs reports again well within
/// this time.
const BELIEVED: TimeDelta = TimeDelta::minutes(5);

/// Records that a worker's provider fails, as the worker reports on a stream.
pub async fn put(
    tx: &Tx<'_>,
    worker_id: &str,
    tenant: &Tenant,
    stream: Uuid,
    reason: &str,
) -> StoreResult<()> {
    let sql = "INSERT INTO provider_troubles (worker_id, stream_id, reason, reported_at, tenant)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (worker_id) DO UPDATE SET stream_id = excluded.stream_id,
            reason = excluded.reason, reported_at = excluded.reported_at";
    tx.execute(sql, &[&worker_id, &stream, &reason, &tx.now, &tenant.name()]).await?;
    Ok(())
}

/// Records that a worker's provider works again, or that the stream is over. A report on another
/// stream stays, because the end of an old stream may be noticed long after a new one began.
pub async fn remove(tx: &Tx<'_>, worker_id: &str, stream: Uuid) -> StoreResult<()> {
    let sql = "DELETE FROM provider_troubles WHERE worker_id = $1 AND stream_id = $2";
    tx.execute(sql, &[&worker_id, &stream]).await?;
    Ok(())
}

/// Returns the reason in the latest report of a failing provider, among the workers that serve a
/// tenant.
pub async fn latest(tx: &Tx<'_>, tenant: &Tenant) -> StoreResult<Option<String>> {
    let sql = "SELECT reason FROM provider_troubles WHERE reported_at > $1 AND tenant IN ('', $2)
        ORDER BY reported_at DESC LIMIT 1";
    Ok(tx.query_opt(sql, &[&(tx.now - BELIEVED), &tenant.name()]).await?.map(|row| row.get(0)))
}
