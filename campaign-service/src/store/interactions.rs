//! Interactions: the reported facts. Except: ends of calls are stored among the calls.

use super::{StoreError, StoreResult, Tx};
use campaign_domain::Instant;
use campaign_domain::facts::Fact;
use campaign_domain::lease::AttemptId;
use std::pin::pin;
use tokio_postgres::Row;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// Interaction as stored.
#[derive(Clone, Debug)]
pub struct Interaction {
    pub position: i64,
    pub id: String,
    pub generation: i32,
    /// Run of the attempt. Without an attempt: the campaign's run at the time of recording.
    pub run: i32,
    pub attempt: Option<AttemptId>,
    /// Fact, but never the end of a call, which is stored among the calls.
    pub fact: Fact,
    pub occurred_at: Option<Instant>,
    pub recorded_at: Instant,
}

/// Returns kind, seconds and detail of a fact, or `None` for the end of a call.
fn columns(fact: &Fact) -> Option<(i16, i32, &str)> {
    Some(match fact {
        Fact::CallEnded { .. } => return None,
        Fact::Transferred { seconds_before_transfer } => (1, *seconds_before_transfer, ""),
        Fact::OptedOut { channel, .. } => (2, 0, channel),
        Fact::Success => (3, 0, ""),
        Fact::LinkOpened { link } => (4, 0, link),
        Fact::TextSent => (5, 0, ""),
        Fact::CalledIn { duration_seconds } => (6, *duration_seconds, ""),
    })
}

fn read_fact(row: &Row) -> StoreResult<Fact> {
    Ok(match row.get("kind") {
        1_i16 => Fact::Transferred { seconds_before_transfer: row.get("seconds") },
        2 => Fact::OptedOut { channel: row.get("detail"), everywhere: row.get("everywhere") },
        3 => Fact::Success,
        4 => Fact::LinkOpened { link: row.get("detail") },
        5 => Fact::TextSent,
        6 => Fact::CalledIn { duration_seconds: row.get("seconds") },
        kind => return Err(StoreError::Corrupt(format!("fact kind {kind}"))),
    })
}

/// Returns which of these interactions, by position and id, were recorded before, in any
/// generation.
pub async fn find_recorded(
    tx: &Tx<'_>,
    campaign: Uuid,
    wanted: &[(i64, &str)],
) -> StoreResult<Vec<(i64, String)>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let (positions, ids): (Vec<i64>, Vec<&str>) = wanted.iter().copied().unzip();
    let sql = "SELECT w.position, w.id FROM unnest($2::int8[], $3::text[]) AS w(position, id)
        CROSS JOIN LATERAL (SELECT FROM interactions i WHERE i.campaign_id = $1
            AND i.position = w.position AND i.interaction_id = w.id LIMIT 1) i";
    let rows = tx.query(sql, &[&campaign, &positions, &ids]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Appends interactions whose ids are new.
pub async fn append(tx: &Tx<'_>, campaign: Uuid, new: &[Interaction]) -> StoreResult<()> {
    if new.is_empty() {
        return Ok(());
    }
    let sql =
        "COPY interactions (campaign_id, position, interaction_id, generation, run, lease, slot,
        kind, seconds, detail, everywhere, occurred_at, recorded_at) FROM STDIN BINARY";
    let types = [
        Type::UUID,
        Type::INT8,
        Type::TEXT,
        Type::INT4,
        Type::INT4,
        Type::INT8,
        Type::INT4,
        Type::INT2,
        Type::INT4,
        Type::TEXT,
        Type::BOOL,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
    ];
    let mut rows = pin!(BinaryCopyInWriter::new(tx.copy_in(sql).await?, &types));
    tx.answered(async {
        for interaction in new {
            let Some((kind, seconds, detail)) = columns(&interaction.fact) else { continue };
            let lease = interaction.attempt.map(|attempt| attempt.lease);
            let slot = interaction.attempt.and_then(|attempt| i32::try_from(attempt.slot).ok());
            rows.as_mut()
                .write(&[
                    &campaign,
                    &interaction.position,
                    &interaction.id,
                    &interaction.generation,
                    &interaction.run,
                    &lease,
                    &slot,
                    &kind,
                    &seconds,
                    &detail,
                    &interaction.fact.suppresses(),
                    &interaction.occurred_at,
                    &interaction.recorded_at,
                ])
                .await?;
        }
        rows.finish().await
    })
    .await?;
    Ok(())
}

/// Deletes a contact's interactions of all generations. Returns how many.
pub async fn delete_of(tx: &Tx<'_>, campaign: Uuid, position: i64) -> StoreResult<i64> {
    let sql = "DELETE FROM interactions WHERE campaign_id = $1 AND position = $2";
    let deleted = tx.execute(sql, &[&campaign, &position]).await?;
    Ok(i64::try_from(deleted).unwrap_or(i64::MAX))
}

/// Lists a contact's interactions in a generation, oldest first, after the last one of the previous
/// page.
pub async fn list(
    tx: &Tx<'_>,
    campaign: Uuid,
    position: i64,
    generation: i32,
    after: Option<(Instant, &str)>,
    limit: i64,
) -> StoreResult<Vec<Interaction>> {
    let (time, id) = after.unzip();
    let sql =
        "SELECT position, interaction_id, generation, run, lease, slot, kind, seconds, detail,
            everywhere, occurred_at, recorded_at
        FROM interactions
        WHERE campaign_id = $1 AND position = $2 AND generation = $3
            AND (recorded_at, interaction_id) > (COALESCE($4::timestamptz, '-infinity'),
                COALESCE($5, '') COLLATE \"C\")
        ORDER BY recorded_at, interaction_id LIMIT $6";
    let rows = tx.query(sql, &[&campaign, &position, &generation, &time, &id, &limit]).await?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> StoreResult<Interaction> {
    let run = row.get("run");
    let (lease, slot): (Option<i64>, Option<i32>) = (row.get("lease"), row.get("slot"));
    let slot = slot.and_then(|slot| usize::try_from(slot).ok());
    Ok(Interaction {
        position: row.get("position"),
        id: row.get("interaction_id"),
        generation: row.get("generation"),
        run,
        attempt: lease.zip(slot).map(|(lease, slot)| AttemptId { run, lease, slot }),
        fact: read_fact(row)?,
        occurred_at: row.get("occurred_at"),
        recorded_at: row.get("recorded_at"),
    })
}
