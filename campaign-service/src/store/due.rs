//! Due list: contacts behind the frontier that are to be engaged at some time.

use super::{StoreResult, Tx};
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
    Ok(())
}

/// Takes due contacts of a run off the list, in groups that may be called. Returns the position and
/// group of each.
pub async fn take(
    tx: &Tx<'_>,
    campaign: Uuid,
    run: i32,
    shut_groups: &[i32],
    limit: i64,
) -> StoreResult<Vec<(i64, i32)>> {
    // The rows are chosen once. As a part of a join they may be chosen again for each row, and more
    // than the limit be lost.
    let sql = "WITH t AS MATERIALIZED (
            SELECT position FROM due_contacts
            WHERE campaign_id = $1 AND run = $2 AND due_at <= $3 AND group_id <> ALL($4)
            ORDER BY due_at LIMIT $5 FOR UPDATE SKIP LOCKED)
        DELETE FROM due_contacts d USING t
        WHERE d.campaign_id = $1 AND d.position = t.position RETURNING d.position, d.group_id";
    let rows = tx.query(sql, &[&campaign, &run, &tx.now, &shut_groups, &limit]).await?;
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
    Ok(())
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
    Ok(())
}

/// Returns the contacts of a run in some groups that are due first, in order of time.
pub async fn soonest(
    tx: &Tx<'_>,
    campaign: Uuid,
    run: i32,
    groups: &[i32],
    limit: i64,
) -> StoreResult<Vec<Due>> {
    let sql = "SELECT position, group_id, due_at FROM due_contacts
        WHERE campaign_id = $1 AND run = $2 AND group_id = ANY($3)
        ORDER BY campaign_id, run, due_at LIMIT $4";
    let rows = tx.query(sql, &[&campaign, &run, &groups, &limit]).await?;
    let read = |row: &Row| Due { position: row.get(0), group: row.get(1), due_at: row.get(2) };
    Ok(rows.iter().map(read).collect())
}

/// Returns when the next contact of a run is due.
pub async fn next_time(tx: &Tx<'_>, campaign: Uuid, run: i32) -> StoreResult<Option<Instant>> {
    let sql = "SELECT min(due_at) FROM due_contacts WHERE campaign_id = $1 AND run = $2";
    Ok(tx.query_one(sql, &[&campaign, &run]).await?.get(0))
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
    Ok(())
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
