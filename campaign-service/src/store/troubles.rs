//! Workers whose provider fails.

use super::{StoreResult, Tx};
use campaign_domain::access::Tenant;
use chrono::TimeDelta;

/// A worker says so again well within this time, or is gone.
const BELIEVED: TimeDelta = TimeDelta::minutes(5);

/// Notes that a worker's provider fails.
pub async fn put(tx: &Tx<'_>, worker_id: &str, tenant: &Tenant, reason: &str) -> StoreResult<()> {
    let sql = "INSERT INTO provider_troubles (worker_id, reason, reported_at, tenant)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT (worker_id) DO UPDATE
        SET reason = excluded.reason, reported_at = excluded.reported_at";
    tx.execute(sql, &[&worker_id, &reason, &tx.now, &tenant.name()]).await?;
    Ok(())
}

/// Notes that it works again, or that the worker is gone.
pub async fn remove(tx: &Tx<'_>, worker_id: &str) -> StoreResult<()> {
    tx.execute("DELETE FROM provider_troubles WHERE worker_id = $1", &[&worker_id]).await?;
    Ok(())
}

/// What the worker whose provider began to fail last says, of those that serve a tenant.
pub async fn latest(tx: &Tx<'_>, tenant: &Tenant) -> StoreResult<Option<String>> {
    let sql = "SELECT reason FROM provider_troubles WHERE reported_at > $1 AND tenant IN ('', $2)
        ORDER BY reported_at DESC LIMIT 1";
    Ok(tx.query_opt(sql, &[&(tx.now - BELIEVED), &tenant.name()]).await?.map(|row| row.get(0)))
}
