//! Transactions, and the gates they pass.
//!
//! Statements that do not need each other's answers are sent together (`try_join!`), because a
//! round trip costs more than most statements. PostgreSQL runs them in the order sent.

use super::error::{Staleness, StoreError, StoreResult};
use super::gate::{Durability, GATE_WAIT_MILLIS, Gate, LOCK_POSITIONS};
use super::notify::{self, ControlEvent};
use super::shared::Shared;
use super::to_count::ToCount;
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
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::yield_now;
use tokio::try_join;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{CopyInSink, Row, Statement};
use tracing::warn;
use uuid::Uuid;

/// Arguments of a statement.
pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Connection from the pool.
#[derive(Debug)]
pub struct Connection {
    /// Client, always present until the connection is dropped.
    client: Option<Client>,
    /// Whether the connection must not be used again. A statement may still be running whose answer
    /// nobody waits for, or the session is stale.
    is_unfit: AtomicBool,
    shared: Arc<Shared>,
    /// Place among the connections that only look.
    _place: Option<OwnedSemaphorePermit>,
}

/// Statements on a connection, in a transaction or single. A transaction that is dropped before its
/// commit is rolled back.
pub struct Statements<'c> {
    connection: &'c Connection,
    is_open: bool,
    /// Number of statements sent and not answered.
    unanswered: AtomicU32,
    /// Longest wait for an answer.
    answer_limit: Duration,
}

/// Transaction that is about to begin.
pub struct Opening<'c> {
    statements: Statements<'c>,
    /// Statement that locks the positions of a campaign before the gate.
    positions: Option<(Statement, Uuid)>,
    /// Statement that passes the gate, returns the time and sets the durability.
    gate: Statement,
    key: i64,
}

/// Transaction, with the database's time at its start. The database's clock is the one clock of all
/// replicas.
pub struct Tx<'c> {
    statements: Statements<'c>,
    /// Time of the transaction, read after the gate was passed.
    pub now: Instant,
    /// Notices to send once the transaction is committed.
    notices: Mutex<Vec<ControlEvent>>,
}

/// Start of a transaction. The isolation level is set whatever the default: a snapshot from before
/// the gate would miss the changes that the gate waited for. Whether a transaction may write is
/// left to the default, which lets an operator stop all writes.
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
            // The caller gave up: its deadline passed, or it left.
            self.connection.is_unfit.store(true, Relaxed);
        } else if self.is_open && !self.connection.is_unfit.load(Relaxed) {
            // The ROLLBACK is sent at once, and the connection's next statement comes after it.
            let _ = self.connection.client().batch_execute("ROLLBACK").now_or_never();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(client) = self.client.take()
            && self.is_unfit.load(Relaxed)
        {
            // The connection is closed and not used again, so that the database gives up on the
            // statement and rolls back. This takes up to 1 second
            // (`client_connection_check_interval`).
            drop(Client::take(client));
        }
    }
}

impl Connection {
    pub(super) fn new(
        client: Client,
        shared: Arc<Shared>,
        place: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self { client: Some(client), is_unfit: AtomicBool::new(false), shared, _place: place }
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

    /// Returns a handle for single reads, each a transaction of its own.
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

    /// Starts a transaction behind a gate, with [`Durability::Relaxed`].
    pub async fn begin_relaxed(&mut self, gate: Gate) -> StoreResult<Tx<'_>> {
        let opening = self.open(gate, Durability::Relaxed).await?;
        let now = opening.pass().await?;
        Ok(opening.at(now))
    }

