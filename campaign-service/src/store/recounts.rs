//! Contacts that may be counted as deleted or suppressed without being so, or the other way round.
//!
//! A transaction that deletes or lists a contact notes it here, without waiting for the contact's
//! state. A reader of counts looks at the noted contacts one by one. A chore corrects what they are
//! counted as.

use super::packed::Marks;
use super::suppressions::HOLDS_FOR_CAMPAIGN;
use super::{StoreResult, Tx, states};
use campaign_domain::Instant;
use std::collections::HashMap;
use tokio_postgres::Row;
use uuid::Uuid;

/// Notes a contact that was changed or added.
pub(super) async fn note(tx: &Tx<'_>, campaign: Uuid, position: i64) -> StoreResult<()> {
    let sql = "INSERT INTO recounts (campaign_id, position) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    tx.execute(sql, &[&campaign, &position]).await?;
    Ok(())
}

/// Notes new contacts at some positions whose numbers are on a list. A list that changes at the
/// same time notes the number itself, for longer than an addition of contacts takes.
pub(super) async fn note_listed(
    tx: &Tx<'_>,
    campaign: Uuid,
    positions: std::ops::Range<i64>,
) -> StoreResult<()> {
    let sql = format!(
        "INSERT INTO recounts (campaign_id, position)
         SELECT c.campaign_id, c.position FROM contacts c CROSS JOIN LATERAL (
             SELECT FROM suppressions x WHERE x.phone = c.phone AND {HOLDS_FOR_CAMPAIGN} LIMIT 1) x
         WHERE c.campaign_id = $1 AND c.position >= $2 AND c.position < $3
         ORDER BY c.position ON CONFLICT DO NOTHING"
    );
    tx.execute(&sql, &[&campaign, &positions.start, &positions.end]).await?;
    Ok(())
}

/// Notes contacts that were found to be counted wrongly.
pub(super) async fn note_wrong(tx: &Tx<'_>, campaign: Uuid, positions: &[i64]) -> StoreResult<()> {
    let sql = "INSERT INTO recounts (campaign_id, position)
        SELECT $1, * FROM unnest($2::int8[]) ON CONFLICT DO NOTHING";
    tx.execute(sql, &[&campaign, &positions]).await?;
    Ok(())
}

/// SQL columns of what the contact `c` is.
fn truth() -> String {
    format!(
        "c.position, c.deleted_at IS NOT NULL, (SELECT true FROM suppressions x
             WHERE x.phone = c.phone AND {HOLDS_FOR_CAMPAIGN} LIMIT 1) IS NOT NULL"
    )
}

fn read(row: &Row) -> (i64, Marks) {
    (row.get(0), Marks { is_deleted: row.get(1), is_suppressed: row.get(2) })
}

/// Returns the noted contacts of a campaign, and what they are.
pub(super) async fn noted(tx: &Tx<'_>, campaign: Uuid) -> StoreResult<HashMap<i64, Marks>> {
    let truth = truth();
    let sql = format!(
        "SELECT {truth} FROM (
             SELECT position FROM recounts WHERE campaign_id = $1
             UNION SELECT c.position FROM relisted_numbers r CROSS JOIN LATERAL (
                 SELECT position FROM contacts WHERE campaign_id = $1 AND phone = r.phone LIMIT 1) c
             WHERE r.tenant IN ('', (SELECT tenant FROM campaigns WHERE campaign_id = $1))) p
         CROSS JOIN LATERAL (SELECT position, phone, deleted_at FROM contacts
             WHERE campaign_id = $1 AND position = p.position LIMIT 1) c"
    );
    Ok(tx.query(&sql, &[&campaign]).await?.iter().map(read).collect())
}

/// Notes the contacts of at most `limit` numbers whose place on a list changed before a time.
/// Returns how many numbers there were.
pub async fn expand(tx: &Tx<'_>, before: Instant, limit: i64) -> StoreResult<u64> {
    let take = "DELETE FROM relisted_numbers WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM relisted_numbers WHERE changed_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED))
        RETURNING tenant, phone";
    let rows = tx.query(take, &[&before, &limit]).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let tenants: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    let phones: Vec<&str> = rows.iter().map(|row| row.get(1)).collect();
    let note = "INSERT INTO recounts (campaign_id, position)
        SELECT DISTINCT c.campaign_id, c.position FROM unnest($1::text[], $2::text[]) AS r(tenant, phone)
        JOIN contacts c ON c.phone = r.phone
        JOIN campaigns a ON a.campaign_id = c.campaign_id AND r.tenant IN ('', a.tenant)
        ORDER BY c.campaign_id, c.position ON CONFLICT DO NOTHING";
    tx.execute(note, &[&tenants, &phones]).await?;
    Ok(rows.len() as u64)
}

/// Lists at most `limit` campaigns with noted contacts.
pub async fn campaigns(tx: &Tx<'_>, limit: i64) -> StoreResult<Vec<Uuid>> {
    let sql = "SELECT DISTINCT campaign_id FROM (SELECT campaign_id FROM recounts LIMIT $1) r";
    Ok(tx.query(sql, &[&limit]).await?.iter().map(|row| row.get(0)).collect())
}

/// Counts at most `limit` noted contacts as what they are. Returns whether there are more. The
/// caller must hold the campaign's gate exclusively.
pub async fn correct(tx: &Tx<'_>, campaign: Uuid, limit: i64) -> StoreResult<bool> {
    // The notes go before the contacts are looked at. A list that changes meanwhile notes them anew.
    let take = "DELETE FROM recounts WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM recounts WHERE campaign_id = $1 ORDER BY campaign_id, position LIMIT $2))
        RETURNING position";
    let rows = tx.query(take, &[&campaign, &limit]).await?;
    let positions: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    let sql = format!(
        "SELECT {} FROM unnest($2::int8[]) AS p(position) CROSS JOIN LATERAL (
             SELECT position, phone, deleted_at FROM contacts
             WHERE campaign_id = $1 AND position = p.position LIMIT 1) c",
        truth()
    );
    let found = tx.query(&sql, &[&campaign, &positions]).await?;
    let mut states = states::lock(tx, campaign, positions.iter().copied()).await?;
    for (position, marks) in found.iter().map(read) {
        if Marks::of(&states.packed(position)) != marks {
            states.set_marks(position, marks);
        }
    }
    states::save(tx, campaign, &states).await?;
    Ok(i64::try_from(positions.len()).is_ok_and(|positions| positions >= limit))
}
