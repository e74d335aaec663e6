//! Dial times of numbers, across all campaigns.

use super::{StoreError, StoreResult, Tx};
use campaign_domain::Instant;
use campaign_domain::caps::CAP_WINDOW;
use std::collections::HashMap;
use tokio_postgres::error::SqlState;

/// Returns when numbers were dialled, newest first, and locks the rows until commit. Leaves out
/// numbers that were never dialled. Locks in order of number, so that no two transactions deadlock.
pub async fn lock(tx: &Tx<'_>, numbers: &[i64]) -> StoreResult<HashMap<i64, Vec<Instant>>> {
    let sql = "SELECT number, attempted_at FROM number_attempts WHERE number = ANY($1)
        ORDER BY number FOR UPDATE";
    read(tx, sql, numbers).await
}

/// Returns when numbers were dialled, newest first, as committed. Locks nothing.
pub async fn find(tx: &Tx<'_>, numbers: &[i64]) -> StoreResult<HashMap<i64, Vec<Instant>>> {
    let sql = "SELECT number, attempted_at FROM number_attempts WHERE number = ANY($1)";
    read(tx, sql, numbers).await
}

async fn read(tx: &Tx<'_>, sql: &str, numbers: &[i64]) -> StoreResult<HashMap<i64, Vec<Instant>>> {
    Ok(tx.query(sql, &[&numbers]).await?.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Records an attempt now for numbers that [`lock`] found. Keeps the newest `max_attempts` times of
/// each number.
pub async fn note_again(tx: &Tx<'_>, numbers: &[i64], max_attempts: u16) -> StoreResult<()> {
    if numbers.is_empty() {
        return Ok(());
    }
    let sql = "UPDATE number_attempts SET attempted_at = ($2::timestamptz || attempted_at)[1:$3]
        WHERE number = ANY($1)";
    tx.execute(sql, &[&numbers, &tx.now, &i32::from(max_attempts)]).await?;
    Ok(())
}

/// Records the first attempt, now, of numbers that [`lock`] did not find, in order. If another
/// transaction recorded one of the numbers meanwhile, this fails with its transaction: see
/// [`is_noted_meanwhile`]. ON CONFLICT would wait instead, at twice the cost per number.
pub async fn note_first(tx: &Tx<'_>, numbers: &[i64]) -> StoreResult<()> {
    if numbers.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO number_attempts (number, attempted_at)
        SELECT number, $2::timestamptz[] FROM unnest($1::int8[]) AS w(number)";
    tx.execute(sql, &[&numbers, &[tx.now].as_slice()]).await?;
    Ok(())
}

/// Returns whether a transaction failed because another one recorded the same number for the first
/// time.
#[must_use]
pub fn is_noted_meanwhile(error: &StoreError) -> bool {
    let StoreError::Database(error) = error else { return false };
    error.as_db_error().is_some_and(|error| {
        *error.code() == SqlState::UNIQUE_VIOLATION && error.table() == Some("number_attempts")
    })
}

/// Deletes numbers that were last dialled before the window, in order from `from` on. Looks at no
/// more than `limit` numbers. Returns the number to continue from, or `None` at the end.
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
