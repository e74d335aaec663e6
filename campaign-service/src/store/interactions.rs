//! Interactions: the facts that were reported.

use super::states::{outcome_from_number, outcome_number};
use super::{StoreError, StoreResult, Tx};
use campaign_domain::Instant;
use campaign_domain::history::Fact;
use campaign_domain::lease::AttemptId;
use std::pin::pin;
use tokio_postgres::Row;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// An interaction as stored.
#[derive(Clone, Debug)]
pub struct Interaction {
    pub position: i64,
    pub key: String,
    pub generation: i32,
    /// Of the attempt, else of the campaign when it was recorded.
    pub run: i32,
    pub attempt: Option<AttemptId>,
    pub fact: Fact,
    pub occurred_at: Option<Instant>,
    pub recorded_at: Instant,
}

/// A fact in columns.
struct Columns<'a> {
    kind: i16,
    outcome: Option<i16>,
    seconds: i32,
    detail: &'a str,
}

fn columns(fact: &Fact) -> Columns<'_> {
    let plain = |kind, seconds, detail| Columns { kind, outcome: None, seconds, detail };
    match fact {
        Fact::CallEnded { outcome, duration_seconds } => {
            Columns { outcome: outcome_number(*outcome), ..plain(0, *duration_seconds, "") }
        }
        Fact::Transferred { seconds_before_transfer } => plain(1, *seconds_before_transfer, ""),
        Fact::OptedOut { channel } => plain(2, 0, channel),
        Fact::Success => plain(3, 0, ""),
        Fact::LinkOpened { link } => plain(4, 0, link),
        Fact::TextSent => plain(5, 0, ""),
    }
}

fn read_fact(row: &Row) -> StoreResult<Fact> {
    let (kind, outcome, seconds): (i16, Option<i16>, i32) =
        (row.get("kind"), row.get("outcome"), row.get("seconds"));
    Ok(match (kind, outcome) {
        (0, Some(outcome)) => {
            Fact::CallEnded { outcome: outcome_from_number(outcome)?, duration_seconds: seconds }
        }
        (1, _) => Fact::Transferred { seconds_before_transfer: seconds },
        (2, _) => Fact::OptedOut { channel: row.get("detail") },
        (3, _) => Fact::Success,
        (4, _) => Fact::LinkOpened { link: row.get("detail") },
        (5, _) => Fact::TextSent,
        _ => return Err(StoreError::Corrupt(format!("fact kind {kind}"))),
    })
}

/// Interactions recorded before under the same keys, of any generation.
pub async fn find_recorded(
    tx: &Tx<'_>,
    campaign: Uuid,
    keys: &[(i64, &str)],
) -> StoreResult<Vec<(i64, String, Fact)>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let (positions, keys): (Vec<i64>, Vec<&str>) = keys.iter().copied().unzip();
    let sql = "SELECT k.position, k.key, i.kind, i.outcome, i.seconds, i.detail
        FROM unnest($2::int8[], $3::text[]) AS k(position, key)
        CROSS JOIN LATERAL (SELECT kind, outcome, seconds, detail FROM interactions i
            WHERE i.campaign_id = $1 AND i.position = k.position AND i.key = k.key LIMIT 1) i";
    let rows = tx.query(sql, &[&campaign, &positions, &keys]).await?;
    rows.iter().map(|row| Ok((row.get("position"), row.get("key"), read_fact(row)?))).collect()
}

/// Appends interactions whose keys are new.
pub async fn append(tx: &Tx<'_>, campaign: Uuid, new: &[&Interaction]) -> StoreResult<()> {
    if new.is_empty() {
        return Ok(());
    }
    let sql = "COPY interactions (campaign_id, position, key, generation, run, lease, slot, kind,
        outcome, seconds, detail, occurred_at, recorded_at) FROM STDIN BINARY";
    let types = [
        Type::UUID,
        Type::INT8,
        Type::TEXT,
        Type::INT4,
        Type::INT4,
        Type::INT8,
        Type::INT4,
        Type::INT2,
        Type::INT2,
        Type::INT4,
        Type::TEXT,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
    ];
    let mut rows = pin!(BinaryCopyInWriter::new(tx.copy_in(sql).await?, &types));
    for interaction in new {
        let fact = columns(&interaction.fact);
        let lease = interaction.attempt.map(|attempt| attempt.lease);
        let slot = interaction.attempt.and_then(|attempt| i32::try_from(attempt.slot).ok());
        rows.as_mut()
            .write(&[
                &campaign,
                &interaction.position,
                &interaction.key,
                &interaction.generation,
                &interaction.run,
                &lease,
                &slot,
                &fact.kind,
                &fact.outcome,
                &fact.seconds,
                &fact.detail,
                &interaction.occurred_at,
                &interaction.recorded_at,
            ])
            .await?;
    }
    rows.finish().await?;
    Ok(())
}

/// Puts the real end of a call in place of an UNKNOWN one.
pub async fn replace_end(tx: &Tx<'_>, campaign: Uuid, end: &Interaction) -> StoreResult<()> {
    let fact = columns(&end.fact);
    let sql =
        "UPDATE interactions SET outcome = $4, seconds = $5, occurred_at = $6, recorded_at = $7
        WHERE campaign_id = $1 AND position = $2 AND key = $3";
    tx.execute(
        sql,
        &[
            &campaign,
            &end.position,
            &end.key,
            &fact.outcome,
            &fact.seconds,
            &end.occurred_at,
            &end.recorded_at,
        ],
    )
    .await?;
    Ok(())
}

/// A contact's interactions in a generation, oldest first, after the last of the page before.
pub async fn list(
    tx: &Tx<'_>,
    campaign: Uuid,
    position: i64,
    generation: i32,
    after: Option<(Instant, &str)>,
    limit: i64,
) -> StoreResult<Vec<Interaction>> {
    let (time, key) = after.unzip();
    let sql = "SELECT position, key, generation, run, lease, slot, kind, outcome, seconds, detail,
            occurred_at, recorded_at
        FROM interactions
        WHERE campaign_id = $1 AND position = $2 AND generation = $3
            AND ($4::timestamptz IS NULL OR (recorded_at, key) > ($4, $5::text COLLATE \"C\"))
        ORDER BY recorded_at, key LIMIT $6";
    let rows = tx.query(sql, &[&campaign, &position, &generation, &time, &key, &limit]).await?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> StoreResult<Interaction> {
    let run = row.get("run");
    let (lease, slot): (Option<i64>, Option<i32>) = (row.get("lease"), row.get("slot"));
    let slot = slot.and_then(|slot| usize::try_from(slot).ok());
    Ok(Interaction {
        position: row.get("position"),
        key: row.get("key"),
        generation: row.get("generation"),
        run,
        attempt: lease.zip(slot).map(|(lease, slot)| AttemptId { run, lease, slot }),
        fact: read_fact(row)?,
        occurred_at: row.get("occurred_at"),
        recorded_at: row.get("recorded_at"),
    })
}
