//! Due list: contacts behind the frontier that are to be engaged at some time.
//!
//! A change of the list changes the agenda in the same transaction.

use super::{StoreResult, Tx, agenda};
use campaign_domain::Instant;
use tokio_postgres::Row;
use uuid::Uuid;

/// Contact, and the time when it is due.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    pub position: i64,
    pub group: i32,
    pub due_at: Instant,
}

/// Puts contacts of a run on the list, and replaces their existing entries.
pub async fn put(tx: &Tx<'_>, campaign: Uuid, run: i32, due: &[Due]) -> StoreResult<()> {
    if due.is_empty() {
        return Ok(());
    }
    let positions: Vec<i64> = due.iter().map(|due| due.position).collect();
    let groups: Vec<i32> = due.iter().map(|due| due.group).collect();
    let times: Vec<Instant> = due.iter().map(|due| due.due_at).collect();
    let sql = "INSERT INTO due_contacts (campaign_id, run, position, group_id, due_at)
        SELECT $1, $2, * FROM unnest($3::int8[], $4::int[], $5::timestamptz[])
        ON CONFLICT (campaign_id, position) DO UPDATE
        SET run = excluded.run, group_id = excluded.group_id, due_at = excluded.due_at";
    tx.execute(sql, &[&campaign, &run, &positions, &groups, &times]).await?;
    wake(tx, campaign, due).await
}

async fn wake(tx: &Tx<'_>, campaign: Uuid, due: &[Due]) -> StoreResult<()> {
    match due.iter().map(|due| due.due_at).min() {
        Some(due_at) => agenda::wake(tx, campaign, due_at).await,
        None => Ok(()),
    }
}

/// Takes due contacts of a run off the list, in these groups. Returns the position and group of
/// each.
pub async fn take(
    tx: &Tx<'_>,
    campaign: Uuid,
    run: i32,
    groups: &[i32],
    limit: i64,
) -> StoreResult<Vec<(i64, i32)>> {
    // Each group's first ones are read by index, so that contacts of other groups cost nothing. The
    // rows are chosen once. As a part of a join they may be chosen again for each row, and more
    // than the limit be lost.
    let sql = "WITH first AS MATERIALIZED (
            SELECT d.position FROM unnest($4::int[]) AS g(group_id) CROSS JOIN LATERAL (
                SELECT position, due_at FROM due_contacts
                WHERE campaign_id = $1 AND run = $2 AND group_id = g.group_id AND due_at <= $3
                ORDER BY campaign_id, run, group_id, due_at LIMIT $5) d
            ORDER BY d.due_at LIMIT $5),
        t AS MATERIALIZED (
            SELECT d.position FROM first CROSS JOIN LATERAL (
                SELECT position FROM due_contacts WHERE campaign_id = $1 AND position = first.position
                    AND run = $2 AND due_at <= $3 LIMIT 1 FOR UPDATE SKIP LOCKED) d)
        DELETE FROM due_contacts d USING t
        WHERE d.campaign_id = $1 AND d.position = t.position RETURNING d.position, d.group_id";
    let rows = tx.query(sql, &[&campaign, &run, &tx.now, &groups, &limit]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Takes contacts off the list that are no longer to be engaged.
pub async fn remove(tx: &Tx<'_>, campaign: Uuid, positions: &[i64]) -> StoreResult<()> {
    if positions.is_empty() {
        return Ok(());
    }
    let sql = "DELETE FROM due_contacts WHERE ctid = ANY (ARRAY(
        SELECT d.ctid FROM unnest($2::int8[]) AS p(position)
        CROSS JOIN LATERAL (SELECT ctid FROM due_contacts
            WHERE campaign_id = $1 AND position = p.position LIMIT 1) d))";
    tx.execute(sql, &[&campaign, &positions]).await?;
    agenda::check_done(tx, &[campaign]).await
}

/// Changes the due times of a run's contacts that are on the list. Leaves out contacts that are
/// not.
pub async fn reschedule(tx: &Tx<'_>, campaign: Uuid, run: i32, due: &[Due]) -> StoreResult<()> {
    if due.is_empty() {
        return Ok(());
    }
    let positions: Vec<i64> = due.iter().map(|due| due.position).collect();
    let times: Vec<Instant> = due.iter().map(|due| due.due_at).collect();
    let sql = "UPDATE due_contacts d SET due_at = t.due_at
        FROM unnest($3::int8[], $4::timestamptz[]) AS t(position, due_at)
        WHERE d.campaign_id = $1 AND d.run = $2 AND d.position = t.position";
    tx.execute(sql, &[&campaign, &run, &positions, &times]).await?;
    wake(tx, campaign, due).await
}

