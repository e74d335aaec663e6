//! All SQL of the service: one function a statement, in a file per table family. It stores what the
//! domain decided and decides nothing itself.
//!
//! Statements on the data path name rows by key, many at once. They do it as `unnest(keys) CROSS JOIN
//! LATERAL (SELECT … LIMIT 1)`: LIMIT leaves the planner no choice but one index probe a key. Left a
//! choice, it reads a whole campaign for each batch, as long as statistics say that the campaign is small.

pub mod audit;
pub mod backlog;
pub mod calls;
pub mod campaigns;
pub mod contacts;
pub mod counts;
pub mod due;
pub mod erasures;
pub mod groups;
pub mod imports;
pub mod interactions;
pub mod leases;
pub mod migrations;
pub mod notify;
pub mod numbers;
pub mod paces;
mod place;
pub mod purge;
pub mod requests;
pub mod retention;
pub mod states;
pub mod suppressions;
mod tls;
pub mod troubles;
mod tx;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use futures_util::{StreamExt, stream};
use rustls::ClientConfig;
use std::error::Error as _;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;
use tx::Params;
pub use tx::{Connection, Durability, Gate, Opening, Statements, Tx};
use uuid::Uuid;

/// What a store function gives.
pub type StoreResult<T> = Result<T, StoreError>;

/// The database did not do what it was asked. What it says of itself may be logged.
#[derive(thiserror::Error)]
pub enum StoreError {
    /// A statement failed.
    #[error("{}", without_values(.0))]
    Database(#[from] tokio_postgres::Error),
    /// No connection in time.
    #[error("{}", of_pool(.0))]
    Pool(#[from] deadpool_postgres::PoolError),
    /// A stored value that we never write.
    #[error("stored value cannot be read: {0}")]
    Corrupt(String),
    /// Somebody changed what a lock or a gate keeps for us.
    #[error("rows that are kept for one transaction were changed by another")]
    Meddled,
}

impl std::fmt::Debug for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// What PostgreSQL says, but for what it may repeat of people's data: the details, which show rows and keys,
/// and what it says of values that it cannot read (class 22).
fn without_values(error: &tokio_postgres::Error) -> String {
    let Some(database) = error.as_db_error() else {
        let is_of_value = error.source().is_some_and(|source| source.is::<serde_json::Error>());
        return if is_of_value {
            "a stored value cannot be read".to_owned()
        } else {
            error.to_string()
        };
    };
    let code = database.code().code();
    let message = if code.starts_with("22") { "a value was refused" } else { database.message() };
    let place = [database.table(), database.column(), database.constraint()];
    let place: Vec<&str> = place.into_iter().flatten().collect();
    format!("{message} (SQLSTATE {code}) {}", place.join(" ")).trim_end().to_owned()
}

fn of_pool(error: &deadpool_postgres::PoolError) -> String {
    match error {
        deadpool_postgres::PoolError::Backend(error) => without_values(error),
        other => other.to_string(),
    }
}

impl StoreError {
    /// Whether the same request may work later: the database is away, busy or gave up on it.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Pool(_) => true,
            Self::Corrupt(_) | Self::Meddled => false,
            Self::Database(error) => error.code().is_none_or(|code| {
                // Connection, resources, operator intervention, system errors, and transactions
                // rolled back for others' sake: PostgreSQL's appendix on error codes.
                *code == ONLY_READS
                    || ["08", "53", "57", "58", "40"]
                        .iter()
                        .any(|class| code.code().starts_with(class))
            }),
        }
    }
}

/// What a server says of a write that is a standby, or that was told to take none for now.
const ONLY_READS: SqlState = SqlState::READ_ONLY_SQL_TRANSACTION;

/// Limits of the service's use of the database.
#[derive(Clone, Debug)]
pub struct DbLimits {
    /// Connections at the same time.
    pub max_connections: usize,
    /// Longest wait for one of them.
    pub connection_wait: Duration,
    /// Longest run of one statement.
    pub statement_timeout: Duration,
}

/// The database.
#[derive(Clone, Debug)]
pub struct Db {
    pool: Pool,
    config: tokio_postgres::Config,
    /// `None`: in the clear.
    tls: Option<ClientConfig>,
}

/// How a pool is used.
#[derive(Clone, Copy, Debug)]
pub struct PoolStatus {
    /// Open.
    pub connections: usize,
    /// Of those, free.
    pub idle: usize,
    pub max_connections: usize,
    /// Who waits for one.
    pub waiting: usize,
}

/// Notifications that may wait to be passed on.
const LISTEN_BUFFER: usize = 1_024;

