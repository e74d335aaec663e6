//! Transactions, and the gates they pass.
//!
//! Statements that do not need each other's answers are sent together (`try_join!`): a round trip costs
//! more than most of them. They are run in the order sent.

use super::error::Staleness;
use super::notify::{self, ControlEvent};
use super::session::DURABLE;
use super::{Shared, StoreError, StoreResult, gate_key};
use bytes::Bytes;
use campaign_domain::Instant;
use deadpool_postgres::Client;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use std::ops::Deref;
use std::pin::pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::yield_now;
use tokio::try_join;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{CopyInSink, Row, Statement};
use tracing::warn;
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
    /// Not to be used again: a statement may be running whose answer nobody waits for, or the session is stale.
    is_unfit: AtomicBool,
    shared: Arc<Shared>,
}

/// What a transaction is made of. Unless committed, it is rolled back when dropped.
pub struct Statements<'c> {
    connection: &'c Connection,
    is_open: bool,
    /// Sent and not answered.
    unanswered: AtomicU32,
    /// Longest wait for an answer.
    answer_limit: Duration,
}

/// A transaction that is about to begin.
pub struct Opening<'c> {
    statements: Statements<'c>,
    /// Passes the gate, tells the time and says how durable the transaction is.
    gate: Statement,
    key: i64,
}

/// A transaction, and the database's time at its start: the one clock of all replicas.
pub struct Tx<'c> {
    statements: Statements<'c>,
    /// Now, read after the gate was passed.
    pub now: Instant,
    /// To be told once it is committed.
    notices: Mutex<Vec<ControlEvent>>,
}

/// Each transaction says how isolated it is, whatever the default: a snapshot from before the gate would show what the
/// gate kept apart. Whether it may write is left to the default, which is how an operator stops all writes.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

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
        } else if self.is_open && !self.connection.is_unfit.load(Relaxed) {
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
    pub(super) fn new(client: Client, shared: Arc<Shared>) -> Self {
        Self { client: Some(client), is_unfit: AtomicBool::new(false), shared }
    }

    fn made_at(&self) -> std::time::Instant {
        Client::metrics(self.client()).created
    }

    pub(super) fn client(&self) -> &Client {
        self.client.as_ref().expect("a connection has its client until it is dropped")
    }

    pub(super) fn client_mut(&mut self) -> &mut Client {
        self.client.as_mut().expect("a connection has its client until it is dropped")
    }

    /// Keeps the connection from being used again.
    pub(super) fn distrust(&self) {
        self.is_unfit.store(true, Relaxed);
    }

    /// For single statements that read, each a transaction of its own.
    pub(super) fn alone(&self) -> Statements<'_> {
        self.statements(false)
    }

    fn statements(&self, is_open: bool) -> Statements<'_> {
        let answer_limit = self.shared.answer_limit;
        Statements { connection: self, is_open, unanswered: AtomicU32::new(0), answer_limit }
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

    /// The same, for statements that may take this long.
    pub(super) async fn begin_long(&mut self, limit: Duration) -> StoreResult<Tx<'_>> {
        let mut opening = self.open(Gate::Open, Durability::Durable).await?;
        opening.statements.answer_limit = limit;
        let now = opening.pass().await?;
        let tx = opening.at(now);
        let timeout = limit.as_millis().to_string();
        tx.execute("SELECT set_config('statement_timeout', $1, true)", &[&timeout]).await?;
        Ok(tx)
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
            Durability::Durable => DURABLE,
            Durability::Relaxed => "'off'",
        };
        let sql = format!(
            "SELECT {lock}, clock_timestamp() AS now, set_config('synchronous_commit', {commit}, true)"
        );
        // Now, so that nothing can be sent before it.
        let gate = self.alone().prepare(&sql).await?;
        let statements = self.statements(true);
        Ok(Opening { statements, gate, key })
    }

    /// Starts a transaction that reads one moment throughout, and passes no gate.
    pub async fn begin_snapshot(&mut self) -> StoreResult<Tx<'_>> {
        let statement = self.alone().prepare("SELECT clock_timestamp() AS now").await?;
        let statements = self.statements(true);
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let (_, row) = try_join!(
            biased;
            statements.answered(self.client().batch_execute(begin)),
            statements.answered(self.client().query_one(&statement, &[])),
        )?;
        Ok(Tx { statements, now: row.get("now"), notices: Mutex::default() })
    }
}

