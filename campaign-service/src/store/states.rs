//! What is known of contacts: domain type ContactState.

use super::{StoreError, StoreResult, Tx};
use campaign_domain::history::{CallOutcome, ContactState, Flags};
use campaign_domain::settings::Epoch;
use std::collections::HashMap;
use std::pin::pin;
use tokio_postgres::Row;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;
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

pub(super) fn outcome_number(outcome: CallOutcome) -> Option<i16> {
    OUTCOMES.iter().position(|known| *known == outcome).and_then(|index| i16::try_from(index).ok())
}

pub(super) fn outcome_from_number(number: i16) -> StoreResult<CallOutcome> {
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

/// The states of contacts that something happened to; locked against nobody: the caller holds the
/// contacts' leases or the campaign's gate.
pub async fn find(
    tx: &Tx<'_>,
    campaign: Uuid,
    positions: &[i64],
) -> StoreResult<HashMap<i64, ContactState>> {
    let sql = "SELECT s.* FROM unnest($2::int8[]) AS p(position)
        CROSS JOIN LATERAL (SELECT position, generation, cycle, flags, cycle_flags,
                longest_transfer_seconds, attempts, cycle_attempts, last_outcome, refused_run,
                finished, due_at
            FROM contact_states WHERE campaign_id = $1 AND position = p.position LIMIT 1) s";
    let rows = tx.query(sql, &[&campaign, &positions]).await?;
    rows.iter().map(|row| Ok((row.get("position"), read_state(row)?))).collect()
}

/// Adds the states of contacts that have none.
pub async fn insert(tx: &Tx<'_>, campaign: Uuid, new: &[(i64, &ContactState)]) -> StoreResult<()> {
    if new.is_empty() {
        return Ok(());
    }
    let sql = "COPY contact_states (campaign_id, position, generation, cycle, flags, cycle_flags,
        longest_transfer_seconds, attempts, cycle_attempts, last_outcome, refused_run, finished,
        due_at) FROM STDIN BINARY";
    let types = [
        Type::UUID,
        Type::INT8,
        Type::INT4,
        Type::INT4,
        Type::INT2,
        Type::INT2,
        Type::INT4,
        Type::INT4,
        Type::INT4,
        Type::INT2,
        Type::INT4,
        Type::BOOL,
        Type::TIMESTAMPTZ,
    ];
    let mut rows = pin!(BinaryCopyInWriter::new(tx.copy_in(sql).await?, &types));
    for (position, state) in new {
        rows.as_mut()
            .write(&[
                &campaign,
                position,
                &state.epoch.generation,
                &state.epoch.cycle,
                &state.flags.0,
                &state.cycle_flags.0,
                &state.longest_transfer_seconds,
                &state.attempts,
                &state.cycle_attempts,
                &state.last_outcome.and_then(outcome_number),
                &state.refused_run,
                &state.finished,
                &state.due_at,
            ])
            .await?;
    }
    rows.finish().await?;
    Ok(())
}

/// Writes back the states of contacts that have one.
pub async fn update(
    tx: &Tx<'_>,
    campaign: Uuid,
    changed: &[(i64, &ContactState)],
) -> StoreResult<()> {
    if changed.is_empty() {
        return Ok(());
    }
    macro_rules! column {
        ($value:expr) => {
            changed.iter().map($value).collect::<Vec<_>>()
        };
    }
    // By place in the table: left a choice, the planner may read all states for each batch.
    let sql = "UPDATE contact_states s SET generation = t.generation, cycle = t.cycle,
            flags = t.flags, cycle_flags = t.cycle_flags,
            longest_transfer_seconds = t.longest_transfer_seconds, attempts = t.attempts,
            cycle_attempts = t.cycle_attempts, last_outcome = t.last_outcome,
            refused_run = t.refused_run, finished = t.finished, due_at = t.due_at
        FROM (SELECT u.*, place.ctid AS place
            FROM unnest($2::int8[], $3::int[], $4::int[], $5::int2[], $6::int2[], $7::int[],
                $8::int[], $9::int[], $10::int2[], $11::int[], $12::bool[], $13::timestamptz[])
                AS u(position, generation, cycle, flags, cycle_flags, longest_transfer_seconds,
                    attempts, cycle_attempts, last_outcome, refused_run, finished, due_at)
            CROSS JOIN LATERAL (SELECT ctid FROM contact_states
                WHERE campaign_id = $1 AND position = u.position LIMIT 1) place) t
        WHERE s.ctid = t.place";
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
