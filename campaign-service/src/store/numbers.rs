//! Dial times of numbers, across campaigns.
//!
//! Attempts are recorded for the tenant, or for the installation if the service counts over all
//! tenants. Both are read. So attempts from before a change of the scope still count, and so do
//! those of the version before, which knows no tenants: for every tenant.

use super::{Params, StoreError, StoreResult, Tx};
use campaign_domain::Instant;
use campaign_domain::access::Reach;
use campaign_domain::caps::CAP_WINDOW;
use std::collections::{HashMap, HashSet};
use tokio::try_join;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

/// Query for the dial times of the whole installation.
const OF_ALL: &str =
    "SELECT number, attempted_at FROM number_attempts WHERE number = ANY($1) ORDER BY number";
/// Query for the dial times of a tenant.
const OF_TENANT: &str = "SELECT number, attempted_at FROM number_attempts_by_tenant
    WHERE number = ANY($1) AND tenant = $2 ORDER BY number";
/// Query for the dial times of all tenants.
const OF_TENANTS: &str =
    "SELECT number, attempted_at FROM number_attempts_by_tenant WHERE number = ANY($1)";

/// Dial times of numbers, and which of them are recorded where the next attempt will be.
#[derive(Debug, Default)]
pub struct Dialled {
    times: HashMap<i64, Vec<Instant>>,
    locked: HashSet<i64>,
}

impl Dialled {
    /// Returns when a number was dialled, newest first.
    #[must_use]
    pub fn times(&self, number: i64) -> &[Instant] {
        self.times.get(&number).map_or(&[], Vec::as_slice)
    }

    /// Returns whether the number has a row, which is locked.
    #[must_use]
    pub fn is_locked(&self, number: i64) -> bool {
        self.locked.contains(&number)
    }
}

/// Returns when numbers were dialled within reach, and locks the rows that record it until commit.
/// Locks in order of number, so that no two transactions deadlock.
pub async fn lock(tx: &Tx<'_>, reach: &Reach, numbers: &[i64]) -> StoreResult<Dialled> {
    // One statement: authorising a single contact is mostly the cost of its statements.
    let both = |own: &str, other: &str| {
        format!(
            "WITH own AS ({own} FOR UPDATE), other AS ({other})
            SELECT number, attempted_at, true FROM own
            UNION ALL SELECT number, attempted_at, false FROM other"
        )
    };
    let rows = match reach.tenant() {
        Some(tenant) => tx.query(&both(OF_TENANT, OF_ALL), &[&numbers, &tenant]).await?,
        None => tx.query(&both(OF_ALL, OF_TENANTS), &[&numbers]).await?,
    };
    let is_own = |row: &&Row| row.get(2);
    let locked = rows.iter().filter(is_own).map(|row| row.get(0)).collect();
    Ok(Dialled { times: merge(rows.iter()), locked })
}

/// Returns when numbers were dialled within reach, newest first, as committed. Locks nothing.
pub async fn find(
    tx: &Tx<'_>,
    reach: &Reach,
    numbers: &[i64],
) -> StoreResult<HashMap<i64, Vec<Instant>>> {
    let these: Params<'_> = &[&numbers];
    let by_tenant = async {
        match reach.tenant() {
            Some(tenant) => tx.query(OF_TENANT, &[&numbers, &tenant]).await,
            None => tx.query(OF_TENANTS, these).await,
        }
    };
    let (by_tenant, all) = try_join!(by_tenant, tx.query(OF_ALL, these))?;
    Ok(merge(by_tenant.iter().chain(&all)))
}

fn merge<'a>(rows: impl Iterator<Item = &'a Row>) -> HashMap<i64, Vec<Instant>> {
    let mut times: HashMap<i64, Vec<Instant>> = HashMap::new();
    for row in rows {
        let found: Vec<Instant> = row.get(1);
        let known = times.entry(row.get(0)).or_default();
        known.extend(found);
        known.sort_unstable_by(|one, other| other.cmp(one));
    }
    times
}

/// Records an attempt now for numbers that [`lock`] locked. Keeps the newest `max_attempts` times of
/// each number.
pub async fn note_again(
    tx: &Tx<'_>,
    reach: &Reach,
    numbers: &[i64],
    max_attempts: u16,
) -> StoreResult<()> {
    if numbers.is_empty() {
        return Ok(());
    }
    let newest = "attempted_at = ($2::timestamptz || attempted_at)[1:$3] WHERE number = ANY($1)";
    let most = i32::from(max_attempts);
    match reach.tenant() {
        Some(tenant) => {
            let sql = format!("UPDATE number_attempts_by_tenant SET {newest} AND tenant = $4");
            tx.execute(&sql, &[&numbers, &tx.now, &most, &tenant]).await?;
        }
        None => {
            let sql = format!("UPDATE number_attempts SET {newest}");
            tx.execute(&sql, &[&numbers, &tx.now, &most]).await?;
        }
    }
    Ok(())
}

