//! Contacts, and contacts as the rules see them.

use super::suppressions::HOLDS_FOR_CAMPAIGN;
use super::{Params, StoreResult, Tx, from_json, recounts, states, to_json};
use campaign_domain::Instant;
use campaign_domain::eligibility::Candidate;
use std::collections::BTreeMap;
use std::pin::pin;
use tokio_postgres::Row;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{Json, Type};
use uuid::Uuid;

/// Free-form values that are passed to the worker.
pub type Attributes = BTreeMap<String, String>;

/// Contact to add.
#[derive(Clone, Debug, Default)]
pub struct NewContact {
    pub phone: String,
    pub display_name: String,
    pub time_zone: String,
    pub priority: i16,
    pub attributes: Attributes,
}

/// Contact as stored.
#[derive(Clone, Debug)]
pub struct Contact {
    pub position: i64,
    pub phone: String,
    pub display_name: String,
    pub time_zone: String,
    pub priority: i16,
    pub attributes: Attributes,
    pub created_at: Instant,
}

const COLUMNS: &str = "c.position, c.phone, c.display_name, c.attributes, c.created_at, c.group_id,
    g.time_zone, g.priority";
const FROM: &str = "FROM contacts c JOIN contact_groups g ON g.campaign_id = c.campaign_id AND g.group_id = c.group_id";

fn read(row: &Row) -> StoreResult<Contact> {
    Ok(Contact {
        position: row.get("position"),
        phone: row.get("phone"),
        display_name: row.get("display_name"),
        time_zone: row.get("time_zone"),
        priority: row.get("priority"),
        attributes: from_json(row.get("attributes"))?,
        created_at: row.get("created_at"),
    })
}

/// Returns the contact at a position, unless deleted.
pub async fn find(tx: &Tx<'_>, campaign: Uuid, position: i64) -> StoreResult<Option<Contact>> {
    let sql = format!(
        "SELECT {COLUMNS} {FROM}
         WHERE c.campaign_id = $1 AND c.position = $2 AND c.deleted_at IS NULL"
    );
    tx.query_opt(&sql, &[&campaign, &position]).await?.as_ref().map(read).transpose()
}

/// Lists contacts that are not deleted, in order of position from `from_position` on.
pub async fn list(
    tx: &Tx<'_>,
    campaign: Uuid,
    from_position: i64,
    limit: i64,
) -> StoreResult<Vec<Contact>> {
    let sql = format!(
        "SELECT {COLUMNS} {FROM}
         WHERE c.campaign_id = $1 AND c.position >= $2 AND c.deleted_at IS NULL
         ORDER BY c.position LIMIT $3"
    );
    tx.query(&sql, &[&campaign, &from_position, &limit]).await?.iter().map(read).collect()
}

/// Returns which of `phones` a campaign has, with the position and whether the contact is deleted.
pub async fn find_by_phones(
    tx: &Tx<'_>,
    campaign: Uuid,
    phones: &[&str],
) -> StoreResult<Vec<(String, i64, bool)>> {
    let sql = "SELECT c.phone, c.position, c.deleted_at IS NOT NULL
        FROM (SELECT DISTINCT phone FROM unnest($2::text[]) AS t(phone)) p
        CROSS JOIN LATERAL (SELECT phone, position, deleted_at FROM contacts
            WHERE campaign_id = $1 AND phone = p.phone LIMIT 1) c";
    let rows = tx.query(sql, &[&campaign, &phones]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
}

/// Adds one contact at the next position, counts it and returns the position. The number must be
/// new to the campaign.
pub async fn insert_one(
    tx: &Tx<'_>,
    campaign: Uuid,
    contact: &NewContact,
    group: i32,
) -> StoreResult<i64> {
    let sql = "WITH taken AS (UPDATE campaign_counters
            SET next_position = next_position + 1, contacts = contacts + 1
            WHERE campaign_id = $1 RETURNING next_position - 1 AS position)
        INSERT INTO contacts (campaign_id, position, phone, group_id, display_name, attributes,
            created_at)
        SELECT $1, position, $2, $3, $4, $5, $6 FROM taken RETURNING position";
    let (name, attributes) = (&contact.display_name, Json(&contact.attributes));
    let params: Params<'_> = &[&campaign, &contact.phone, &group, name, &attributes, &tx.now];
    let position = tx.query_one(sql, params).await?.get(0);
    recounts::note_listed(tx, campaign, position..position + 1).await?;
    Ok(position)
}

