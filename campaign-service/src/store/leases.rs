//! Leases, and the attempts authorised under them.

use super::{Params, Statements, StoreResult, Tx, agenda};
use campaign_domain::Instant;
use campaign_domain::dispatch::Terms;
use campaign_domain::lease::{AttemptId, Slot, Slots};
use std::collections::HashMap;
use std::iter::repeat_n;
use tokio_postgres::Row;
use uuid::Uuid;

/// Lease as stored.
#[derive(Clone, Debug)]
pub struct Lease {
    pub campaign: Uuid,
    pub number: i64,
    pub run: i32,
    pub worker_id: String,
    pub token: Uuid,
    pub expires_at: Instant,
    /// Positions of the contacts, in order of slot.
    pub positions: Vec<i64>,
    /// Phone numbers in order of slot: E.164 without the plus sign; 0 for an erased contact.
    pub numbers: Vec<i64>,
    pub slots: Slots,
    /// Revision of the campaign at which the contacts are known to be eligible, until
    /// `judged_until`.
    pub judged_revision: i64,
    pub judged_until: Instant,
}

impl Lease {
    /// Returns the terms that a question of its holder depends on.
    #[must_use]
    pub fn terms(&self) -> Terms {
        Terms {
            run: self.run,
            expires_at: self.expires_at,
            judged_revision: self.judged_revision,
            judged_until: self.judged_until,
        }
    }
}

const COLUMNS: &str =
    "campaign_id, lease, run, worker_id, token, expires_at, positions, numbers, slots,
    judged_revision, judged_until";

fn read(row: &Row) -> Lease {
    Lease {
        campaign: row.get("campaign_id"),
        number: row.get("lease"),
        run: row.get("run"),
        worker_id: row.get("worker_id"),
        token: row.get("token"),
        expires_at: row.get("expires_at"),
        positions: row.get("positions"),
        numbers: row.get("numbers"),
        slots: Slots::from_bytes(row.get("slots")),
        judged_revision: row.get("judged_revision"),
        judged_until: row.get("judged_until"),
    }
}

/// Adds a lease, and sets its number.
pub async fn insert(tx: &Tx<'_>, lease: &mut Lease) -> StoreResult<()> {
    let sql = format!(
        "INSERT INTO leases ({COLUMNS})
         VALUES ($1, nextval('lease_numbers'), $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING lease"
    );
    let params: Params<'_> = &[
        &lease.campaign,
        &lease.run,
        &lease.worker_id,
        &lease.token,
        &lease.expires_at,
        &lease.positions,
        &lease.numbers,
        &lease.slots.as_bytes(),
        &lease.judged_revision,
        &lease.judged_until,
    ];
    lease.number = tx.query_one(&sql, params).await?.get(0);
    Ok(())
}

/// Locks some leases of a campaign until commit, and returns them in order of number. `numbers`
/// must be in order.
pub async fn lock(tx: &Statements<'_>, campaign: Uuid, numbers: &[i64]) -> StoreResult<Vec<Lease>> {
    // One index probe per lease. If asked for all at once, the planner may read every lease of the
    // campaign.
    let sql = format!(
        "SELECT {COLUMNS} FROM unnest($2::int8[]) AS w(number) CROSS JOIN LATERAL (
            SELECT {COLUMNS} FROM leases WHERE campaign_id = $1 AND lease = w.number LIMIT 1 FOR UPDATE) l"
    );
    let mut leases: Vec<Lease> =
        tx.query(&sql, &[&campaign, &numbers]).await?.iter().map(read).collect();
    leases.sort_unstable_by_key(|lease| lease.number);
    Ok(leases)
}

/// Locks a lease until commit, and returns it. Positions and numbers are read from slot `first` to
/// slot `last`, since most of the cost of a large lease is theirs. Below `first` they are 0, and
/// above `last` there are none.
pub async fn lock_slots(
    tx: &Statements<'_>,
    campaign: Uuid,
    number: i64,
    (first, last): (i32, i32),
) -> StoreResult<Option<Lease>> {
    // Subscripts of arrays begin at 1.
    let sql = "SELECT campaign_id, lease, run, worker_id, token, expires_at,
            positions[$3 + 1:$4 + 1] AS positions, numbers[$3 + 1:$4 + 1] AS numbers, slots,
            judged_revision, judged_until
        FROM leases WHERE campaign_id = $1 AND lease = $2 FOR UPDATE";
    let row = tx.query_opt(sql, &[&campaign, &number, &first, &last]).await?;
    Ok(row.as_ref().map(read).map(|lease| {
        let below = usize::try_from(first).unwrap_or(0).min(lease.slots.as_bytes().len());
        let padded = |of_slots: Vec<i64>| repeat_n(0, below).chain(of_slots).collect();
        let (positions, numbers) = (padded(lease.positions), padded(lease.numbers));
        Lease { positions, numbers, ..lease }
    }))
}

