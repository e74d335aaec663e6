//! Audit logs of campaigns and of suppression lists.

use super::{Params, StoreError, StoreResult, Tx};
use campaign_domain::access::Tenant;
use campaign_domain::lifecycle::State;
use campaign_domain::{Instant, audit};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::try_join;
use tokio_postgres::Row;
use uuid::Uuid;

/// Entry to add.
#[derive(Debug)]
pub struct Entry<'a> {
    /// Id of the campaign, or of a suppression list's log ([`list_log`]).
    pub campaign: Uuid,
    pub actor: &'a str,
    pub reason: &'a str,
    pub command: &'a str,
    pub before: Option<State>,
    /// State after the command; `None` in the log of a suppression list, which has no state.
    pub after: Option<State>,
    pub run: i32,
    pub request_id: &'a str,
    pub details: Value,
}

/// Namespace of the ids of suppression lists' logs. No campaign has such an id.
const LISTS: Uuid = Uuid::from_u128(0x8c2f_51d3_7a64_4e0b_9d1e_35f0_6b7a_c419);

/// Returns the id under which a tenant's suppression list has its log.
#[must_use]
pub fn list_log(tenant: &Tenant) -> Uuid {
    Uuid::new_v5(&LISTS, tenant.name().as_bytes())
}

/// Adds an entry, chained to the previous one, and returns its number. For the numbering, the
/// caller must hold the gate of the log's campaign exclusively.
pub async fn insert(tx: &Tx<'_>, entry: &Entry<'_>) -> StoreResult<i64> {
    let find = "SELECT h.event_number, h.hash, pg_current_snapshot()::text,
            COALESCE((SELECT max(event_number) FROM audit_events WHERE campaign_id = $1), 0)
        FROM (SELECT $1::uuid AS campaign_id) c LEFT JOIN audit_heads h USING (campaign_id)";
    let row = tx.query_one(find, &[&entry.campaign]).await?;
    let head = read_head(row.get(0), row.get(1))?;
    let last: i64 = row.get(3);
    // A used number is never used again, even if its event is gone.
    let number = last.max(head.map_or(0, |head| head.number)) + 1;
    let event = audit::Event {
        campaign: entry.campaign.as_u128(),
        number,
        happened_at: tx.now,
        actor: entry.actor.to_owned(),
        reason: entry.reason.to_owned(),
        command: entry.command.to_owned(),
        state_before: entry.before.map(|state| state.name().to_owned()),
        state_after: entry.after.map_or("", State::name).to_owned(),
        run: entry.run,
        request_id: entry.request_id.to_owned(),
        details: canonical(&entry.details),
        snapshot: shifted(row.get(2), tx.transaction_shift())?,
    };
    let hash = event.hash(&head.map_or(audit::NOTHING_BEFORE, |head| head.hash));
    let sql = "INSERT INTO audit_events (campaign_id, event_number, happened_at, actor, reason,
            command, state_before, state_after, run, request_id, details, snapshot, hash)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12::text::pg_snapshot, $13)";
    let hash: &[u8] = &hash;
    let add: Params<'_> = &[
        &entry.campaign,
        &number,
        &tx.now,
        &event.actor,
        &event.reason,
        &event.command,
        &event.state_before,
        &event.state_after,
        &event.run,
        &event.request_id,
        &entry.details,
        &event.snapshot,
        &hash,
    ];
    let save = "INSERT INTO audit_heads (campaign_id, event_number, hash) VALUES ($1, $2, $3)
        ON CONFLICT (campaign_id) DO UPDATE SET event_number = $2, hash = $3";
    let keep: Params<'_> = &[&entry.campaign, &number, &hash];
    try_join!(tx.execute(sql, add), tx.execute(save, keep))?;
    Ok(number)
}

/// Shifts a snapshot of this cluster to the stored form: xmin:xmax:ids under way.
fn shifted(snapshot: &str, shift: i64) -> StoreResult<String> {
    let shifted = |id: &str| match id.parse::<i64>() {
        Ok(id) => Ok((id + shift).to_string()),
        Err(_) => Err(StoreError::Corrupt("a snapshot of the database".to_owned())),
    };
    let parts = snapshot.split(':').map(|part| {
        let ids = part.split(',').filter(|id| !id.is_empty()).map(shifted);
        Ok(ids.collect::<StoreResult<Vec<_>>>()?.join(","))
    });
    Ok(parts.collect::<StoreResult<Vec<_>>>()?.join(":"))
}

/// Writes JSON in canonical form, whoever wrote the value: keys in order, no spaces.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let ordered: BTreeMap<&String, &Value> = fields.iter().collect();
            let parts: Vec<String> = ordered
                .into_iter()
                .map(|(key, value)| format!("{}:{}", json!(key), canonical(value)))
                .collect();
            format!("{{{}}}", parts.join(","))
        }
        Value::Array(items) => {
            let parts: Vec<String> = items.iter().map(canonical).collect();
            format!("[{}]", parts.join(","))
        }
        simple => simple.to_string(),
    }
}

