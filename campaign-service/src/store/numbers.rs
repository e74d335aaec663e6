//! When numbers were dialled, above all campaigns.

use super::{StoreResult, Tx};
use campaign_domain::Instant;
use campaign_domain::caps::CAP_WINDOW;
use std::collections::{HashMap, HashSet};

/// Notes an attempt for each of these numbers that had fewer than `max_attempts` in the window before;
/// returns those that had not. No other transaction counts the same numbers meanwhile.
pub async fn take(tx: &Tx<'_>, numbers: &[i64], max_attempts: u16) -> StoreResult<HashSet<i64>> {
    if numbers.is_empty() || max_attempts == 0 {
        return Ok(HashSet::new());
    }
    // In order of number, so that no two transactions wait for each other. The condition restates
    // domain function capped_until.
    let sql = "INSERT INTO number_attempts AS n (number, attempted_at)
        SELECT number, ARRAY[$2::timestamptz] FROM unnest($1::int8[]) AS t(number) ORDER BY number
        ON CONFLICT (number) DO UPDATE
        SET attempted_at = (excluded.attempted_at || n.attempted_at)[1:$3]
        WHERE n.attempted_at[$3] IS NULL OR n.attempted_at[$3] <= $4
        RETURNING number";
    let most = i32::from(max_attempts);
    let before = tx.now - CAP_WINDOW;
    let rows = tx.query(sql, &[&numbers, &tx.now, &most, &before]).await?;
    if rows.len() == numbers.len() {
        return Ok(HashSet::new());
    }
    let noted: HashSet<i64> = rows.iter().map(|row| row.get(0)).collect();
    Ok(numbers.iter().copied().filter(|number| !noted.contains(number)).collect())
}

/// When numbers were dialled, newest first.
pub async fn attempts(tx: &Tx<'_>, numbers: &[i64]) -> StoreResult<HashMap<i64, Vec<Instant>>> {
    let sql = "SELECT number, attempted_at FROM number_attempts WHERE number = ANY($1)";
    Ok(tx.query(sql, &[&numbers]).await?.iter().map(|row| (row.get(0), row.get(1))).collect())
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