/// Adds contacts at the positions from `first` on, each in a group. The numbers must be new to the
/// campaign, and the positions must be taken in this transaction.
pub async fn insert(
    tx: &Tx<'_>,
    campaign: Uuid,
    first: i64,
    contacts: &[(&NewContact, i32)],
) -> StoreResult<()> {
    let sql = "COPY contacts (campaign_id, position, phone, group_id, display_name, attributes,
        created_at) FROM STDIN BINARY";
    let types = [
        Type::UUID,
        Type::INT8,
        Type::TEXT,
        Type::INT4,
        Type::TEXT,
        Type::JSONB,
        Type::TIMESTAMPTZ,
    ];
    let mut rows = pin!(BinaryCopyInWriter::new(tx.copy_in(sql).await?, &types));
    tx.answered(async {
        for (position, (contact, group)) in (first..).zip(contacts) {
            rows.as_mut()
                .write(&[
                    &campaign,
                    &position,
                    &contact.phone,
                    group,
                    &contact.display_name,
                    &Json(&contact.attributes),
                    &tx.now,
                ])
                .await?;
        }
        rows.finish().await
    })
    .await?;
    let end = first + i64::try_from(contacts.len()).unwrap_or(0);
    recounts::note_listed(tx, campaign, first..end).await
}

/// Writes the editable fields of a contact, and marks the contact as not deleted.
pub async fn update(
    tx: &Tx<'_>,
    campaign: Uuid,
    position: i64,
    contact: &NewContact,
    group: i32,
) -> StoreResult<()> {
    let sql =
        "UPDATE contacts SET group_id = $3, display_name = $4, attributes = $5, deleted_at = NULL
        WHERE campaign_id = $1 AND position = $2";
    let attributes = to_json(&contact.attributes)?;
    tx.execute(sql, &[&campaign, &position, &group, &contact.display_name, &attributes]).await?;
    recounts::note(tx, campaign, position).await
}

/// Deletes a contact. Keeps the contact's number and history.
pub async fn mark_deleted(tx: &Tx<'_>, campaign: Uuid, position: i64) -> StoreResult<()> {
    let sql = "UPDATE contacts SET deleted_at = $3, display_name = '', attributes = '{}'
        WHERE campaign_id = $1 AND position = $2";
    tx.execute(sql, &[&campaign, &position, &tx.now]).await?;
    recounts::note(tx, campaign, position).await
}

/// Erases everything of a contact except its position, for good. A text that is no number replaces
/// the number.
pub async fn erase(tx: &Tx<'_>, campaign: Uuid, position: i64) -> StoreResult<()> {
    let sql =
        "UPDATE contacts SET phone = 'erased:' || position, display_name = '', attributes = '{}',
            deleted_at = COALESCE(deleted_at, $3)
        WHERE campaign_id = $1 AND position = $2";
    tx.execute(sql, &[&campaign, &position, &tx.now]).await?;
    recounts::note(tx, campaign, position).await
}

/// SQL condition: the contact `c` was erased.
const IS_ERASED: &str = "c.phone LIKE 'erased:%'";

/// Contact as the rules see it, without the fields that only a worker needs.
#[derive(Clone, Debug)]
pub struct Subject {
    pub candidate: Candidate,
    pub group: i32,
    /// Time zone; empty for the campaign's.
    pub time_zone: String,
    pub is_deleted: bool,
}

/// SQL subquery `c` with the contacts at some positions.
const AT_POSITIONS: &str = "unnest($2::int8[]) AS p(position)
    CROSS JOIN LATERAL (
        SELECT position, phone, group_id, display_name, attributes, deleted_at FROM contacts
        WHERE campaign_id = $1 AND position = p.position LIMIT 1) c";

/// Returns the contacts at some positions, deleted ones too, in order of position.
pub async fn subjects(tx: &Tx<'_>, campaign: Uuid, positions: &[i64]) -> StoreResult<Vec<Subject>> {
    if positions.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT c.position, c.group_id, g.time_zone, c.deleted_at IS NOT NULL AS is_deleted,
             (SELECT true FROM suppressions x WHERE x.phone = c.phone AND {HOLDS_FOR_CAMPAIGN}
                LIMIT 1) IS NOT NULL AS is_suppressed
         FROM {AT_POSITIONS}
         JOIN contact_groups g ON g.campaign_id = $1 AND g.group_id = c.group_id
         ORDER BY c.position"
    );
    let rows = tx.query(&sql, &[&campaign, &positions]).await?;
    let states = states::find(tx, campaign, positions.iter().copied()).await?;
    let subject = |row: &Row| {
        let position = row.get("position");
        let is_suppressed = row.get("is_suppressed");
        Subject {
            candidate: Candidate { position, is_suppressed, state: states.get(position) },
            group: row.get("group_id"),
            time_zone: row.get("time_zone"),
            is_deleted: row.get("is_deleted"),
        }
    };
    Ok(rows.iter().map(subject).collect())
}