fn read_hash(bytes: &[u8]) -> StoreResult<audit::Hash> {
    bytes.try_into().map_err(|_| StoreError::Corrupt("a hash in the audit log".to_owned()))
}

fn read_head(number: Option<i64>, hash: Option<&[u8]>) -> StoreResult<Option<audit::Head>> {
    let Some((number, hash)) = number.zip(hash) else { return Ok(None) };
    Ok(Some(audit::Head { number, hash: read_hash(hash)? }))
}

/// Returns the number and hash of a campaign's last event.
pub async fn head(tx: &Tx<'_>, campaign: Uuid) -> StoreResult<Option<audit::Head>> {
    let sql = "SELECT event_number, hash FROM audit_heads WHERE campaign_id = $1";
    let row = tx.query_opt(sql, &[&campaign]).await?;
    row.map_or(Ok(None), |row| read_head(row.get(0), row.get(1)))
}

/// Returns whole entries after a number, in order, each with its hash.
pub async fn chain(
    tx: &Tx<'_>,
    campaign: Uuid,
    after: i64,
    limit: i64,
) -> StoreResult<Vec<(audit::Event, Option<audit::Hash>)>> {
    let sql =
        "SELECT event_number, happened_at, actor, reason, command, state_before, state_after, run,
            request_id, details, snapshot::text AS snapshot_text, hash FROM audit_events
        WHERE campaign_id = $1 AND event_number > $2 ORDER BY event_number LIMIT $3";
    let read = |row: &Row| {
        let event = audit::Event {
            campaign: campaign.as_u128(),
            number: row.get("event_number"),
            happened_at: row.get("happened_at"),
            actor: row.get("actor"),
            reason: row.get("reason"),
            command: row.get("command"),
            state_before: row.get("state_before"),
            state_after: row.get("state_after"),
            run: row.get("run"),
            request_id: row.get("request_id"),
            details: canonical(&row.get("details")),
            snapshot: row.get("snapshot_text"),
        };
        let hash: Option<&[u8]> = row.get("hash");
        Ok((event, hash.map(read_hash).transpose()?))
    };
    tx.query(sql, &[&campaign, &after, &limit]).await?.iter().map(read).collect()
}

/// Lists campaigns that exist or that the log knows, in order of id after `after`.
pub async fn campaigns(tx: &Tx<'_>, after: Uuid, limit: i64) -> StoreResult<Vec<Uuid>> {
    let sql = "SELECT campaign_id FROM campaigns WHERE campaign_id > $1
        UNION SELECT campaign_id FROM audit_heads WHERE campaign_id > $1
        UNION SELECT campaign_id FROM audit_events WHERE campaign_id > $1
        ORDER BY campaign_id LIMIT $2";
    Ok(tx.query(sql, &[&after, &limit]).await?.iter().map(|row| row.get(0)).collect())
}

/// Entry as stored.
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

const EVENT_COLUMNS: &str = "event_number, happened_at, actor, reason, command, state_before,
    state_after, run, request_id";

fn read_event(row: &Row) -> Event {
    Event {
        number: row.get("event_number"),
        happened_at: row.get("happened_at"),
        actor: row.get("actor"),
        reason: row.get("reason"),
        command: row.get("command"),
        before: row.get::<_, Option<&str>>("state_before").and_then(State::from_name),
        after: State::from_name(row.get("state_after")),
        run: row.get("run"),
        request_id: row.get("request_id"),
    }
}

/// Lists entries with a number below `before`, newest first.
pub async fn list(
    tx: &Tx<'_>,
    campaign: Uuid,
    before: Option<i64>,
    limit: i64,
) -> StoreResult<Vec<Event>> {
    let sql = format!(
        "SELECT {EVENT_COLUMNS} FROM audit_events
         WHERE campaign_id = $1 AND event_number < COALESCE($2, 9223372036854775807)
         ORDER BY event_number DESC LIMIT $3"
    );
    Ok(tx.query(&sql, &[&campaign, &before, &limit]).await?.iter().map(read_event).collect())
}

/// Returns the entries with these numbers, newest first.
pub async fn some(tx: &Tx<'_>, campaign: Uuid, numbers: &[i64]) -> StoreResult<Vec<Event>> {
    let sql = format!(
        "SELECT e.* FROM unnest($2::int8[]) AS w(number) CROSS JOIN LATERAL (
             SELECT {EVENT_COLUMNS} FROM audit_events
             WHERE campaign_id = $1 AND event_number = w.number LIMIT 1) e
         ORDER BY e.event_number DESC"
    );
    Ok(tx.query(&sql, &[&campaign, &numbers]).await?.iter().map(read_event).collect())
}
