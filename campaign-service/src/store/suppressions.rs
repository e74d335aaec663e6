//! Numbers nobody may engage, above all campaigns.

use super::{StoreResult, Tx};
use campaign_domain::Instant;
use uuid::Uuid;

/// A number on the list.
#[derive(Clone, Debug)]
pub struct Suppression {
    pub phone: String,
    pub source: String,
    pub created_at: Instant,
}

const COLUMNS: &str = "phone, source, created_at";

fn read(row: &tokio_postgres::Row) -> Suppression {
    Suppression { phone: row.get(0), source: row.get(1), created_at: row.get(2) }
}

/// Adds numbers, in one order so that two callers cannot wait for each other; returns the new ones.
pub async fn insert(tx: &Tx<'_>, phones: &[String], source: &str) -> StoreResult<Vec<String>> {
    let sql = "INSERT INTO suppressions (phone, source, created_at)
        SELECT phone, $2, $3::timestamptz FROM unnest($1::text[]) AS t(phone) ORDER BY phone
        ON CONFLICT DO NOTHING RETURNING phone";
    let rows = tx.query(sql, &[&phones, &source, &tx.now]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Takes a number off the list; returns what it was.
pub async fn delete(tx: &Tx<'_>, phone: &str) -> StoreResult<Option<Suppression>> {
    let sql = format!("DELETE FROM suppressions WHERE phone = $1 RETURNING {COLUMNS}");
    Ok(tx.query_opt(&sql, &[&phone]).await?.as_ref().map(read))
}

/// The entry of a number.
pub async fn find(tx: &Tx<'_>, phone: &str) -> StoreResult<Option<Suppression>> {
    let sql = format!("SELECT {COLUMNS} FROM suppressions WHERE phone = $1");
    Ok(tx.query_opt(&sql, &[&phone]).await?.as_ref().map(read))
}

/// Entries in order of number, after the last of the page before.
pub async fn list(tx: &Tx<'_>, after: Option<&str>, limit: i64) -> StoreResult<Vec<Suppression>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM suppressions WHERE $1::text IS NULL OR phone > $1
         ORDER BY phone LIMIT $2"
    );
    Ok(tx.query(&sql, &[&after, &limit]).await?.iter().map(read).collect())
}

/// Where numbers stand in the campaigns that have a run under way.
pub async fn find_in_active_campaigns(
    tx: &Tx<'_>,
    phones: &[String],
) -> StoreResult<Vec<(Uuid, i64)>> {
    let sql = "SELECT c.campaign_id, c.position FROM campaigns a
        JOIN contacts c ON c.campaign_id = a.campaign_id
        WHERE a.state IN ('SCHEDULED', 'RUNNING', 'PAUSED') AND c.phone = ANY($1)
            AND c.deleted_at IS NULL
        ORDER BY c.campaign_id, c.position";
    let rows = tx.query(sql, &[&phones]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