/// Returns the contacts of a run in some groups that are due first, in order of time.
pub async fn soonest(
    tx: &Tx<'_>,
    campaign: Uuid,
    run: i32,
    groups: &[i32],
    limit: i64,
) -> StoreResult<Vec<Due>> {
    let sql = "SELECT d.* FROM unnest($3::int[]) AS g(group_id) CROSS JOIN LATERAL (
            SELECT position, group_id, due_at FROM due_contacts
            WHERE campaign_id = $1 AND run = $2 AND group_id = g.group_id
            ORDER BY campaign_id, run, group_id, due_at LIMIT $4) d
        ORDER BY d.due_at LIMIT $4";
    let rows = tx.query(sql, &[&campaign, &run, &groups, &limit]).await?;
    let read = |row: &Row| Due { position: row.get(0), group: row.get(1), due_at: row.get(2) };
    Ok(rows.iter().map(read).collect())
}

/// Returns when the first contact of each of some groups is due. Leaves out groups without any.
pub async fn first_times(
    tx: &Tx<'_>,
    campaign: Uuid,
    run: i32,
    groups: &[i32],
) -> StoreResult<Vec<(i32, Instant)>> {
    let sql =
        "SELECT g.group_id, d.due_at FROM unnest($3::int[]) AS g(group_id) CROSS JOIN LATERAL (
            SELECT due_at FROM due_contacts
            WHERE campaign_id = $1 AND run = $2 AND group_id = g.group_id
            ORDER BY campaign_id, run, group_id, due_at LIMIT 1) d";
    let rows = tx.query(sql, &[&campaign, &run, &groups]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Returns whether a contact of a run is on the list.
pub async fn any(tx: &Tx<'_>, campaign: Uuid, run: i32) -> StoreResult<bool> {
    let sql = "SELECT FROM due_contacts WHERE campaign_id = $1 AND run = $2
        ORDER BY campaign_id, run, group_id, due_at LIMIT 1";
    Ok(tx.query_opt(sql, &[&campaign, &run]).await?.is_some())
}

/// Puts a contact that came back into the run on the list, if the run passed it and no lease holds
/// it. Ahead of the frontier, the run finds the contact anyway. The caller must hold the campaign's
/// gate exclusively.
pub async fn put_if_passed(
    tx: &Tx<'_>,
    campaign: Uuid,
    run: i32,
    position: i64,
    due_at: Instant,
) -> StoreResult<()> {
    let sql = "INSERT INTO due_contacts (campaign_id, run, position, group_id, due_at)
        SELECT c.campaign_id, $2, c.position, c.group_id, $4
        FROM contacts c
        WHERE c.campaign_id = $1 AND c.position = $3
            AND c.position < (SELECT max(f.next_position) FROM frontiers f
                WHERE f.campaign_id = $1 AND f.run = $2 AND f.group_id = c.group_id)
            AND NOT EXISTS (SELECT FROM leases l WHERE l.campaign_id = $1 AND l.run = $2
                AND $3 = ANY(l.positions)
                AND get_byte(l.slots, array_position(l.positions, $3) - 1) < 2)
        ON CONFLICT (campaign_id, position) DO UPDATE SET run = excluded.run,
            group_id = excluded.group_id, due_at = excluded.due_at
            WHERE due_contacts.run < excluded.run";
    tx.execute(sql, &[&campaign, &run, &position, &due_at]).await?;
    // The run may not have passed the contact, and sleep.
    agenda::wake(tx, campaign, due_at).await
}

/// Deletes at most `limit` entries of runs before `run`. Returns how many.
pub async fn delete_older_runs(
    tx: &Tx<'_>,
    campaign: Uuid,
    run: i32,
    limit: i64,
) -> StoreResult<u64> {
    let sql = "DELETE FROM due_contacts WHERE (campaign_id, position) IN (
        SELECT campaign_id, position FROM due_contacts WHERE campaign_id = $1 AND run < $2 LIMIT $3)";
    tx.execute(sql, &[&campaign, &run, &limit]).await
}
