//! Standings of campaigns, for callers that only need to know what stopped.

use super::{Connection, StoreError, StoreResult};
use campaign_domain::lifecycle::State;
use uuid::Uuid;

/// Standing of a campaign: its state and run, and whether it hangs up calls.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    pub campaign: Uuid,
    pub state: State,
    pub run: i32,
    /// Whether the campaign is paused in a way that hangs up calls in progress.
    pub hangs_up: bool,
    pub is_deleted: bool,
}

/// Returns the standings of some campaigns, deleted or not.
pub async fn find(connection: &Connection, ids: &[Uuid]) -> StoreResult<Vec<Standing>> {
    let sql = "SELECT c.campaign_id, c.state, c.run, c.deleted_at IS NOT NULL AS is_deleted,
            c.state = 'PAUSED' AND COALESCE((SELECT (e.details->>'hang_up_calls')::bool FROM audit_events e
                WHERE e.campaign_id = c.campaign_id AND e.command = 'PAUSE'
                ORDER BY e.event_number DESC LIMIT 1), false) AS hangs_up
        FROM unnest($1::uuid[]) AS w(id) CROSS JOIN LATERAL (
            SELECT campaign_id, state, run, deleted_at FROM campaigns WHERE campaign_id = w.id LIMIT 1) c";
    let rows = connection.alone().query(sql, &[&ids]).await?;
    rows.iter()
        .map(|row| {
            let state: &str = row.get("state");
            Ok(Standing {
                campaign: row.get("campaign_id"),
                state: State::from_name(state)
                    .ok_or_else(|| StoreError::Corrupt(state.to_owned()))?,
                run: row.get("run"),
                hangs_up: row.get("hangs_up"),
                is_deleted: row.get("is_deleted"),
            })
        })
        .collect()
}
