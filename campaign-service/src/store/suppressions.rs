//! Numbers nobody may engage, above all campaigns: each tenant's list, and the installation's own, which
//! holds for everybody.

use super::{StoreResult, Tx};
use campaign_domain::Instant;
use campaign_domain::access::{Reach, Tenant};
use std::collections::HashSet;
use uuid::Uuid;

/// A number on the list.
#[derive(Clone, Debug)]
pub struct Suppression {
    pub phone: String,
    pub source: String,
    pub created_at: Instant,
}

/// Whether the entry `x` holds for the campaign `$1`: it is its tenant's, or everybody's.
pub(super) const HOLDS_FOR_CAMPAIGN: &str =
    "x.tenant IN ('', (SELECT tenant FROM campaigns WHERE campaign_id = $1))";

const COLUMNS: &str = "phone, source, created_at";

fn read(row: &tokio_postgres::Row) -> Suppression {
    Suppression { phone: row.get(0), source: row.get(1), created_at: row.get(2) }
}

/// Adds numbers, in one order so that two callers cannot wait for each other; returns the new ones.
pub async fn insert(
    tx: &Tx<'_>,
    tenant: &Tenant,
    phones: &[String],
    source: &str,
) -> StoreResult<Vec<String>> {
    let sql = "INSERT INTO suppressions (tenant, phone, source, created_at)
        SELECT $4, phone, $2, $3::timestamptz FROM unnest($1::text[]) AS t(phone) ORDER BY phone
        ON CONFLICT DO NOTHING RETURNING phone";
    let rows = tx.query(sql, &[&phones, &source, &tx.now, &tenant.name()]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Puts a number on a tenant's list from this source, whatever the list said of it; kept from others until
/// commit.
pub async fn put(tx: &Tx<'_>, tenant: &Tenant, phone: &str, source: &str) -> StoreResult<()> {
    let sql = "INSERT INTO suppressions (tenant, phone, source, created_at) VALUES ($1, $2, $3, $4)
        ON CONFLICT (phone, tenant) DO UPDATE SET source = excluded.source";
    tx.execute(sql, &[&tenant.name(), &phone, &source, &tx.now]).await?;
    Ok(())
}

/// Takes a number off a tenant's list; returns what it was.
pub async fn delete(tx: &Tx<'_>, tenant: &Tenant, phone: &str) -> StoreResult<Option<Suppression>> {
    let sql =
        format!("DELETE FROM suppressions WHERE phone = $1 AND tenant = $2 RETURNING {COLUMNS}");
    Ok(tx.query_opt(&sql, &[&phone, &tenant.name()]).await?.as_ref().map(read))
}

/// The entry of a number on a tenant's list.
pub async fn find(tx: &Tx<'_>, tenant: &Tenant, phone: &str) -> StoreResult<Option<Suppression>> {
    let sql = format!("SELECT {COLUMNS} FROM suppressions WHERE phone = $1 AND tenant = $2");
    Ok(tx.query_opt(&sql, &[&phone, &tenant.name()]).await?.as_ref().map(read))
}

/// Which of these numbers a tenant's campaigns may not engage: on its list or on the installation's.
pub async fn among(tx: &Tx<'_>, tenant: &Tenant, phones: &[&str]) -> StoreResult<HashSet<String>> {
    if phones.is_empty() {
        return Ok(HashSet::new());
    }
    // The tenant as a condition of what is found, or each number is looked for twice.
    let sql =
        "SELECT phone FROM suppressions WHERE phone = ANY($1) AND (tenant = '' OR tenant = $2)";
    let rows = tx.query(sql, &[&phones, &tenant.name()]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Entries of a tenant's list in order of number, after the last of the page before.
pub async fn list(
    tx: &Tx<'_>,
    tenant: &Tenant,
    after: Option<&str>,
    limit: i64,
) -> StoreResult<Vec<Suppression>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM suppressions
         WHERE tenant = $3 AND phone > COALESCE($1, '') ORDER BY tenant, phone LIMIT $2"
    );
    Ok(tx.query(&sql, &[&after, &limit, &tenant.name()]).await?.iter().map(read).collect())
}

/// Where numbers stand in the campaigns within reach that have a run under way.
pub async fn find_in_active_campaigns(
    tx: &Tx<'_>,
    reach: &Reach,
    phones: &[String],
) -> StoreResult<Vec<(Uuid, i64)>> {
    let sql = "SELECT c.campaign_id, c.position FROM campaigns a
        JOIN contacts c ON c.campaign_id = a.campaign_id
        WHERE a.state IN ('SCHEDULED', 'RUNNING', 'PAUSED') AND c.phone = ANY($1)
            AND c.deleted_at IS NULL AND ($2::text IS NULL OR a.tenant = $2)
        ORDER BY c.campaign_id, c.position";
    let rows = tx.query(sql, &[&phones, &reach.tenant()]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