/// Returns all leases of a campaign that belong to a run before `run`.
pub async fn of_runs_before(tx: &Tx<'_>, campaign: Uuid, run: i32) -> StoreResult<Vec<Lease>> {
    let sql = format!("SELECT {COLUMNS} FROM leases WHERE campaign_id = $1 AND run < $2");
    Ok(tx.query(&sql, &[&campaign, &run]).await?.iter().map(read).collect())
}

/// Returns the leases that hold a contact.
pub async fn holding(tx: &Tx<'_>, campaign: Uuid, position: i64) -> StoreResult<Vec<Lease>> {
    let sql =
        format!("SELECT {COLUMNS} FROM leases WHERE campaign_id = $1 AND $2 = ANY(positions)");
    Ok(tx.query(&sql, &[&campaign, &position]).await?.iter().map(read).collect())
}

/// Locks the leases of a run that hold a contact until commit, and returns them.
pub async fn lock_holding(
    tx: &Tx<'_>,
    campaign: Uuid,
    run: i32,
    position: i64,
) -> StoreResult<Vec<Lease>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM leases
         WHERE campaign_id = $1 AND run = $2 AND $3 = ANY(positions) ORDER BY lease FOR UPDATE"
    );
    Ok(tx.query(&sql, &[&campaign, &run, &position]).await?.iter().map(read).collect())
}

/// Replaces a contact's number by 0 in the leases that hold the contact. The 0 says that the
/// contact was erased.
pub async fn forget_number(
    tx: &Tx<'_>,
    campaign: Uuid,
    position: i64,
    number: i64,
) -> StoreResult<()> {
    let sql = "UPDATE leases SET numbers = array_replace(numbers, $3, 0)
        WHERE campaign_id = $1 AND $2 = ANY(positions)";
    tx.execute(sql, &[&campaign, &position, &number]).await?;
    Ok(())
}

/// Counts the calls in progress of a campaign, under any run.
pub async fn calls_in_progress(tx: &Tx<'_>, campaign: Uuid) -> StoreResult<usize> {
    let sql = "SELECT slots FROM leases WHERE campaign_id = $1";
    let rows = tx.query(sql, &[&campaign]).await?;
    let slots = rows.iter().map(|row| Slots::from_bytes(row.get(0)));
    Ok(slots.map(|slots| slots.in_state(Slot::Authorized).len()).sum())
}

/// Writes back the slots of a campaign's locked leases. Deletes leases in which nothing is left to
/// happen.
pub async fn save_slots(tx: &Tx<'_>, campaign: Uuid, leases: &[&Lease]) -> StoreResult<()> {
    let (done, open): (Vec<&Lease>, Vec<&Lease>) =
        leases.iter().copied().partition(|lease| lease.slots.is_done());
    if !done.is_empty() {
        let numbers: Vec<i64> = done.iter().map(|lease| lease.number).collect();
        let sql = "DELETE FROM leases WHERE ctid = ANY (ARRAY(
            SELECT l.ctid FROM unnest($2::int8[]) AS d(number) CROSS JOIN LATERAL (
                SELECT ctid FROM leases WHERE campaign_id = $1 AND lease = d.number LIMIT 1) l))";
        tx.execute(sql, &[&campaign, &numbers]).await?;
        agenda::check_done_without_leases(tx, campaign).await?;
    }
    if let [lease] = open[..] {
        let sql = "UPDATE leases SET slots = $3 WHERE campaign_id = $1 AND lease = $2";
        tx.execute(sql, &[&campaign, &lease.number, &lease.slots.as_bytes()]).await?;
    } else if !open.is_empty() {
        let numbers: Vec<i64> = open.iter().map(|lease| lease.number).collect();
        let slots: Vec<&[u8]> = open.iter().map(|lease| lease.slots.as_bytes()).collect();
        let sql = "UPDATE leases l SET slots = t.slots FROM (
            SELECT o.slots, place.ctid AS place
            FROM unnest($2::int8[], $3::bytea[]) AS o(number, slots) CROSS JOIN LATERAL (
                SELECT ctid FROM leases WHERE campaign_id = $1 AND lease = o.number LIMIT 1) place) t
            WHERE l.ctid = t.place";
        tx.execute(sql, &[&campaign, &numbers, &slots]).await?;
    }
    Ok(())
}

