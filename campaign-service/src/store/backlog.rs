//! Backlog: contacts that wait in running campaigns, counted up to a bound.

use super::{StoreError, StoreResult, Tx};
use campaign_domain::Instant;
use campaign_domain::lease::{Slot, Slots};
use campaign_domain::lifecycle::State;
use tokio_postgres::Row;
use uuid::Uuid;

/// Number of active campaigns in one state.
#[derive(Clone, Debug)]
pub struct StateCount {
    pub state: State,
    pub campaigns: i64,
    /// Earliest start time that has passed, among campaigns that are still scheduled.
    pub overdue_start: Option<Instant>,
}

/// Counts the active campaigns by state: scheduled, running or paused.
pub async fn campaigns(tx: &Tx<'_>) -> StoreResult<Vec<StateCount>> {
    let sql = "SELECT state, count(*), min(start_time) FILTER (WHERE state = 'SCHEDULED' AND start_time <= $1)
        FROM campaigns WHERE state IN ('SCHEDULED', 'RUNNING', 'PAUSED') GROUP BY state";
    let rows = tx.query(sql, &[&tx.now]).await?;
    let read = |row: &Row| {
        let state: &str = row.get(0);
        let state = State::from_name(state).ok_or_else(|| StoreError::Corrupt(state.to_owned()))?;
        Ok(StateCount { state, campaigns: row.get(1), overdue_start: row.get(2) })
    };
    rows.iter().map(read).collect()
}

/// Waiting contacts of one campaign's current run.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// Contacts ahead of the run. Includes contacts that will turn out to be excluded or deleted.
    pub ahead: i64,
    /// Contacts behind the frontier that are due by now.
    pub due: i64,
    pub oldest_due: Option<Instant>,
}

/// Counts the waiting contacts of a campaign, in all groups or in `groups`. Counts at most `most`
/// of each kind.
pub async fn waiting(
    tx: &Tx<'_>,
    campaign: Uuid,
    groups: Option<&[i32]>,
    most: i64,
) -> StoreResult<Option<Waiting>> {
    // Each LIMIT leaves only a walk of the index from the run's frontier, like in `groups::all`.
    let sql = "SELECT (SELECT count(*) FROM (SELECT FROM contact_groups g
            LEFT JOIN LATERAL (SELECT f.next_position FROM frontiers f
                WHERE f.campaign_id = c.campaign_id AND f.run = c.run AND f.group_id = g.group_id
                ORDER BY f.campaign_id DESC, f.run DESC, f.group_id DESC, f.next_position DESC
                LIMIT 1) f ON true
            CROSS JOIN LATERAL (SELECT FROM contacts a
                WHERE a.campaign_id = c.campaign_id AND a.group_id = g.group_id
                    AND a.position >= COALESCE(f.next_position, 0)
                    AND a.position < COALESCE(r.position_limit, 9223372036854775807)
                ORDER BY a.campaign_id, a.group_id, a.position LIMIT $2) ahead
            WHERE g.campaign_id = c.campaign_id AND ($4::int4[] IS NULL OR g.group_id = ANY($4))
            LIMIT $2) ahead),
        (SELECT count(*) FROM (SELECT FROM due_contacts d
            WHERE d.campaign_id = c.campaign_id AND d.run = c.run AND d.due_at <= $3
                AND ($4::int4[] IS NULL OR d.group_id = ANY($4))
            ORDER BY d.campaign_id, d.run, d.due_at LIMIT $2) due),
        (SELECT d.due_at FROM due_contacts d
            WHERE d.campaign_id = c.campaign_id AND d.run = c.run AND d.due_at <= $3
            ORDER BY d.campaign_id, d.run, d.due_at LIMIT 1)
        FROM campaigns c JOIN runs r ON r.campaign_id = c.campaign_id AND r.run = c.run
        WHERE c.campaign_id = $1";
    let row = tx.query_opt(sql, &[&campaign, &most, &tx.now, &groups]).await?;
    Ok(row.map(|row| Waiting { ahead: row.get(0), due: row.get(1), oldest_due: row.get(2) }))
}

/// Counts the leased contacts that are not dialled yet, and the contacts in a call. Reads at most
/// `most` leases.
pub async fn held(tx: &Tx<'_>, most: i64) -> StoreResult<(usize, usize)> {
    let rows = tx.query("SELECT slots FROM leases LIMIT $1", &[&most]).await?;
    let slots = rows.iter().map(|row| Slots::from_bytes(row.get(0)));
    Ok(slots.fold((0, 0), |(leased, in_call), slots| {
        let count = |state| slots.in_state(state).len();
        (leased + count(Slot::Leased), in_call + count(Slot::Authorized))
    }))
}

/// Counts the contacts whose history from before a reset is still to be deleted.
pub async fn purges(tx: &Tx<'_>) -> StoreResult<i64> {
    let sql = "SELECT COALESCE(sum(GREATEST(k.next_position - p.position, 0)), 0)::int8
        FROM history_purges p JOIN campaign_counters k ON k.campaign_id = p.campaign_id";
    Ok(tx.query_one(sql, &[]).await?.get(0))
}
