//! Suppression lists: numbers that nobody may engage, above all campaigns. Each tenant has a list,
//! and the installation's own list holds for everybody.

use super::{Params, StoreResult, Tx};
use campaign_domain::Instant;
use campaign_domain::access::{Reach, Tenant};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// Number on a list.
#[derive(Clone, Debug)]
pub struct Suppression {
    pub phone: String,
    pub source: String,
    pub created_at: Instant,
    /// Whether the person asked for the suppression.
    pub is_wish: bool,
}

/// Most changes of a list that a preview is compared with.
const MAX_CHANGES: i64 = 10_000;

/// SQL condition: the entry `x` holds for the campaign `$1`. The entry is on the list of the
/// campaign's tenant, or on the installation's.
pub(super) const HOLDS_FOR_CAMPAIGN: &str =
    "x.tenant IN ('', (SELECT tenant FROM campaigns WHERE campaign_id = $1))";

// Opt-out entries that the previous version wrote are recognised by their source.
const COLUMNS: &str = "phone, source, created_at, is_wish OR source LIKE 'opt-out in campaigns/%'";

fn read(row: &tokio_postgres::Row) -> Suppression {
    Suppression {
        phone: row.get(0),
        source: row.get(1),
        created_at: row.get(2),
        is_wish: row.get(3),
    }
}

/// Number that was added, or became the person's wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    pub phone: String,
    /// Whether the number was on the list before, and is now the person's wish.
    pub was_listed: bool,
}

/// Adds numbers to a tenant's list, in one order so that two callers cannot deadlock. Returns the
/// numbers that are new, or became the person's wish.
pub async fn insert(
    tx: &Tx<'_>,
    tenant: &Tenant,
    phones: &[String],
    source: &str,
    is_wish: bool,
) -> StoreResult<Vec<Added>> {
    // For a row that this statement inserts, `xmax` is 0: no transaction deleted or locked the row.
    let sql = "INSERT INTO suppressions AS s (tenant, phone, source, created_at, is_wish)
        SELECT $4, phone, $2, $3::timestamptz, $5 FROM unnest($1::text[]) AS t(phone) ORDER BY phone
        ON CONFLICT (phone, tenant) DO UPDATE SET is_wish = true WHERE excluded.is_wish AND NOT s.is_wish
        RETURNING phone, xmax <> 0";
    let rows = tx.query(sql, &[&phones, &source, &tx.now, &tenant.name(), &is_wish]).await?;
    Ok(rows.iter().map(|row| Added { phone: row.get(0), was_listed: row.get(1) }).collect())
}

/// Records the numbers that an event in the log of a tenant's list is about, and their source.
pub async fn note_numbers(
    tx: &Tx<'_>,
    tenant: &Tenant,
    event_number: i64,
    phones: &[String],
    source: &str,
) -> StoreResult<()> {
    let sql = "INSERT INTO suppression_events (tenant, event_number, phone, source)
        SELECT $1, $2, phone, $4 FROM unnest($3::text[]) AS t(phone)";
    tx.execute(sql, &[&tenant.name(), &event_number, &phones, &source]).await?;
    // Contacts with these numbers are counted anew: see `recounts`.
    let relist = "INSERT INTO relisted_numbers (tenant, phone, changed_at)
        SELECT DISTINCT $1, phone, $3::timestamptz FROM unnest($2::text[]) AS t(phone)
        ON CONFLICT (tenant, phone) DO UPDATE SET changed_at = excluded.changed_at";
    tx.execute(relist, &[&tenant.name(), &phones, &tx.now]).await?;
    Ok(())
}

