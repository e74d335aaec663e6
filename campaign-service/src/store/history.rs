//! Interactions, and the state of contacts that follows from them.

use super::{StoreError, StoreResult, Tx, from_json, to_json};
use campaign_domain::Instant;
use campaign_domain::history::{CallOutcome, ContactState, Fact, Flags};
use campaign_domain::settings::Epoch;
use tokio_postgres::Row;
use uuid::Uuid;

/// Outcomes by their stored number.
const OUTCOMES: [CallOutcome; 6] = [
    CallOutcome::Answered,
    CallOutcome::NoAnswer,
    CallOutcome::Busy,
    CallOutcome::Voicemail,
    CallOutcome::Failed,
    CallOutcome::Unknown,
];

fn outcome_number(outcome: CallOutcome) -> Option<i16> {
    OUTCOMES.iter().position(|known| *known == outcome).and_then(|index| i16::try_from(index).ok())
}

fn outcome_from_number(number: i16) -> StoreResult<CallOutcome> {
    usize::try_from(number)
        .ok()
        .and_then(|index| OUTCOMES.get(index).copied())
        .ok_or_else(|| StoreError::Corrupt(format!("outcome {number}")))
}

/// Reads the columns of contact_states, which may all be null: nothing happened yet.
pub(super) fn read_state(row: &Row) -> StoreResult<ContactState> {
    let Some(generation) = row.get("generation") else { return Ok(ContactState::default()) };
    let outcome: Option<i16> = row.get("last_outcome");
    Ok(ContactState {
        epoch: Epoch { generation, cycle: row.get("cycle") },
        flags: Flags(row.get("flags")),
        longest_transfer_seconds: row.get("longest_transfer_seconds"),
        attempts: row.get("attempts"),
        last_outcome: outcome.map(outcome_from_number).transpose()?,
        refused_run: row.get("refused_run"),
        cycle_flags: Flags(row.get("cycle_flags")),
        cycle_attempts: row.get("cycle_attempts"),
        finished: row.get("finished"),
        due_at: row.get("due_at"),
    })
}

/// Writes the states of contacts. The campaign's gate must be held alone.
pub async fn upsert_states(
    tx: &Tx<'_>,
    campaign: Uuid,
    states: &[(i64, ContactState)],
) -> StoreResult<()> {
    macro_rules! column {
        ($value:expr) => {
            states.iter().map($value).collect::<Vec<_>>()
        };
    }
    let sql = "INSERT INTO contact_states (campaign_id, position, generation, cycle, flags,
            cycle_flags, longest_transfer_seconds, attempts, cycle_attempts, last_outcome,
            refused_run, finished, due_at)
        SELECT $1, * FROM unnest($2::int8[], $3::int[], $4::int[], $5::int2[], $6::int2[], $7::int[],
            $8::int[], $9::int[], $10::int2[], $11::int[], $12::bool[], $13::timestamptz[])
        ON CONFLICT (campaign_id, position) DO UPDATE SET generation = excluded.generation,
            cycle = excluded.cycle, flags = excluded.flags, cycle_flags = excluded.cycle_flags,
            longest_transfer_seconds = excluded.longest_transfer_seconds,
            attempts = excluded.attempts, cycle_attempts = excluded.cycle_attempts,
            last_outcome = excluded.last_outcome, refused_run = excluded.refused_run,
            finished = excluded.finished, due_at = excluded.due_at";
    tx.execute(
        sql,
        &[
            &campaign,
            &column!(|(position, _)| *position),
            &column!(|(_, state)| state.epoch.generation),
            &column!(|(_, state)| state.epoch.cycle),
            &column!(|(_, state)| state.flags.0),
            &column!(|(_, state)| state.cycle_flags.0),
            &column!(|(_, state)| state.longest_transfer_seconds),
            &column!(|(_, state)| state.attempts),
            &column!(|(_, state)| state.cycle_attempts),
            &column!(|(_, state)| state.last_outcome.and_then(outcome_number)),
            &column!(|(_, state)| state.refused_run),
            &column!(|(_, state)| state.finished),
            &column!(|(_, state)| state.due_at),
        ],
    )
    .await?;
    Ok(())
}

/// An interaction as stored.
#[derive(Clone, Debug)]
pub struct Interaction {
    pub position: i64,
    pub key: String,
    pub generation: i32,
    pub run: i32,
    /// Empty when it belongs to no attempt.
    pub attempt_id: String,
    pub fact: Fact,
    pub occurred_at: Option<Instant>,
    pub recorded_at: Instant,
}

/// Interactions recorded before under the same keys, of any generation.
pub async fn find_recorded(
    tx: &Tx<'_>,
    campaign: Uuid,
    keys: &[(i64, &str)],
) -> StoreResult<Vec<(i64, String, Fact)>> {
    let (positions, keys): (Vec<i64>, Vec<&str>) = keys.iter().copied().unzip();
    let sql = "SELECT k.position, k.key, i.fact
        FROM unnest($2::int8[], $3::text[]) AS k(position, key)
        CROSS JOIN LATERAL (SELECT fact FROM interactions i
            WHERE i.campaign_id = $1 AND i.position = k.position AND i.key = k.key LIMIT 1) i";
    let rows = tx.query(sql, &[&campaign, &positions, &keys]).await?;
    rows.iter().map(|row| Ok((row.get(0), row.get(1), from_json(row.get(2))?))).collect()
}

/// Appends interactions; one that is there already is replaced (an UNKNOWN outcome by the real one).
pub async fn append(tx: &Tx<'_>, campaign: Uuid, new: &[Interaction]) -> StoreResult<()> {
    macro_rules! column {
        ($value:expr) => {
            new.iter().map($value).collect::<Vec<_>>()
        };
    }
    let facts = new
        .iter()
        .map(|interaction| to_json(&interaction.fact))
        .collect::<StoreResult<Vec<_>>>()?;
    let sql = "INSERT INTO interactions (campaign_id, position, key, generation, run, attempt_id,
            fact, occurred_at, recorded_at)
        SELECT $1, * FROM unnest($2::int8[], $3::text[], $4::int[], $5::int[], $6::text[],
            $7::jsonb[], $8::timestamptz[], $9::timestamptz[])
        ON CONFLICT (campaign_id, position, key) DO UPDATE SET fact = excluded.fact,
            occurred_at = excluded.occurred_at, recorded_at = excluded.recorded_at";
    tx.execute(
        sql,
        &[
            &campaign,
            &column!(|new| new.position),
            &column!(|new| new.key.as_str()),
            &column!(|new| new.generation),
            &column!(|new| new.run),
            &column!(|new| new.attempt_id.as_str()),
            &facts,
            &column!(|new| new.occurred_at),
            &column!(|new| new.recorded_at),
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
    let sql = "SELECT * FROM interactions
        WHERE campaign_id = $1 AND position = $2 AND generation = $3
            AND ($4::timestamptz IS NULL OR (recorded_at, key) > ($4, $5::text))
        ORDER BY recorded_at, key LIMIT $6";
    let rows = tx.query(sql, &[&campaign, &position, &generation, &time, &key, &limit]).await?;
    rows.iter()
        .map(|row| {
            Ok(Interaction {
                position: row.get("position"),
                key: row.get("key"),
                generation: row.get("generation"),
                run: row.get("run"),
                attempt_id: row.get("attempt_id"),
                fact: from_json(row.get("fact"))?,
                occurred_at: row.get("occurred_at"),
                recorded_at: row.get("recorded_at"),
            })
        })
        .collect()
}
