//! Kept counts of contacts by class, so that nobody reads every contact to count them.
//!
//! A transaction that changes states appends how it changes the counts. So no two transactions wait
//! for each other's counts. The deltas are added up later (`folding`). A count is the sum of both.

use super::packed::{ClassKey, attempts, due_micros};
use super::{Params, StoreError, StoreResult, Tx};
use campaign_domain::Instant;
use std::collections::{BTreeMap, HashMap};
use tokio::try_join;
use tokio_postgres::Row;
use uuid::Uuid;

/// Number of contacts, and of attempts on them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub contacts: i64,
    pub attempts: i64,
}

/// Counts, or changes of counts, by class and by due time in microseconds. The due time is 0 for
/// contacts that wait for nothing at the time of the tally.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tally {
    now_micros: i64,
    counts: BTreeMap<(ClassKey, i64), Count>,
}

impl Tally {
    pub(super) fn new(now: Instant) -> Self {
        Self { now_micros: now.timestamp_micros(), counts: BTreeMap::new() }
    }

    /// Counts a contact with this packed state `times` times.
    pub(super) fn add(&mut self, packed: &[u8], times: i64) {
        let count = Count { contacts: times, attempts: times * attempts(packed) };
        self.add_count(ClassKey::of(packed), due_micros(packed), count);
    }

    pub(super) fn add_count(&mut self, class: ClassKey, due_at: i64, count: Count) {
        let due_at = if due_at > self.now_micros { due_at } else { 0 };
        let sum = self.counts.entry((class, due_at)).or_default();
        sum.contacts += count.contacts;
        sum.attempts += count.attempts;
    }

    /// Takes other counts away.
    pub(super) fn subtract(&mut self, other: &Self) {
        for ((class, due_at), count) in other.iter() {
            let negative = Count { contacts: -count.contacts, attempts: -count.attempts };
            self.add_count(class, due_at, negative);
        }
    }

    /// Counts attempts by class alone, as they are stored.
    pub(super) fn join_attempts(&mut self) {
        let mut attempts: BTreeMap<ClassKey, i64> = BTreeMap::new();
        for ((class, _), count) in &mut self.counts {
            *attempts.entry(*class).or_default() += std::mem::take(&mut count.attempts);
        }
        for (class, attempts) in attempts {
            self.add_count(class, 0, Count { contacts: 0, attempts });
        }
    }

    /// Returns the counts that are not 0.
    pub(super) fn iter(&self) -> impl Iterator<Item = ((ClassKey, i64), Count)> {
        let counts = self.counts.iter().map(|(key, count)| (*key, *count));
        counts.filter(|(_, count)| *count != Count::default())
    }
}

/// Contacts of a class at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub count: Count,
    /// Contacts whose due time lies ahead.
    pub later: i64,
    /// Earliest due time that lies ahead.
    pub next_due_at: Option<Instant>,
}

pub(super) fn class(row: &Row, index: usize) -> StoreResult<ClassKey> {
    let bytes: &[u8] = row.get(index);
    let bytes = bytes.try_into().map_err(|_| StoreError::Corrupt("a class".to_owned()))?;
    Ok(ClassKey(bytes))
}

/// Appends changes of the counts.
pub(super) async fn append(tx: &Tx<'_>, campaign: Uuid, tally: &Tally) -> StoreResult<()> {
    let (keys, counts): (Vec<_>, Vec<Count>) = tally.iter().unzip();
    if keys.is_empty() {
        return Ok(());
    }
    let classes: Vec<&[u8]> = keys.iter().map(|(class, _)| class.0.as_slice()).collect();
    let due: Vec<i64> = keys.iter().map(|(_, due_at)| *due_at).collect();
    let contacts: Vec<i64> = counts.iter().map(|count| count.contacts).collect();
    let attempts: Vec<i64> = counts.iter().map(|count| count.attempts).collect();
    let sql = "INSERT INTO class_deltas (campaign_id, class, due_at, contacts, attempts)
        SELECT $1, * FROM unnest($2::bytea[], $3::int8[], $4::int8[], $5::int8[])";
    tx.execute(sql, &[&campaign, &classes, &due, &contacts, &attempts]).await?;
    tx.to_count().note_rows(campaign, keys.len());
    Ok(())
}

/// Records that the counts of a new campaign are right: there is nobody to count.
pub(super) async fn begin(tx: &Tx<'_>, campaign: Uuid) -> StoreResult<()> {
    let sql = "INSERT INTO class_checks (campaign_id, checked_at) VALUES ($1, $2)";
    tx.execute(sql, &[&campaign, &tx.now]).await?;
    Ok(())
}

/// Returns the number of checks of a campaign's counts, and whether they were found right.
pub(super) async fn checks(tx: &Tx<'_>, campaign: Uuid) -> StoreResult<(i32, bool)> {
    let sql = "SELECT checks, checked_at IS NOT NULL FROM class_checks WHERE campaign_id = $1";
    let row = tx.query_opt(sql, &[&campaign]).await?;
    Ok(row.map_or((0, false), |row| (row.get(0), row.get(1))))
}