impl<'c> Opening<'c> {
    /// Begins and passes the gate; returns the time then. Comes first among what is sent together.
    pub async fn pass(&self) -> StoreResult<Instant> {
        let client = self.connection.client();
        let key: Params<'_> = &[&self.key];
        let (_, row) = try_join!(
            biased;
            self.answered(client.batch_execute(BEGIN)),
            self.answered(client.query_one(&self.gate, key)),
        )?;
        Ok(row.get("now"))
    }

    /// The transaction, which passed the gate at this time.
    pub fn at(self, now: Instant) -> Tx<'c> {
        Tx { statements: self.statements, now, notices: Mutex::default() }
    }
}

impl Tx<'_> {
    /// Passes one more gate, alone. Whoever passes several does it in order of id, so that no two wait
    /// for each other.
    pub async fn pass(&self, id: Uuid) -> StoreResult<()> {
        self.execute("SELECT pg_advisory_xact_lock($1)", &[&gate_key(id)]).await?;
        Ok(())
    }

    /// Added to transaction ids that are stored.
    pub(super) fn transaction_shift(&self) -> i64 {
        self.connection.shared.transaction_shift.load(Relaxed)
    }

    /// What is told once the transaction is committed.
    pub(super) fn notices(&self) -> MutexGuard<'_, Vec<ControlEvent>> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the transaction durable, lets go of the gate, and tells what is to be told.
    pub async fn commit(mut self) -> StoreResult<()> {
        let notices = std::mem::take(&mut *self.notices());
        let client = self.connection.client();
        if notices.is_empty() {
            self.statements.is_open = false;
            return self.answered(client.batch_execute("COMMIT")).await;
        }
        let sql = notify::commit_and_tell(&notices)?;
        self.statements.is_open = false;
        let told = self.answered(async {
            let mut answers = pin!(client.simple_query_raw(&sql).await?);
            // The first answer is the commit's: what goes wrong after it undoes nothing.
            answers.next().await.transpose()?;
            Ok(answers.try_for_each(|_| std::future::ready(Ok(()))).await)
        });
        if let Err(error) = told.await? {
            warn!(%error, "a notice was not taken; other replicas learn of the change when leases are renewed");
            for notice in notices {
                // An error only says that nobody listens.
                let _ = self.connection.shared.untold.send(notice);
            }
        }
        Ok(())
    }
}

impl Statements<'_> {
    /// Counts a statement until it is answered. One that is not leaves the connection unfit.
    pub(super) async fn answered<T>(
        &self,
        statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> StoreResult<T> {
        let connection = self.connection;
        let outages = &connection.shared.outages;
        self.unanswered.fetch_add(1, Relaxed);
        let answer = outages.answer(connection.made_at(), self.answer_limit, statement).await;
        if matches!(answer, Err(StoreError::Silent)) {
            return answer;
        }
        self.unanswered.fetch_sub(1, Relaxed);
        let Some(error) = answer.as_ref().err().and_then(StoreError::said) else { return answer };
        if let Some(staleness) = Staleness::of(error) {
            connection.distrust();
            if staleness == Staleness::Prepared {
                outages.note();
            }
        }
        if *error.code() == SqlState::IN_FAILED_SQL_TRANSACTION {
            // Of statements sent together, the one that failed first tells why. Its answer is here too; whoever waits
            // for both looks at it before the second turn ends.
            yield_now().await;
            yield_now().await;
        }
        answer
    }

    async fn prepare(&self, sql: &str) -> StoreResult<Statement> {
        self.answered(self.connection.client().prepare_cached(sql)).await
    }

    pub(super) async fn copy_in(&self, sql: &str) -> StoreResult<CopyInSink<Bytes>> {
        let statement = self.prepare(sql).await?;
        self.answered(self.connection.client().copy_in(&statement)).await
    }

    pub(super) async fn query(&self, sql: &str, params: Params<'_>) -> StoreResult<Vec<Row>> {
        let statement = self.prepare(sql).await?;
        self.answered(self.connection.client().query(&statement, params)).await
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
        self.answered(self.connection.client().query_one(&statement, params)).await
    }

    pub(super) async fn query_opt(
        &self,
        sql: &str,
        params: Params<'_>,
    ) -> StoreResult<Option<Row>> {
        let statement = self.prepare(sql).await?;
        self.answered(self.connection.client().query_opt(&statement, params)).await
    }

    pub(super) async fn execute(&self, sql: &str, params: Params<'_>) -> StoreResult<u64> {
        let statement = self.prepare(sql).await?;
        self.answered(self.connection.client().execute(&statement, params)).await
    }
}
