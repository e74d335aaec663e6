//! Groups of contacts that are leased together, and a run's progress in each group.

use super::{Statements, StoreResult, Tx, campaigns};
use uuid::Uuid;

/// Group, with the run's progress in it.
#[derive(Clone, Debug)]
pub struct Group {
    pub id: i32,
    pub time_zone: String,
    /// Position of the first contact that the run has not looked at.
    pub first_ahead: Option<i64>,
}

/// Lists all groups of a campaign, highest priority first.
pub async fn all(
    tx: &Tx<'_>,
    campaign: Uuid,
    run: i32,
    position_limit: Option<i64>,
) -> StoreResult<Vec<Group>> {
    // ORDER BY and LIMIT leave only a probe of the index; EXISTS may walk the list from its start.
    let sql = "SELECT g.group_id, g.time_zone,
            CASE WHEN ahead.position < COALESCE($3, 9223372036854775807) THEN ahead.position END
        FROM contact_groups g
        LEFT JOIN LATERAL (SELECT f.next_position FROM frontiers f
            WHERE f.campaign_id = $1 AND f.run = $2 AND f.group_id = g.group_id
            ORDER BY f.campaign_id DESC, f.run DESC, f.group_id DESC, f.next_position DESC
            LIMIT 1) f ON true
        LEFT JOIN LATERAL (SELECT c.position FROM contacts c
            WHERE c.campaign_id = $1 AND c.group_id = g.group_id
                AND c.position >= COALESCE(f.next_position, 0)
            ORDER BY c.campaign_id, c.group_id, c.position LIMIT 1) ahead ON true
        WHERE g.campaign_id = $1 ORDER BY g.priority DESC, g.group_id";
    let rows = tx.query(sql, &[&campaign, &run, &position_limit]).await?;
    Ok(rows
        .iter()
        .map(|row| Group { id: row.get(0), time_zone: row.get(1), first_ahead: row.get(2) })
        .collect())
}

/// Lists the groups of a campaign with their time zones.
pub async fn zones(tx: &Tx<'_>, campaign: Uuid) -> StoreResult<Vec<(i32, String)>> {
    let sql = "SELECT group_id, time_zone FROM contact_groups WHERE campaign_id = $1";
    let rows = tx.query(sql, &[&campaign]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Locks the frontier of a group until commit, so that no two leases get the same contacts. Returns
/// its position.
pub async fn lock_frontier(tx: &Tx<'_>, campaign: Uuid, run: i32, group: i32) -> StoreResult<i64> {
    let lock = "SELECT FROM contact_groups WHERE campaign_id = $1 AND group_id = $2
        FOR NO KEY UPDATE";
    let sql = "SELECT next_position FROM frontiers
        WHERE campaign_id = $1 AND run = $2 AND group_id = $3
        ORDER BY campaign_id DESC, run DESC, group_id DESC, next_position DESC LIMIT 1";
    let rows = tx.then_query(lock, &[&campaign, &group], sql, &[&campaign, &run, &group]).await?;
    Ok(rows.first().map_or(0, |row| row.get(0)))
}

/// Step of a group's frontier.
#[derive(Clone, Debug)]
pub struct Step {
    pub group: i32,
    /// Positions from the old frontier to the new one.
    pub positions: std::ops::Range<i64>,
}

/// Advances locked frontiers of different groups.
pub async fn advance_frontiers(
    tx: &Tx<'_>,
    campaign: Uuid,
    run: i32,
    steps: &[Step],
) -> StoreResult<()> {
    let steps = steps.iter().filter(|step| !step.positions.is_empty());
    let groups: Vec<i32> = steps.clone().map(|step| step.group).collect();
    let starts: Vec<i64> = steps.clone().map(|step| step.positions.start).collect();
    let ends: Vec<i64> = steps.map(|step| step.positions.end).collect();
    if groups.is_empty() {
        return Ok(());
    }
    let sql = "WITH forgotten AS (DELETE FROM frontiers WHERE ctid = ANY (ARRAY(
            SELECT f.ctid FROM unnest($3::int[], $4::int8[]) AS s(group_id, start)
            CROSS JOIN LATERAL (SELECT ctid FROM frontiers
                WHERE campaign_id = $1 AND run = $2 AND group_id = s.group_id
                    AND next_position = s.start LIMIT 1) f)))
        INSERT INTO frontiers (campaign_id, run, group_id, next_position)
        SELECT $1, $2, * FROM unnest($3::int[], $5::int8[])";
    tx.execute(sql, &[&campaign, &run, &groups, &starts, &ends]).await?;
    Ok(())
}

/// Returns the ids of groups by zone and priority, in the order of `wanted`. Adds missing groups.
pub async fn ensure(
    tx: &Tx<'_>,
    campaign: Uuid,
    wanted: &[(String, i16)],
) -> StoreResult<Vec<i32>> {
    let found = find(tx, campaign, wanted).await?;
    if found.len() == wanted.len() {
        return Ok(found);
    }
    campaigns::lock_positions(tx, campaign).await?;
    let (zones, priorities) = columns(wanted);
    let add = "INSERT INTO contact_groups (campaign_id, group_id, time_zone, priority)
        SELECT $1, (SELECT COALESCE(max(group_id), 0) FROM contact_groups WHERE campaign_id = $1)
            + row_number() OVER ()::int, w.zone, w.priority
        FROM (SELECT DISTINCT * FROM unnest($2::text[], $3::int2[]) AS t(zone, priority)) w
        WHERE NOT EXISTS (SELECT FROM contact_groups g WHERE g.campaign_id = $1
            AND g.time_zone = w.zone AND g.priority = w.priority)";
    tx.execute(add, &[&campaign, &zones, &priorities]).await?;
    find(tx, campaign, wanted).await
}

/// Returns the ids of the groups of `wanted` that exist, in the order of `wanted`.
pub async fn find(
    tx: &Statements<'_>,
    campaign: Uuid,
    wanted: &[(String, i16)],
) -> StoreResult<Vec<i32>> {
    let (zones, priorities) = columns(wanted);
    let sql = "SELECT g.group_id FROM unnest($2::text[], $3::int2[])
            WITH ORDINALITY AS w(zone, priority, ordinal)
        JOIN contact_groups g ON g.campaign_id = $1 AND g.time_zone = w.zone
            AND g.priority = w.priority
        ORDER BY w.ordinal";
    let rows = tx.query(sql, &[&campaign, &zones, &priorities]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn columns(groups: &[(String, i16)]) -> (Vec<&str>, Vec<i16>) {
    groups.iter().map(|(zone, priority)| (zone.as_str(), *priority)).unzip()
}
