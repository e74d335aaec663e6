//! Identity of the PostgreSQL cluster that holds the data. Sequences and transaction ids continue
//! where an earlier cluster stopped.
//!
//! Transaction ids prove what was committed after a command: `authorizations.transaction_id` is
//! compared with `audit_events.snapshot`. Each cluster has its own count of transaction ids. Ids
//! stored in a later cluster are shifted past those stored before, so that two clusters' ids never
//! mix.

use super::{Db, Statements, StoreError, StoreResult, Tx};
use std::time::Duration;

/// Sequences of the numbers of leases and of call reports.
const SEQUENCES: [&str; 2] = ["lease_numbers", "call_report_numbers"];
/// Advisory lock that lets one replica at a time run [`adopt`].
const LOCK: i64 = 0x63_6c_75_73_74_65_72_73;
/// Longest run of a statement. All stored data may be read once, when it is found in another
/// cluster.
const READ_LIMIT: Duration = Duration::from_secs(3600);
/// Distance by which a sequence is set past the highest number.
const MARGIN: i64 = 1_000;
/// Numbers that are discarded at a time, if the role may not set a sequence.
const BURNED_AT_ONCE: i64 = 500_000;
/// Most numbers that are discarded.
const MAX_BURNED: i64 = 50_000_000;

/// Findings of [`adopt`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Whether the data came from another cluster since a service last started.
    pub has_moved: bool,
    /// Sequences that were behind, and the number that each continues from.
    pub moved_ahead: Vec<(&'static str, i64)>,
    /// Sequences that are behind and that this role may not set, and the number to set each to.
    pub stuck: Vec<(&'static str, i64)>,
}

/// Cluster as recorded.
struct Noted {
    number: i32,
    identity: String,
    shift: i64,
}

/// Detects a change of cluster, and moves sequences ahead that would repeat numbers. Must run
/// before anything is leased or authorised. Several replicas may call this at once.
pub async fn adopt(db: &Db) -> StoreResult<Found> {
    // Answers may take long here, so their time does not show that the database is silent. Another
    // connection shows it.
    let mut beside = db.listen().await?;
    let silent = async { while beside.next().await.is_some() {} };
    tokio::select! {
        found = compare(db) => found,
        () = silent => Err(StoreError::Silent),
    }
}

/// Compares the data with the cluster, and moves sequences ahead.
async fn compare(db: &Db) -> StoreResult<Found> {
    let mut connection = db.connect().await?;
    let tx = connection.begin_long(READ_LIMIT).await?;
    tx.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    let identity = identity(&tx).await?;
    let last = last(&tx).await?;
    let known = match &last {
        Some(last) if last.identity == identity && !counts_anew(&tx, last).await? => {
            Some(last.shift)
        }
        _ => None,
    };
    let has_moved = last.is_some() && known.is_none();
    let mut found = Found { has_moved, ..Found::default() };
    // In a known cluster, the newest numbers of each campaign show whether a sequence was set back.
    let newest = if known.is_some() { newest(&tx).await? } else { highest(&tx).await? };
    for (index, sequence) in SEQUENCES.into_iter().enumerate() {
        let given = next(&tx, sequence).await?;
        // The newest numbers may belong to attempts that a caller made up; the highest do not.
        if given > newest[index] || given > highest(&tx).await?[index] {
            continue;
        }
        let target = highest(&tx).await?[index] + MARGIN;
        let is_moved = move_ahead(&tx, sequence, target).await?;
        let list = if is_moved { &mut found.moved_ahead } else { &mut found.stuck };
        list.push((sequence, target));
    }
    if !found.stuck.is_empty() {
        // The cluster is not recorded, so that the next start checks everything again.
        return Ok(found);
    }
    let shift = match known {
        Some(shift) => shift,
        None => note(&tx, &identity, last.as_ref()).await?,
    };
    tx.commit().await?;
    db.set_transaction_shift(shift);
    Ok(found)
}

/// Returns a name of the cluster and of the database in it. Without the right to read the cluster's
/// identifier, the name holds only the database.
async fn identity(tx: &Tx<'_>) -> StoreResult<String> {
    let may_read = "SELECT has_function_privilege('pg_catalog.pg_control_system()', 'execute')";
    let cluster = if tx.query_one(may_read, &[]).await?.get(0) {
        let sql = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()";
        tx.query_one(sql, &[]).await?.get(0)
    } else {
        String::new()
    };
    let sql = "SELECT oid::text FROM pg_catalog.pg_database WHERE datname = current_database()";
    let database: String = tx.query_one(sql, &[]).await?.get(0);
    Ok(format!("{cluster}/{database}"))
}

async fn last(tx: &Tx<'_>) -> StoreResult<Option<Noted>> {
    let sql =
        "SELECT number, identity, transaction_shift FROM clusters ORDER BY number DESC LIMIT 1";
    let row = tx.query_opt(sql, &[]).await?;
    Ok(row.map(|row| Noted { number: row.get(0), identity: row.get(1), shift: row.get(2) }))
}

/// Returns whether transaction ids are lower than those stored, though the cluster looks like the
/// recorded one.
async fn counts_anew(tx: &Tx<'_>, noted: &Noted) -> StoreResult<bool> {
    let sql = "SELECT COALESCE(max(pg_snapshot_xmax(snapshot)::text::int8), 0)
            > pg_snapshot_xmax(pg_current_snapshot())::text::int8 + $1
        FROM audit_events";
    Ok(tx.query_one(sql, &[&noted.shift]).await?.get(0))
}

/// Records the cluster. Returns its shift.
async fn note(tx: &Tx<'_>, identity: &str, last: Option<&Noted>) -> StoreResult<i64> {
    // No later commit has an id below the oldest transaction under way (xmin). Data without a
    // recorded cluster comes from an older version in this cluster, unless stored ids lie ahead.
    // Some of that data may be as new as the transactions under way, so its ids are compared with
    // xmax.
    let from = if last.is_some() { "pg_snapshot_xmin" } else { "pg_snapshot_xmax" };
    let sql = format!(
        "SELECT GREATEST(0,
            (SELECT COALESCE(max(transaction_id::text::int8), 0) + 1 FROM authorizations)
                - {from}(pg_current_snapshot())::text::int8,
            (SELECT COALESCE(max(pg_snapshot_xmax(snapshot)::text::int8), 0) FROM audit_events)
                - {from}(pg_current_snapshot())::text::int8)"
    );
    let shift: i64 = tx.query_one(&sql, &[]).await?.get(0);
    let number = last.map_or(1, |last| last.number + 1);
    let sql = "INSERT INTO clusters (number, identity, noticed_at, transaction_shift)
        VALUES ($1, $2, $3, $4)";
    tx.execute(sql, &[&number, &identity, &tx.now, &shift]).await?;
    Ok(shift)
}

