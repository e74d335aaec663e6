//! When numbers were dialled, above all campaigns.

use super::{StoreError, StoreResult, Tx};
use campaign_domain::Instant;
use campaign_domain::caps::CAP_WINDOW;
use std::collections::HashMap;
use tokio_postgres::error::SqlState;

/// When numbers were dialled, newest first; those never dialled left out. What is found is kept from all
/// others until commit; in order, so that no two transactions wait for each other.
pub async fn lock(tx: &Tx<'_>, numbers: &[i64]) -> StoreResult<HashMap<i64, Vec<Instant>>> {
    let sql = "SELECT number, attempted_at FROM number_attempts WHERE number = ANY($1)
        ORDER BY number FOR UPDATE";
    read(tx, sql, numbers).await
}

/// The same, as committed.
pub async fn find(tx: &Tx<'_>, numbers: &[i64]) -> StoreResult<HashMap<i64, Vec<Instant>>> {
    let sql = "SELECT number, attempted_at FROM number_attempts WHERE number = ANY($1)";
    read(tx, sql, numbers).await
}

async fn read(tx: &Tx<'_>, sql: &str, numbers: &[i64]) -> StoreResult<HashMap<i64, Vec<Instant>>> {
    Ok(tx.query(sql, &[&numbers]).await?.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Notes an attempt now for numbers that were found locked; keeps as many as `max_attempts`.
pub async fn note_again(tx: &Tx<'_>, numbers: &[i64], max_attempts: u16) -> StoreResult<()> {
    if numbers.is_empty() {
        return Ok(());
    }
    let sql = "UPDATE number_attempts SET attempted_at = ($2::timestamptz || attempted_at)[1:$3]
        WHERE number = ANY($1)";
    tx.execute(sql, &[&numbers, &tx.now, &i32::from(max_attempts)]).await?;
    Ok(())
}

/// Notes the first attempt, now, of numbers that were not found, in order. Fails, and the transaction with
/// it, if another transaction noted one of them meanwhile: [`is_noted_meanwhile`]. ON CONFLICT would wait
/// instead, at twice the price for each number.
pub async fn note_first(tx: &Tx<'_>, numbers: &[i64]) -> StoreResult<()> {
    if numbers.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO number_attempts (number, attempted_at)
        SELECT number, $2::timestamptz[] FROM unnest($1::int8[]) AS w(number)";
    tx.execute(sql, &[&numbers, &[tx.now].as_slice()]).await?;
    Ok(())
}

/// Whether a transaction failed since another one noted the same number for the first time.
#[must_use]
pub fn is_noted_meanwhile(error: &StoreError) -> bool {
    let StoreError::Database(error) = error else { return false };
    error.as_db_error().is_some_and(|error| {
        *error.code() == SqlState::UNIQUE_VIOLATION && error.table() == Some("number_attempts")
    })
}

/// Forgets numbers, from one on in their order, that were last dialled before the window; looks at most
/// at `limit`. Returns the number to go on from; `None` when it came to the end.
pub async fn forget(tx: &Tx<'_>, from: i64, limit: i64) -> StoreResult<Option<i64>> {
    let find = "SELECT max(number), count(*) FROM (SELECT number FROM number_attempts
        WHERE number >= $1 ORDER BY number LIMIT $2) t";
    let row = tx.query_one(find, &[&from, &limit]).await?;
    let (last, looked_at): (Option<i64>, i64) = (row.get(0), row.get(1));
    let Some(last) = last else { return Ok(None) };
    let sql = "DELETE FROM number_attempts
        WHERE number >= $1 AND number <= $2 AND attempted_at[1] < $3";
    tx.execute(sql, &[&from, &last, &(tx.now - CAP_WINDOW)]).await?;
    Ok((looked_at == limit).then_some(last + 1))
}