/// Returns the deltas that are not added up yet.
pub(super) async fn deltas(tx: &Tx<'_>, campaign: Uuid) -> StoreResult<Tally> {
    let sql = "SELECT class, due_at, contacts, attempts FROM class_deltas WHERE campaign_id = $1";
    let mut tally = Tally::new(tx.now);
    let rows = tx.query(sql, &[&campaign]).await?;
    tx.to_count().note_many(campaign, rows.len());
    for row in rows {
        let count = Count { contacts: row.get(2), attempts: row.get(3) };
        tally.add_count(class(&row, 0)?, row.get(1), count);
    }
    Ok(tally)
}

/// Returns the counts by class: the sums that are stored, and `more`.
pub(super) async fn kept(
    tx: &Tx<'_>,
    campaign: Uuid,
    more: &Tally,
) -> StoreResult<HashMap<ClassKey, Kept>> {
    let mut kept = sums(tx, campaign).await?;
    for ((class, due_at), count) in more.iter() {
        let sum = kept.entry(class).or_default();
        sum.count.contacts += count.contacts;
        sum.count.attempts += count.attempts;
        sum.later += if due_at > 0 { count.contacts } else { 0 };
    }
    let waiting = kept.iter().filter(|(_, kept)| kept.later > 0);
    let waiting: Vec<ClassKey> = waiting.map(|(class, _)| *class).collect();
    for (class, due_at) in next_due(tx, campaign, &waiting, more).await? {
        let kept = kept.entry(class).or_default();
        let due_at = Instant::from_timestamp_micros(due_at);
        kept.next_due_at = kept.next_due_at.into_iter().chain(due_at).min();
    }
    Ok(kept)
}

/// Returns the stored sums. Waits whose time has come are over, though still stored.
async fn sums(tx: &Tx<'_>, campaign: Uuid) -> StoreResult<HashMap<ClassKey, Kept>> {
    let sql = "SELECT c.class, c.contacts, c.attempts, c.waiting - over.contacts, over.waits
        FROM class_counts c CROSS JOIN LATERAL (
            SELECT coalesce(sum(w.contacts), 0)::int8 AS contacts, count(*) AS waits
            FROM class_waits w
            WHERE w.campaign_id = $1 AND w.class = c.class AND w.due_at <= $2) over
        WHERE c.campaign_id = $1";
    let rows = tx.query(sql, &[&campaign, &tx.now.timestamp_micros()]).await?;
    let over: i64 = rows.iter().map(|row| row.get::<_, i64>(4)).sum();
    tx.to_count().note_many(campaign, usize::try_from(over).unwrap_or(0));
    let read = |row: &Row| {
        let count = Count { contacts: row.get(1), attempts: row.get(2) };
        Ok((class(row, 0)?, Kept { count, later: row.get(3), next_due_at: None }))
    };
    rows.iter().map(read).collect()
}

/// Returns due times ahead at which contacts of some classes wait. The earliest one of each class is
/// among them.
async fn next_due(
    tx: &Tx<'_>,
    campaign: Uuid,
    classes: &[ClassKey],
    more: &Tally,
) -> StoreResult<Vec<(ClassKey, i64)>> {
    let mut waits: BTreeMap<(ClassKey, i64), i64> = BTreeMap::new();
    let mut negative: HashMap<ClassKey, i64> = HashMap::new();
    for ((class, due_at), count) in more.iter().filter(|((_, due_at), _)| *due_at > 0) {
        waits.insert((class, due_at), count.contacts);
        *negative.entry(class).or_default() += i64::from(count.contacts < 0);
    }
    let keys: Vec<&[u8]> = classes.iter().map(|class| class.0.as_slice()).collect();
    // Each negative delta may take away one of the first waits.
    let limits: Vec<i64> =
        classes.iter().map(|class| 1 + negative.get(class).copied().unwrap_or(0)).collect();
    let sql = "SELECT k.class, w.due_at, w.contacts FROM unnest($2::bytea[], $3::int8[]) AS k(class, most)
        CROSS JOIN LATERAL (SELECT due_at, contacts FROM class_waits
            WHERE campaign_id = $1 AND class = k.class AND due_at > $4
            ORDER BY campaign_id, class, due_at LIMIT k.most) w";
    if !keys.is_empty() {
        let now = tx.now.timestamp_micros();
        for row in tx.query(sql, &[&campaign, &keys, &limits, &now]).await? {
            *waits.entry((class(&row, 0)?, row.get(1))).or_default() += row.get::<_, i64>(2);
        }
    }
    let waits = waits.into_iter().filter(|(_, contacts)| *contacts > 0);
    Ok(waits.map(|(key, _)| key).collect())
}

/// Returns all counts of a campaign, with all due times.
pub(super) async fn all(tx: &Tx<'_>, campaign: Uuid) -> StoreResult<Tally> {
    let sql = "SELECT class, due_at, contacts FROM class_waits
        WHERE campaign_id = $1 AND due_at > $2";
    let now = tx.now.timestamp_micros();
    let params: Params<'_> = &[&campaign, &now];
    let (mut tally, sums, waits) =
        try_join!(deltas(tx, campaign), sums(tx, campaign), tx.query(sql, params))?;
    for (class, sum) in sums {
        tally.add_count(class, 0, sum.count);
    }
    for row in waits {
        let (class, contacts): (_, i64) = (class(&row, 0)?, row.get(2));
        tally.add_count(class, row.get(1), Count { contacts, attempts: 0 });
        tally.add_count(class, 0, Count { contacts: -contacts, attempts: 0 });
    }
    Ok(tally)
}
