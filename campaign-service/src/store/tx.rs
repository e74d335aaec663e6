//! Transactions, and the gates they pass.
//!
//! Statements that do not need each other's answers are sent together (`try_join!`): a round trip costs
//! more than most of them. They are run in the order sent.

use super::{StoreResult, gate_key};
use bytes::Bytes;
use campaign_domain::Instant;
use deadpool_postgres::{Client, Object};
use futures_util::FutureExt;
use std::ops::Deref;
use tokio::try_join;
use tokio_postgres::types::ToSql;
use tokio_postgres::{CopyInSink, Row, Statement};
use uuid::Uuid;

/// A statement's arguments.
pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Which changes of one campaign a transaction keeps apart from. Held until commit.
///
/// Whoever grants or hands out (authorising, leasing) shares the gate; whoever takes away (commands,
/// recording facts, suppressing) has it alone. So when a pause or an opt-out is committed, every
/// authorisation before it is committed too and every later one sees it.
#[derive(Clone, Copy, Debug)]
pub enum Gate {
    /// Nothing that needs a gate: reads, and additions that nobody waits for.
    Open,
    /// Among others that share this campaign's.
    Shared(Uuid),
    /// Alone in this campaign.
    Exclusive(Uuid),
}

/// Whether a commit waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It does.
    Durable,
    /// It does not: for what may be lost in a crash of the database, as long as it is lost whole. What is
    /// committed durably later makes it durable too.
    Relaxed,
}

/// A pooled connection.
#[derive(Debug)]
pub struct Connection(pub(super) Object);

/// What a transaction is made of. Unless committed, it is rolled back when dropped.
pub struct Statements<'c> {
    client: &'c Client,
    is_open: bool,
}

/// A transaction that is about to begin.
pub struct Opening<'c> {
    statements: Statements<'c>,
    /// Passes the gate and tells the time.
    gate: Statement,
    key: i64,
}

/// A transaction, and the database's time at its start: the one clock of all replicas.
pub struct Tx<'c> {
    statements: Statements<'c>,
    /// Now, read after the gate was passed.
    pub now: Instant,
}

impl std::fmt::Debug for Statements<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Statements").field("is_open", &self.is_open).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Opening<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opening").field("key", &self.key).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tx").field("now", &self.now).finish_non_exhaustive()
    }
}

impl<'c> Deref for Opening<'c> {
    type Target = Statements<'c>;
    fn deref(&self) -> &Statements<'c> {
        &self.statements
    }
}

impl<'c> Deref for Tx<'c> {
    type Target = Statements<'c>;
    fn deref(&self) -> &Statements<'c> {
        &self.statements
    }
}

impl Drop for Statements<'_> {
    fn drop(&mut self) {
        if self.is_open {
            // Sent at once; the connection's next statement comes after it.
            let _ = self.client.batch_execute("ROLLBACK").now_or_never();
        }
    }
}

impl Connection {
    /// Starts a transaction behind a gate.
    pub async fn begin(&mut self, gate: Gate) -> StoreResult<Tx<'_>> {
        let opening = self.open(gate, Durability::Durable).await?;
        let now = opening.pass().await?;
        Ok(opening.at(now))
    }

    /// The same, relaxed.
    pub async fn begin_relaxed(&mut self, gate: Gate) -> StoreResult<Tx<'_>> {
        let opening = self.open(gate, Durability::Relaxed).await?;
        let now = opening.pass().await?;
        Ok(opening.at(now))
    }

    /// Prepares a transaction behind a gate. [`Opening::pass`] starts it; what is sent together with it,
    /// and after it, is run behind the gate.
    pub async fn open(&mut self, gate: Gate, durability: Durability) -> StoreResult<Opening<'_>> {
        // The clock is read after the wait at the gate: columns are computed in order.
        let (lock, key) = match gate {
            Gate::Open => ("$1::int8", 0),
            Gate::Shared(id) => ("pg_advisory_xact_lock_shared($1)", gate_key(id)),
            Gate::Exclusive(id) => ("pg_advisory_xact_lock($1)", gate_key(id)),
        };
        let commit = match durability {
            Durability::Durable => "",
            Durability::Relaxed => ", set_config('synchronous_commit', 'off', true)",
        };
        let sql = format!("SELECT {lock}, clock_timestamp() AS now{commit}");
        // Now, so that nothing can be sent before it.
        let gate = self.0.prepare_cached(&sql).await?;
        let statements = Statements { client: &self.0, is_open: true };
        Ok(Opening { statements, gate, key })
    }

    /// Starts a transaction that reads one moment throughout, and passes no gate.
    pub async fn begin_snapshot(&mut self) -> StoreResult<Tx<'_>> {
        let statement = self.0.prepare_cached("SELECT clock_timestamp() AS now").await?;
        let statements = Statements { client: &self.0, is_open: true };
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let (_, row) = try_join!(
            biased;
            statements.client.batch_execute(begin),
            statements.client.query_one(&statement, &[]),
        )?;
        Ok(Tx { statements, now: row.get("now") })
    }
}