/// Returns which of these positions hold a contact, deleted or not, and whether the contact was
/// erased.
pub async fn existing(
    tx: &Tx<'_>,
    campaign: Uuid,
    positions: &[i64],
) -> StoreResult<Vec<(i64, bool)>> {
    if positions.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!("SELECT c.position, {IS_ERASED} FROM {AT_POSITIONS}");
    let rows = tx.query(&sql, &[&campaign, &positions]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Returns the numbers of contacts, deleted or not, by position. Erased contacts have no number.
pub async fn phones(
    tx: &Tx<'_>,
    campaign: Uuid,
    positions: &[i64],
) -> StoreResult<Vec<(i64, String)>> {
    let sql = format!("SELECT c.position, c.phone FROM {AT_POSITIONS} WHERE NOT {IS_ERASED}");
    let rows = tx.query(&sql, &[&campaign, &positions]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Returns the groups of contacts, by position.
pub async fn groups(
    tx: &Tx<'_>,
    campaign: Uuid,
    positions: &[i64],
) -> StoreResult<Vec<(i64, i32)>> {
    let sql = format!("SELECT c.position, c.group_id FROM {AT_POSITIONS}");
    let rows = tx.query(&sql, &[&campaign, &positions]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Returns the positions of the next contacts of a group in a range, deleted ones too, in order.
pub async fn positions_ahead(
    tx: &Tx<'_>,
    campaign: Uuid,
    group: i32,
    range: std::ops::Range<i64>,
    limit: i64,
) -> StoreResult<Vec<i64>> {
    // One array instead of a row per contact. The index alone answers the query.
    let sql = "SELECT array_agg(position) FROM (SELECT position FROM contacts
        WHERE campaign_id = $1 AND group_id = $2 AND position >= $3 AND position < $4
        ORDER BY campaign_id, group_id, position LIMIT $5) t";
    let row = tx.query_one(sql, &[&campaign, &group, &range.start, &range.end, &limit]).await?;
    Ok(row.get::<_, Option<Vec<i64>>>(0).unwrap_or_default())
}

/// Returns the position of the last contact of a group in a range, deleted or not.
pub async fn last_position(
    tx: &Tx<'_>,
    campaign: Uuid,
    group: i32,
    range: std::ops::Range<i64>,
) -> StoreResult<Option<i64>> {
    let sql = "SELECT position FROM contacts
        WHERE campaign_id = $1 AND group_id = $2 AND position >= $3 AND position < $4
        ORDER BY campaign_id DESC, group_id DESC, position DESC LIMIT 1";
    let row = tx.query_opt(sql, &[&campaign, &group, &range.start, &range.end]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// Contact with the fields that a worker needs.
#[derive(Debug)]
pub struct Leasable {
    pub position: i64,
    pub phone: String,
    pub display_name: String,
    pub group: i32,
    pub attributes: Attributes,
    pub is_deleted: bool,
}

const LEASABLE_COLUMNS: &str = "c.position, c.phone, c.display_name, c.group_id, c.attributes,
    c.deleted_at IS NOT NULL AS is_deleted";

fn read_leasable(row: &Row) -> StoreResult<Leasable> {
    let Json(attributes) = row.try_get("attributes")?;
    Ok(Leasable {
        position: row.get("position"),
        phone: row.get("phone"),
        display_name: row.get("display_name"),
        group: row.get("group_id"),
        attributes,
        is_deleted: row.get("is_deleted"),
    })
}

/// Returns the contacts at some positions, in order of position.
pub async fn leasable(
    tx: &Tx<'_>,
    campaign: Uuid,
    positions: &[i64],
) -> StoreResult<Vec<Leasable>> {
    if positions.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!("SELECT {LEASABLE_COLUMNS} FROM {AT_POSITIONS} ORDER BY c.position");
    tx.query(&sql, &[&campaign, &positions]).await?.iter().map(read_leasable).collect()
}

/// Returns the first `limit` contacts of a group in a range of positions, or all, in order of
/// position.
pub async fn leasable_in_range(
    tx: &Tx<'_>,
    campaign: Uuid,
    group: i32,
    range: std::ops::Range<i64>,
    limit: Option<i64>,
) -> StoreResult<Vec<Leasable>> {
    let sql = format!(
        "SELECT {LEASABLE_COLUMNS} FROM contacts c WHERE c.campaign_id = $1 AND c.group_id = $2
             AND c.position >= $3 AND c.position < $4
         ORDER BY c.campaign_id, c.group_id, c.position LIMIT $5"
    );
    let rows = tx.query(&sql, &[&campaign, &group, &range.start, &range.end, &limit]).await?;
    rows.iter().map(read_leasable).collect()
}