/// A connection that listens, as long as it lives.
#[derive(Debug)]
pub struct Listener {
    _client: tokio_postgres::Client,
    payloads: mpsc::Receiver<String>,
}

impl Listener {
    /// The next payload; `None` when the connection is gone.
    pub async fn next(&mut self) -> Option<String> {
        self.payloads.recv().await
    }
}

impl Db {
    /// A pool on a database; connects when first used.
    ///
    /// # Errors
    /// When the URL or the file of who vouches for the database's certificate cannot be read.
    pub fn new(url: &str, ca_file: Option<&Path>, limits: &DbLimits) -> Result<Self, String> {
        let mut config: tokio_postgres::Config =
            url.parse().map_err(|error| format!("the database URL cannot be read: {error}"))?;
        config.application_name("campaign-service");
        config.connect_timeout(limits.connection_wait);
        config.keepalives_idle(Duration::from_secs(30));
        // Each statement has one good plan, whatever its arguments (so pages begin at COALESCE of the last
        // row and the end of all, a bound for the index): planned once, as planning many takes longer than
        // running them. A plan made while a table was small is kept when it has grown: it must not read
        // the table from end to end. Nothing here is worth compiling.
        config.options(format!(
            "-c statement_timeout={} -c idle_in_transaction_session_timeout=60000 \
             -c client_connection_check_interval=1000 -c plan_cache_mode=force_generic_plan \
             -c enable_seqscan=off -c jit=off",
            limits.statement_timeout.as_millis()
        ));
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let tls = tls::client(&config, ca_file)?;
        let manager = match tls.clone() {
            Some(tls) => {
                Manager::from_config(config.clone(), MakeRustlsConnect::new(tls), recycling)
            }
            None => Manager::from_config(config.clone(), NoTls, recycling),
        };
        let pool = Pool::builder(manager)
            .max_size(limits.max_connections)
            .wait_timeout(Some(limits.connection_wait))
            .create_timeout(Some(limits.connection_wait))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| format!("the database pool cannot be made: {error}"))?;
        Ok(Self { pool, config, tls })
    }

    /// A connection from the pool.
    pub async fn connect(&self) -> StoreResult<Connection> {
        Ok(Connection::new(self.pool.get().await?))
    }

    /// How the pool is used at this moment.
    #[must_use]
    pub fn pool(&self) -> PoolStatus {
        let status = self.pool.status();
        PoolStatus {
            connections: status.size,
            idle: status.available,
            max_connections: status.max_size,
            waiting: status.waiting,
        }
    }

    /// Opens a connection of its own that hears what replicas tell each other.
    pub async fn listen(&self) -> StoreResult<Listener> {
        let (sender, payloads) = mpsc::channel(LISTEN_BUFFER);
        let client = match self.tls.clone() {
            Some(tls) => {
                let (client, connection) = self.config.connect(MakeRustlsConnect::new(tls)).await?;
                tokio::spawn(pass_on(connection, sender));
                client
            }
            None => {
                let (client, connection) = self.config.connect(NoTls).await?;
                tokio::spawn(pass_on(connection, sender));
                client
            }
        };
        client.batch_execute(&format!("LISTEN {}", notify::CHANNEL)).await?;
        Ok(Listener { _client: client, payloads })
    }

    /// Asks the database for nothing, to see that it answers.
    pub async fn ping(&self) -> StoreResult<()> {
        self.connect().await?.client().simple_query("").await?;
        Ok(())
    }
}

/// Passes on what a connection hears, until it is gone or nobody listens.
async fn pass_on<S>(
    mut connection: tokio_postgres::Connection<Socket, S>,
    payloads: mpsc::Sender<String>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
    while let Some(Ok(message)) = messages.next().await {
        if let AsyncMessage::Notification(notification) = message
            && payloads.send(notification.payload().to_owned()).await.is_err()
        {
            return;
        }
    }
}

/// The number of a campaign's gate: the random half of its id.
fn gate_key(id: Uuid) -> i64 {
    id.as_u64_pair().1.cast_signed()
}

/// Reads a JSON column into a domain type.
fn from_json<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> StoreResult<T> {
    // What serde says would show the value.
    serde_json::from_value(value)
        .map_err(|_| StoreError::Corrupt(std::any::type_name::<T>().to_owned()))
}

/// A domain type as JSON to store. Our types have no keys that JSON lacks, so this cannot fail on them.
fn to_json<T: serde::Serialize>(value: &T) -> StoreResult<serde_json::Value> {
    serde_json::to_value(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}