/// Records the first attempt, now, of numbers that [`lock`] did not lock, in order. If another
/// transaction recorded one of the numbers meanwhile, this fails with its transaction: see
/// [`is_noted_meanwhile`]. ON CONFLICT would wait instead, at twice the cost per number.
pub async fn note_first(tx: &Tx<'_>, reach: &Reach, numbers: &[i64]) -> StoreResult<()> {
    if numbers.is_empty() {
        return Ok(());
    }
    let now = vec![tx.now];
    match reach.tenant() {
        Some(tenant) => {
            let sql = "INSERT INTO number_attempts_by_tenant (number, tenant, attempted_at)
                SELECT number, $3, $2::timestamptz[] FROM unnest($1::int8[]) AS w(number)";
            tx.execute(sql, &[&numbers, &now, &tenant]).await?;
        }
        None => {
            let sql = "INSERT INTO number_attempts (number, attempted_at)
                SELECT number, $2::timestamptz[] FROM unnest($1::int8[]) AS w(number)";
            tx.execute(sql, &[&numbers, &now]).await?;
        }
    }
    Ok(())
}

/// Takes attempts back, each by its number and time, from where the next attempt on the number would
/// be recorded.
pub async fn take_back(tx: &Tx<'_>, reach: &Reach, attempts: &[(i64, Instant)]) -> StoreResult<()> {
    let (mut numbers, times): (Vec<i64>, Vec<Instant>) = attempts.iter().copied().unzip();
    let (of, from): (Vec<i64>, &str) = (numbers.clone(), "unnest($1::int8[], $2::timestamptz[])");
    numbers.sort_unstable();
    lock(tx, reach, &numbers).await?;
    // If two attempts have the same time, one stays.
    let (table, and) = match reach.tenant() {
        Some(_) => ("number_attempts_by_tenant", "AND n.tenant = $3"),
        None => ("number_attempts", ""),
    };
    let update = format!(
        "UPDATE {table} n SET attempted_at = attempted_at[:array_position(attempted_at, t.at) - 1]
            || attempted_at[array_position(attempted_at, t.at) + 1:]
        FROM {from} AS t(number, at)
        WHERE n.number = t.number AND t.at = ANY(n.attempted_at) {and}"
    );
    match reach.tenant() {
        Some(tenant) => tx.execute(&update, &[&of, &times, &tenant]).await?,
        None => tx.execute(&update, &[&of, &times]).await?,
    };
    Ok(())
}

/// Returns whether a transaction failed because another one recorded the same number for the first
/// time.
#[must_use]
pub fn is_noted_meanwhile(error: &StoreError) -> bool {
    let StoreError::Database(error) = error else { return false };
    error.as_db_error().is_some_and(|error| {
        *error.code() == SqlState::UNIQUE_VIOLATION
            && matches!(error.table(), Some("number_attempts" | "number_attempts_by_tenant"))
    })
}

/// Deletes numbers without attempts within the window, in order from `from` on. Looks at no
/// more than `limit` numbers. Returns the number to continue from, or `None` at the end.
pub async fn forget(tx: &Tx<'_>, from: i64, limit: i64) -> StoreResult<Option<i64>> {
    let find = "SELECT max(number), count(*) FROM (
            (SELECT number FROM number_attempts WHERE number >= $1 ORDER BY number LIMIT $2)
            UNION ALL
            (SELECT number FROM number_attempts_by_tenant WHERE number >= $1 ORDER BY number LIMIT $2)
            ORDER BY number LIMIT $2) t";
    let row = tx.query_one(find, &[&from, &limit]).await?;
    let (last, looked_at): (Option<i64>, i64) = (row.get(0), row.get(1));
    let Some(last) = last else { return Ok(None) };
    for table in ["number_attempts", "number_attempts_by_tenant"] {
        let sql = format!(
            "DELETE FROM {table} WHERE number >= $1 AND number <= $2
                AND coalesce(attempted_at[1] < $3, true)"
        );
        tx.execute(&sql, &[&from, &last, &(tx.now - CAP_WINDOW)]).await?;
    }
    Ok((looked_at == limit).then_some(last + 1))
}