/// Returns the numbers of leases and of reports that were given last in each campaign: the highest
/// of them.
async fn newest(tx: &Tx<'_>) -> StoreResult<[i64; 2]> {
    let sql = "SELECT COALESCE(max(GREATEST(l.lease, r.lease)), 0), COALESCE(max(r.report), 0)
        FROM campaigns c
        LEFT JOIN LATERAL (SELECT lease FROM leases WHERE campaign_id = c.campaign_id
            ORDER BY lease DESC LIMIT 1) l ON true
        LEFT JOIN LATERAL (SELECT lease, report FROM call_reports WHERE campaign_id = c.campaign_id
            ORDER BY lease DESC, report DESC LIMIT 1) r ON true";
    let row = tx.query_one(sql, &[]).await?;
    Ok([row.get(0), row.get(1)])
}

/// Returns the highest numbers of leases and of reports that the service itself gave. Reads all
/// rows.
async fn highest(tx: &Tx<'_>) -> StoreResult<[i64; 2]> {
    let sql = "SELECT COALESCE(GREATEST((SELECT max(lease) FROM leases),
            (SELECT max(lease) FROM authorizations)), 0),
        COALESCE((SELECT max(report) FROM call_reports), 0)";
    let row = tx.query_one(sql, &[]).await?;
    Ok([row.get(0), row.get(1)])
}

/// Takes the next number of a sequence. Any role that serves may do so.
async fn next(tx: &Statements<'_>, sequence: &str) -> StoreResult<i64> {
    Ok(tx.query_one("SELECT nextval($1::text::regclass)", &[&sequence]).await?.get(0))
}

/// Sets a sequence to continue after `target`, or discards numbers until it does. Returns whether
/// this was possible.
async fn move_ahead(tx: &Tx<'_>, sequence: &str, target: i64) -> StoreResult<bool> {
    let may_set = "SELECT has_sequence_privilege($1::text, 'UPDATE')";
    if tx.query_one(may_set, &[&sequence]).await?.get(0) {
        tx.execute("SELECT setval($1::text::regclass, $2)", &[&sequence, &target]).await?;
        return Ok(true);
    }
    let burn = "SELECT max(nextval($1::text::regclass)) FROM generate_series(1, $2::int8)";
    let mut at = next(tx, sequence).await?;
    if target - at > MAX_BURNED {
        return Ok(false);
    }
    while at < target {
        let count = (target - at).min(BURNED_AT_ONCE);
        at = tx.query_one(burn, &[&sequence, &count]).await?.get(0);
    }
    Ok(true)
}
