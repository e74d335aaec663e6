//! The audit log.

use super::{StoreResult, Tx};
use campaign_domain::Instant;
use campaign_domain::lifecycle::State;
use uuid::Uuid;

/// One entry to add.
#[derive(Debug)]
pub struct Entry<'a> {
    pub campaign: Uuid,
    pub actor: &'a str,
    pub reason: &'a str,
    pub command: &'a str,
    pub before: Option<State>,
    pub after: State,
    pub run: i32,
    pub request_id: &'a str,
    pub details: serde_json::Value,
}

/// Adds an entry. The campaign's gate must be held alone, for the numbering.
pub async fn insert(tx: &Tx<'_>, entry: &Entry<'_>) -> StoreResult<()> {
    let sql = "INSERT INTO audit_events (campaign_id, event_number, happened_at, actor, reason,
            command, state_before, state_after, run, request_id, details)
        SELECT $1, COALESCE(max(event_number), 0) + 1, $2, $3, $4, $5, $6, $7, $8, $9, $10
        FROM audit_events WHERE campaign_id = $1";
    tx.execute(
        sql,
        &[
            &entry.campaign,
            &tx.now,
            &entry.actor,
            &entry.reason,
            &entry.command,
            &entry.before.map(State::name),
            &entry.after.name(),
            &entry.run,
            &entry.request_id,
            &entry.details,
        ],
    )
    .await?;
    Ok(())
}

/// One entry as stored.
#[derive(Debug)]
pub struct Event {
    pub number: i64,
    pub happened_at: Instant,
    pub actor: String,
    pub reason: String,
    pub command: String,
    pub before: Option<State>,
    pub after: Option<State>,
    pub run: i32,
    pub request_id: String,
}

/// Entries, newest first, before the number given.
pub async fn list(
    tx: &Tx<'_>,
    campaign: Uuid,
    before: Option<i64>,
    limit: i64,
) -> StoreResult<Vec<Event>> {
    let sql = "SELECT * FROM audit_events
        WHERE campaign_id = $1 AND ($2::int8 IS NULL OR event_number < $2)
        ORDER BY event_number DESC LIMIT $3";
    let rows = tx.query(sql, &[&campaign, &before, &limit]).await?;
    Ok(rows
        .iter()
        .map(|row| Event {
            number: row.get("event_number"),
            happened_at: row.get("happened_at"),
            actor: row.get("actor"),
            reason: row.get("reason"),
            command: row.get("command"),
            before: row.get::<_, Option<&str>>("state_before").and_then(State::from_name),
            after: State::from_name(row.get("state_after")),
            run: row.get("run"),
            request_id: row.get("request_id"),
        })
        .collect())
}
