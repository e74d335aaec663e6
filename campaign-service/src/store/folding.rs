//! Adding up the deltas of kept counts, so that a count stays a sum of few rows.

use super::classes::{Count, class};
use super::packed::ClassKey;
use super::{Params, StoreResult, Tx};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Adds up at most `limit` deltas of a campaign, and as many waits that are over. Returns whether
/// there are more. Two transactions that do so wait for each other, and nobody else waits.
pub async fn fold(tx: &Tx<'_>, campaign: Uuid, limit: i64) -> StoreResult<bool> {
    let lock = "INSERT INTO class_checks (campaign_id, folded_at) VALUES ($1, $2)
        ON CONFLICT (campaign_id) DO UPDATE SET folded_at = excluded.folded_at";
    tx.execute(lock, &[&campaign, &tx.now]).await?;
    let now = tx.now.timestamp_micros();
    let (mut sums, mut waits): (BTreeMap<ClassKey, (Count, i64)>, BTreeMap<_, i64>) =
        (BTreeMap::new(), BTreeMap::new());
    let take = "DELETE FROM class_deltas WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM class_deltas WHERE campaign_id = $1
            ORDER BY campaign_id, delta LIMIT $2))
        RETURNING class, due_at, contacts, attempts";
    let rows = tx.query(take, &[&campaign, &limit]).await?;
    for row in &rows {
        let (class, due_at, contacts): (_, i64, i64) = (class(row, 0)?, row.get(1), row.get(2));
        let (count, waiting) = sums.entry(class).or_default();
        count.contacts += contacts;
        count.attempts += row.get::<_, i64>(3);
        if due_at > now {
            *waiting += contacts;
            *waits.entry((class, due_at)).or_default() += contacts;
        }
    }
    let over = "DELETE FROM class_waits WHERE ctid = ANY (ARRAY(
            SELECT w.ctid FROM class_counts c CROSS JOIN LATERAL (SELECT ctid FROM class_waits
                WHERE campaign_id = $1 AND class = c.class AND due_at <= $2
                ORDER BY campaign_id, class, due_at LIMIT $3) w
            WHERE c.campaign_id = $1 LIMIT $3))
        RETURNING class, contacts";
    let over = tx.query(over, &[&campaign, &now, &limit]).await?;
    for row in &over {
        sums.entry(class(row, 0)?).or_default().1 -= row.get::<_, i64>(1);
    }
    add_sums(tx, campaign, &sums).await?;
    add_waits(tx, campaign, &waits).await?;
    let most = i64::try_from(rows.len().max(over.len())).unwrap_or(limit);
    Ok(most >= limit)
}

async fn add_sums(
    tx: &Tx<'_>,
    campaign: Uuid,
    sums: &BTreeMap<ClassKey, (Count, i64)>,
) -> StoreResult<()> {
    let classes: Vec<&[u8]> = sums.keys().map(|class| class.0.as_slice()).collect();
    let contacts: Vec<i64> = sums.values().map(|(count, _)| count.contacts).collect();
    let attempts: Vec<i64> = sums.values().map(|(count, _)| count.attempts).collect();
    let waiting: Vec<i64> = sums.values().map(|(_, waiting)| *waiting).collect();
    let add = "INSERT INTO class_counts AS c (campaign_id, class, contacts, attempts, waiting)
        SELECT $1, * FROM unnest($2::bytea[], $3::int8[], $4::int8[], $5::int8[])
        ON CONFLICT (campaign_id, class) DO UPDATE SET contacts = c.contacts + excluded.contacts,
            attempts = c.attempts + excluded.attempts, waiting = c.waiting + excluded.waiting";
    let params: Params<'_> = &[&campaign, &classes, &contacts, &attempts, &waiting];
    tx.execute(add, params).await?;
    let forget = "DELETE FROM class_counts WHERE campaign_id = $1 AND class = ANY($2)
        AND contacts = 0 AND attempts = 0 AND waiting = 0";
    tx.execute(forget, &[&campaign, &classes]).await?;
    Ok(())
}

async fn add_waits(
    tx: &Tx<'_>,
    campaign: Uuid,
    waits: &BTreeMap<(ClassKey, i64), i64>,
) -> StoreResult<()> {
    if waits.is_empty() {
        return Ok(());
    }
    let classes: Vec<&[u8]> = waits.keys().map(|(class, _)| class.0.as_slice()).collect();
    let due: Vec<i64> = waits.keys().map(|(_, due_at)| *due_at).collect();
    let contacts: Vec<i64> = waits.values().copied().collect();
    let add = "INSERT INTO class_waits AS w (campaign_id, class, due_at, contacts)
        SELECT $1, * FROM unnest($2::bytea[], $3::int8[], $4::int8[])
        ON CONFLICT (campaign_id, class, due_at)
            DO UPDATE SET contacts = w.contacts + excluded.contacts";
    tx.execute(add, &[&campaign, &classes, &due, &contacts]).await?;
    let forget = "DELETE FROM class_waits WHERE ctid = ANY (ARRAY(
        SELECT w.ctid FROM unnest($2::bytea[], $3::int8[]) AS k(class, due_at)
        CROSS JOIN LATERAL (SELECT ctid FROM class_waits WHERE campaign_id = $1 AND class = k.class
            AND due_at = k.due_at AND contacts = 0 LIMIT 1) w))";
    tx.execute(forget, &[&campaign, &classes, &due]).await?;
    Ok(())
}