/// Returns the sources of the numbers of some events in the log of a tenant's list. Leaves out
/// events whose numbers were erased.
pub async fn sources(
    tx: &Tx<'_>,
    tenant: &Tenant,
    events: &[i64],
) -> StoreResult<HashMap<i64, String>> {
    let sql = "SELECT e.number, s.source FROM unnest($2::int8[]) AS e(number)
        CROSS JOIN LATERAL (SELECT source FROM suppression_events
            WHERE tenant = $1 AND event_number = e.number LIMIT 1) s";
    let rows = tx.query(sql, &[&tenant.name(), &events]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Lists the events about a phone number in the log of a tenant's list. Newest first, with event
/// numbers below `before`.
pub async fn events_of(
    tx: &Tx<'_>,
    tenant: &Tenant,
    phone: &str,
    before: Option<i64>,
    limit: i64,
) -> StoreResult<Vec<i64>> {
    let sql = "SELECT event_number FROM suppression_events WHERE phone = $1 AND tenant = $2
            AND event_number < COALESCE($3, 9223372036854775807)
        ORDER BY event_number DESC LIMIT $4";
    let rows = tx.query(sql, &[&phone, &tenant.name(), &before, &limit]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Returns whether a tenant's list changed, after an event in its log, for a number that a campaign
/// has. Also returns `true` if more numbers changed than are looked at.
pub async fn changed_for(
    tx: &Tx<'_>,
    tenant: &Tenant,
    after_event: i64,
    campaign: Uuid,
) -> StoreResult<bool> {
    let sql = "WITH changed AS MATERIALIZED (SELECT phone FROM suppression_events
            WHERE tenant = $1 AND event_number > $2 LIMIT $4)
        SELECT (SELECT count(*) FROM changed) = $4 OR EXISTS (SELECT FROM changed
            CROSS JOIN LATERAL (SELECT FROM contacts c
                WHERE c.campaign_id = $3 AND c.phone = changed.phone LIMIT 1) c)";
    let params: Params<'_> = &[&tenant.name(), &after_event, &campaign, &MAX_CHANGES];
    Ok(tx.query_one(sql, params).await?.get(0))
}

/// Puts a number on a tenant's list with this source, which replaces the source of an existing
/// entry. Locks the entry until commit.
pub async fn put(tx: &Tx<'_>, tenant: &Tenant, phone: &str, source: &str) -> StoreResult<()> {
    let sql = "INSERT INTO suppressions (tenant, phone, source, created_at) VALUES ($1, $2, $3, $4)
        ON CONFLICT (phone, tenant) DO UPDATE SET source = excluded.source";
    tx.execute(sql, &[&tenant.name(), &phone, &source, &tx.now]).await?;
    Ok(())
}

/// Takes numbers off a tenant's list. Returns their former entries.
pub async fn delete(
    tx: &Tx<'_>,
    tenant: &Tenant,
    phones: &[String],
) -> StoreResult<Vec<Suppression>> {
    let sql = format!(
        "DELETE FROM suppressions WHERE phone = ANY($1) AND tenant = $2 RETURNING {COLUMNS}"
    );
    Ok(tx.query(&sql, &[&phones, &tenant.name()]).await?.iter().map(read).collect())
}

/// Returns the entry of a number on a tenant's list.
pub async fn find(tx: &Tx<'_>, tenant: &Tenant, phone: &str) -> StoreResult<Option<Suppression>> {
    let sql = format!("SELECT {COLUMNS} FROM suppressions WHERE phone = $1 AND tenant = $2");
    Ok(tx.query_opt(&sql, &[&phone, &tenant.name()]).await?.as_ref().map(read))
}

/// Returns which of these numbers a tenant's campaigns may not engage: numbers on the tenant's list
/// or on the installation's.
pub async fn among(tx: &Tx<'_>, tenant: &Tenant, phones: &[&str]) -> StoreResult<HashSet<String>> {
    if phones.is_empty() {
        return Ok(HashSet::new());
    }
    // The tenant is a condition on rows found. Otherwise each number is looked up twice.
    let sql =
        "SELECT phone FROM suppressions WHERE phone = ANY($1) AND (tenant = '' OR tenant = $2)";
    let rows = tx.query(sql, &[&phones, &tenant.name()]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Lists entries of a tenant's list in order of number, after the last one of the previous page.
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

/// Finds the contacts with these numbers in campaigns within reach that have a run under way.
pub async fn find_in_active_campaigns(
    tx: &Tx<'_>,
    reach: &Reach,
    phones: &[String],
) -> StoreResult<Vec<(Uuid, i64)>> {
    // OFFSET keeps one index probe per number.
    let sql = "SELECT c.campaign_id, c.position
        FROM (SELECT DISTINCT phone FROM unnest($1::text[]) AS t(phone)) p CROSS JOIN LATERAL (
            SELECT campaign_id, position, deleted_at FROM contacts WHERE phone = p.phone OFFSET 0) c
        JOIN campaigns a USING (campaign_id)
        WHERE a.state IN ('SCHEDULED', 'RUNNING', 'PAUSED') AND c.deleted_at IS NULL
            AND ($2::text IS NULL OR a.tenant = $2)
        ORDER BY c.campaign_id, c.position";
    let rows = tx.query(sql, &[&phones, &reach.tenant()]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
