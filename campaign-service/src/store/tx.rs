//! Transactions, and the gates they pass.
//!
//! Statements that do not need each other's answers are sent together (`try_join!`): a round trip costs
//! more than most of them. They are run in the order sent.

use super::{ONLY_READS, StoreResult, gate_key};
use bytes::Bytes;
use campaign_domain::Instant;
use deadpool_postgres::Client;
use futures_util::FutureExt;
use std::ops::Deref;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32};
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
pub struct Connection {
    /// Always there, until dropped.
    client: Option<Client>,
    /// Not to be used again: a statement may be running whose answer nobody waits for, or the server there
    /// only reads, as it does after another has taken its place.
    is_unfit: AtomicBool,
}

/// What a transaction is made of. Unless committed, it is rolled back when dropped.
pub struct Statements<'c> {
    connection: &'c Connection,
    is_open: bool,
    /// Sent and not answered.
    unanswered: AtomicU32,
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
        if self.unanswered.load(Relaxed) > 0 {
            // Whoever asked gave up: its deadline passed, or it left.
            self.connection.is_unfit.store(true, Relaxed);
        } else if self.is_open {
            // Sent at once; the connection's next statement comes after it.
            let _ = self.connection.client().batch_execute("ROLLBACK").now_or_never();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(client) = self.client.take()
            && self.is_unfit.load(Relaxed)
        {
            // Closed instead of used again, so that the database gives up on the statement (within a second:
            // client_connection_check_interval) and rolls back.
            drop(Client::take(client));
        }
    }
}

impl Connection {
    pub(super) fn new(client: Client) -> Self {
        Self { client: Some(client), is_unfit: AtomicBool::new(false) }
    }

    pub(super) fn client(&self) -> &Client {
        self.client.as_ref().expect("a connection has its client until it is dropped")
    }

    pub(super) fn client_mut(&mut self) -> &mut Client {
        self.client.as_mut().expect("a connection has its client until it is dropped")
    }

    fn statements(&self) -> Statements<'_> {
        Statements { connection: self, is_open: true, unanswered: AtomicU32::new(0) }
    }

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
        let gate = self.client().prepare_cached(&sql).await?;
        let statements = self.statements();
        Ok(Opening { statements, gate, key })
    }

    /// Starts a transaction that reads one moment throughout, and passes no gate.
    pub async fn begin_snapshot(&mut self) -> StoreResult<Tx<'_>> {
        let statement = self.client().prepare_cached("SELECT clock_timestamp() AS now").await?;
        let statements = self.statements();
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let (_, row) = try_join!(
            biased;
            statements.answered(self.client().batch_execute(begin)),
            statements.answered(self.client().query_one(&statement, &[])),
        )?;
        Ok(Tx { statements, now: row.get("now") })
    }
}

impl<'c> Opening<'c> {
    /// Begins and passes the gate; returns the time then. Comes first among what is sent together.
    pub async fn pass(&self) -> StoreResult<Instant> {
        let client = self.connection.client();
        let key: Params<'_> = &[&self.key];
        let (_, row) = try_join!(
            biased;
            self.answered(client.batch_execute("BEGIN")),
            self.answered(client.query_one(&self.gate, key)),
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
        let client = self.connection.client();
        Ok(self.answered(client.batch_execute("COMMIT")).await?)
    }
}

impl Statements<'_> {
    /// Counts a statement until it is answered.
    async fn answered<T>(
        &self,
        statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, tokio_postgres::Error> {
        self.unanswered.fetch_add(1, Relaxed);
        let answer = statement.await;
        self.unanswered.fetch_sub(1, Relaxed);
        if answer.as_ref().is_err_and(|error| error.code() == Some(&ONLY_READS)) {
            self.connection.is_unfit.store(true, Relaxed);
        }
        answer
    }

    async fn prepare(&self, sql: &str) -> StoreResult<Statement> {
        Ok(self.answered(self.connection.client().prepare_cached(sql)).await?)
    }

    pub(super) async fn copy_in(&self, sql: &str) -> StoreResult<CopyInSink<Bytes>> {
        let statement = self.prepare(sql).await?;
        Ok(self.answered(self.connection.client().copy_in(&statement)).await?)
    }

    pub(super) async fn query(&self, sql: &str, params: Params<'_>) -> StoreResult<Vec<Row>> {
        let statement = self.prepare(sql).await?;
        Ok(self.answered(self.connection.client().query(&statement, params)).await?)
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
        let first = self.prepare(first).await?;
        let second = self.prepare(second).await?;
        let client = self.connection.client();
        let (_, rows) = try_join!(
            biased;
            self.answered(client.execute(&first, first_params)),
            self.answered(client.query(&second, second_params)),
        )?;
        Ok(rows)
    }

    pub(super) async fn query_one(&self, sql: &str, params: Params<'_>) -> StoreResult<Row> {
        let statement = self.prepare(sql).await?;
        Ok(self.answered(self.connection.client().query_one(&statement, params)).await?)
    }

    pub(super) async fn query_opt(
        &self,
        sql: &str,
        params: Params<'_>,
    ) -> StoreResult<Option<Row>> {
        let statement = self.prepare(sql).await?;
        Ok(self.answered(self.connection.client().query_opt(&statement, params)).await?)
    }

    pub(super) async fn execute(&self, sql: &str, params: Params<'_>) -> StoreResult<u64> {
        let statement = self.prepare(sql).await?;
        Ok(self.answered(self.connection.client().execute(&statement, params)).await?)
    }
}