    /// Starts a transaction without a gate, for statements that may run as long as `limit`.
    pub(super) async fn begin_long(&mut self, limit: Duration) -> StoreResult<Tx<'_>> {
        let mut opening = self.open(Gate::Open, Durability::Durable).await?;
        opening.statements.answer_limit = limit;
        let now = opening.pass().await?;
        let tx = opening.at(now);
        let timeout = limit.as_millis().to_string();
        let sql = "SELECT set_config(name, $1, true) FROM pg_catalog.pg_settings
            WHERE name IN ('statement_timeout', 'transaction_timeout')";
        tx.execute(sql, &[&timeout]).await?;
        Ok(tx)
    }

    /// Prepares a transaction behind a gate. [`Opening::pass`] starts the transaction. Statements
    /// sent together with `pass` or after it run behind the gate.
    pub async fn open(&mut self, gate: Gate, durability: Durability) -> StoreResult<Opening<'_>> {
        let (sql, key) = gate.passing(durability);
        let positions = match gate {
            Gate::Adding(id) | Gate::ExclusiveAdding(id) => {
                Some((self.alone().prepare(LOCK_POSITIONS).await?, id))
            }
            Gate::Open | Gate::Shared(_) | Gate::Exclusive(_) => None,
        };
        // Prepared now, so that nothing can be sent before the gate.
        let gate = self.alone().prepare(&sql).await?;
        let statements = self.statements(true);
        Ok(Opening { statements, positions, gate, key })
    }

    /// Starts a transaction that reads one snapshot throughout, and passes no gate.
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
    /// Begins the transaction, passes the gate and returns the time. Must come first among
    /// statements that are sent together.
    pub async fn pass(&self) -> StoreResult<Instant> {
        let client = self.connection.client();
        let key: Params<'_> = &[&self.key];
        let begin = async {
            match &self.positions {
                None => client.batch_execute(BEGIN).await,
                Some((lock, id)) => {
                    let id: Params<'_> = &[id];
                    let begin = format!("{BEGIN}; SET LOCAL lock_timeout = {GATE_WAIT_MILLIS}");
                    try_join!(biased; client.batch_execute(&begin), client.execute(lock, id))?;
                    Ok(())
                }
            }
        };
        let (_, row) = try_join!(
            biased;
            self.answered(begin),
            self.answered(client.query_one(&self.gate, key)),
        )?;
        Ok(row.get("now"))
    }

    /// Returns the transaction, which passed the gate at `now`.
    pub fn at(self, now: Instant) -> Tx<'c> {
        Tx { statements: self.statements, now, notices: Mutex::default() }
    }
}

impl Tx<'_> {
    /// Returns the number added to transaction ids that are stored.
    pub(super) fn transaction_shift(&self) -> i64 {
        self.connection.shared.transaction_shift.load(Relaxed)
    }

    /// Returns the work on kept counts that is left for later.
    pub(super) fn to_count(&self) -> &ToCount {
        &self.connection.shared.to_count
    }

    /// Notifies all replicas once the transaction is committed.
    pub fn notify_on_commit(&self, event: ControlEvent) {
        self.notices().push(event);
    }

    /// Returns the notices to send once the transaction is committed.
    fn notices(&self) -> MutexGuard<'_, Vec<ControlEvent>> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits the transaction, releases the gate, and sends the notices.
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
            // The first answer is the commit's. A later error undoes nothing.
            answers.next().await.transpose()?;
            Ok(answers.try_for_each(|_| std::future::ready(Ok(()))).await)
        });
        if let Err(error) = told.await? {
            warn!(%error, "a notice was not sent; other replicas learn of the change when leases are renewed");
            for notice in notices {
                // An error only says that nobody listens.
                let _ = self.connection.shared.untold.send(notice);
            }
        }
        Ok(())
    }
}

impl Statements<'_> {
    /// Counts a statement until it is answered. An unanswered statement leaves the connection
    /// unfit.
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
            // Among statements sent together, the one that failed first tells why. Its answer has
            // arrived too. A caller that waits for both sees that answer before the second turn
            // ends.
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

    /// Runs two statements that are sent together. Returns the rows of the second.
    pub(super) async fn then_query(
        &self,
        first: &str,
        first_params: Params<'_>,
        second: &str,
        second_params: Params<'_>,
    ) -> StoreResult<Vec<Row>> {
        // Both are prepared before either is sent, or the second might overtake the first.
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