/// Renews a lease that its holder still has. Returns the lease's run.
pub async fn renew(
    tx: &Tx<'_>,
    campaign: Uuid,
    number: i64,
    token: Uuid,
    expires_at: Instant,
) -> StoreResult<Option<i32>> {
    let sql = "UPDATE leases SET expires_at = $4
        WHERE campaign_id = $1 AND lease = $2 AND token = $3 AND expires_at > $5 RETURNING run";
    let row = tx.query_opt(sql, &[&campaign, &number, &token, &expires_at, &tx.now]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// Lists expired leases after one, longest expired first: the end, campaign and number of each.
pub async fn expired(
    tx: &Tx<'_>,
    after: Option<(Instant, Uuid, i64)>,
    limit: i64,
) -> StoreResult<Vec<(Instant, Uuid, i64)>> {
    let (end, campaign, lease) = after.unwrap_or((Instant::UNIX_EPOCH, Uuid::nil(), 0));
    let sql = "SELECT expires_at, campaign_id, lease FROM leases
        WHERE expires_at <= $1 AND expires_at >= $2 AND (expires_at, campaign_id, lease) > ($2, $3, $4)
        ORDER BY expires_at, campaign_id, lease LIMIT $5";
    let rows = tx.query(sql, &[&tx.now, &end, &campaign, &lease, &limit]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
}

/// Returns whether a campaign has any lease, under any run.
pub async fn any(tx: &Tx<'_>, campaign: Uuid) -> StoreResult<bool> {
    let sql = "SELECT EXISTS (SELECT FROM leases WHERE campaign_id = $1)";
    Ok(tx.query_one(sql, &[&campaign]).await?.get(0))
}

/// Returns when some attempts of a campaign, each on the contact at a position, were authorised.
/// Leaves out attempts that were never authorised.
pub async fn authorized_at(
    tx: &Tx<'_>,
    campaign: Uuid,
    attempts: &[(AttemptId, i64)],
) -> StoreResult<HashMap<AttemptId, Instant>> {
    if attempts.is_empty() {
        return Ok(HashMap::new());
    }
    let runs: Vec<i32> = attempts.iter().map(|(attempt, _)| attempt.run).collect();
    let leases: Vec<i64> = attempts.iter().map(|(attempt, _)| attempt.lease).collect();
    // A slot index that does not fit the column's type belongs to no slot.
    let slot = |attempt: &AttemptId| i32::try_from(attempt.slot).unwrap_or(-1);
    let slots: Vec<i32> = attempts.iter().map(|(attempt, _)| slot(attempt)).collect();
    let positions: Vec<i64> = attempts.iter().map(|(_, position)| *position).collect();
    let sql = "SELECT t.ordinal - 1, a.authorized_at
        FROM unnest($2::int[], $3::int8[], $4::int[], $5::int8[])
            WITH ORDINALITY AS t(run, lease, slot, position, ordinal)
        CROSS JOIN LATERAL (SELECT authorized_at FROM authorizations
            WHERE campaign_id = $1 AND run = t.run AND lease = t.lease
                AND positions[array_position(slots, t.slot)] = t.position LIMIT 1) a";
    let rows = tx.query(sql, &[&campaign, &runs, &leases, &slots, &positions]).await?;
    let read = |row: &Row| {
        let index = usize::try_from(row.get::<_, i64>(0)).ok()?;
        Some((attempts.get(index)?.0, row.get(1)))
    };
    Ok(rows.iter().filter_map(read).collect())
}

/// Records for good which attempts were authorised, and that they are to be counted.
pub async fn log_authorization(
    tx: &Tx<'_>,
    lease: &Lease,
    slots: &[i32],
    positions: &[i64],
) -> StoreResult<()> {
    if slots.is_empty() {
        return Ok(());
    }
    let sql =
        "WITH logged AS (INSERT INTO authorizations (campaign_id, lease, run, authorized_at, slots, positions, transaction_id)
            VALUES ($1, $2, $3, $4, $5, $6, (pg_current_xact_id()::text::int8 + $7)::text::xid8))
        INSERT INTO run_attempts (campaign_id, run, attempts) VALUES ($1, $3, cardinality($5::int[]))";
    let shift = tx.transaction_shift();
    let params: Params<'_> =
        &[&lease.campaign, &lease.number, &lease.run, &tx.now, &slots, &positions, &shift];
    tx.execute(sql, params).await?;
    Ok(())
}
