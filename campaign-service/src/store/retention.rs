//! Deletion of history by age. Records of calls and other facts are deleted. Facts that decide
//! about a contact, above all an opt-out, are in the contact's state and stay.
//!
//! Tables are walked in order of key, a page at a time, so that no page costs more than another.

use super::{StoreResult, Tx};
use campaign_domain::Instant;
use uuid::Uuid;

/// Position of a sweep in each table: the last key looked at.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    interaction: (Uuid, i64, String),
    call_report: (Uuid, i64, i64),
}

/// Deletes the interactions of the next page that were recorded before a time. Starts again after
/// the last page.
pub async fn step_interactions(
    tx: &Tx<'_>,
    sweep: &mut Sweep,
    before: Instant,
    rows: i64,
) -> StoreResult<()> {
    let (campaign, position, id) = sweep.interaction.clone();
    let find = "SELECT campaign_id, position, interaction_id FROM interactions
        WHERE (campaign_id, position, interaction_id) > ($1, $2, $3 COLLATE \"C\")
        ORDER BY campaign_id, position, interaction_id LIMIT 1 OFFSET $4";
    let last = tx.query_opt(find, &[&campaign, &position, &id, &(rows - 1)]).await?;
    let last = last.map(|row| (row.get(0), row.get(1), row.get(2)));
    let end = last.clone().unwrap_or((Uuid::max(), i64::MAX, String::new()));
    let delete = "DELETE FROM interactions
        WHERE (campaign_id, position, interaction_id) > ($1, $2, $3 COLLATE \"C\")
            AND (campaign_id, position, interaction_id) <= ($4, $5, $6 COLLATE \"C\")
            AND recorded_at < $7";
    tx.execute(delete, &[&campaign, &position, &id, &end.0, &end.1, &end.2, &before]).await?;
    sweep.interaction = last.unwrap_or_default();
    Ok(())
}

/// Deletes the ends of calls of the next page that were recorded before a time. Starts again after
/// the last page.
pub async fn step_calls(
    tx: &Tx<'_>,
    sweep: &mut Sweep,
    before: Instant,
    rows: i64,
) -> StoreResult<()> {
    let (campaign, lease, report) = sweep.call_report;
    let find = "SELECT campaign_id, lease, report FROM call_reports
        WHERE (campaign_id, lease, report) > ($1, $2, $3)
        ORDER BY campaign_id, lease, report LIMIT 1 OFFSET $4";
    let last = tx.query_opt(find, &[&campaign, &lease, &report, &(rows - 1)]).await?;
    let last = last.map(|row| (row.get(0), row.get(1), row.get(2)));
    let end = last.unwrap_or((Uuid::max(), i64::MAX, i64::MAX));
    let delete = "DELETE FROM call_reports
        WHERE (campaign_id, lease, report) > ($1, $2, $3)
            AND (campaign_id, lease, report) <= ($4, $5, $6) AND recorded_at < $7";
    tx.execute(delete, &[&campaign, &lease, &report, &end.0, &end.1, &end.2, &before]).await?;
    sweep.call_report = last.unwrap_or_default();
    Ok(())
}