impl<'c> Opening<'c> {
    /// Begins and passes the gate; returns the time then. Comes first among what is sent together.
    pub async fn pass(&self) -> StoreResult<Instant> {
        let client = self.statements.client;
        let (_, row) = try_join!(
            biased;
            client.batch_execute("BEGIN"),
            async { client.query_one(&self.gate, &[&self.key]).await },
        )?;
        Ok(row.get("now"))
    }

    /// The transaction, which passed the gate at this time.
    pub fn at(self, now: Instant) -> Tx<'c> {
        Tx { statements: self.statements, now }
    }
}

impl Tx<'_> {
    /// Passes one more gate, alone. Whoever passes several does it in order of id, so that no two wait
    /// for each other.
    pub async fn pass(&self, id: Uuid) -> StoreResult<()> {
        self.execute("SELECT pg_advisory_xact_lock($1)", &[&gate_key(id)]).await?;
        Ok(())
    }

    /// Makes the transaction durable and lets go of the gate.
    pub async fn commit(mut self) -> StoreResult<()> {
        self.statements.is_open = false;
        Ok(self.statements.client.batch_execute("COMMIT").await?)
    }
}

impl Statements<'_> {
    pub(super) async fn copy_in(&self, sql: &str) -> StoreResult<CopyInSink<Bytes>> {
        let statement = self.client.prepare_cached(sql).await?;
        Ok(self.client.copy_in(&statement).await?)
    }

    pub(super) async fn query(&self, sql: &str, params: Params<'_>) -> StoreResult<Vec<Row>> {
        let statement = self.client.prepare_cached(sql).await?;
        Ok(self.client.query(&statement, params).await?)
    }

    /// Runs one statement and then, sent together with it, another; returns the other's rows.
    pub(super) async fn then_query(
        &self,
        first: &str,
        first_params: Params<'_>,
        second: &str,
        second_params: Params<'_>,
    ) -> StoreResult<Vec<Row>> {
        // Both before either is sent, or the second might overtake the first.
        let first = self.client.prepare_cached(first).await?;
        let second = self.client.prepare_cached(second).await?;
        let (_, rows) = try_join!(
            biased;
            self.client.execute(&first, first_params),
            self.client.query(&second, second_params),
        )?;
        Ok(rows)
    }

    pub(super) async fn query_one(&self, sql: &str, params: Params<'_>) -> StoreResult<Row> {
        let statement = self.client.prepare_cached(sql).await?;
        Ok(self.client.query_one(&statement, params).await?)
    }

    pub(super) async fn query_opt(
        &self,
        sql: &str,
        params: Params<'_>,
    ) -> StoreResult<Option<Row>> {
        let statement = self.client.prepare_cached(sql).await?;
        Ok(self.client.query_opt(&statement, params).await?)
    }

    pub(super) async fn execute(&self, sql: &str, params: Params<'_>) -> StoreResult<u64> {
        let statement = self.client.prepare_cached(sql).await?;
        Ok(self.client.execute(&statement, params).await?)
    }
}
