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
pub mod clusters;
pub mod contacts;
pub mod counts;
pub mod due;
pub mod erasures;
mod error;
pub mod fitness;
pub mod groups;
pub mod imports;
pub mod interactions;
pub mod leases;
mod listening;
pub mod migrations;
pub mod notify;
pub mod numbers;
mod outages;
pub mod paces;
mod place;
pub mod purge;
pub mod requests;
pub mod retention;
mod session;
pub mod standings;
pub mod states;
pub mod suppressions;
mod tls;
pub mod troubles;
mod tx;
mod url;

use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Metrics, Pool, RecyclingMethod, Runtime,
};
pub use error::{StoreError, StoreResult};
use listening::CONNECT_LIMIT;
pub use listening::Listener;
use notify::ControlEvent;
use outages::Outages;
use session::Session;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tls::Tls;
use tokio::sync::broadcast;
use tokio::time::timeout;
use tokio_postgres::NoTls;
use tokio_postgres_rustls::MakeRustlsConnect;
use tx::Params;
pub use tx::{Connection, Durability, Gate, Opening, Statements, Tx};
use url::DatabaseUrl;
use uuid::Uuid;

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
    tls: Option<Tls>,
    session: Session,
    shared: Arc<Shared>,
}

/// What all connections to a database share.
#[derive(Debug)]
struct Shared {
    outages: Outages,
    /// Longest wait for an answer. The database gives up before, if it is there.
    answer_limit: Duration,
    /// Notices that the database did not take.
    untold: broadcast::Sender<ControlEvent>,
    /// Added to transaction ids that are stored: [`clusters`].
    transaction_shift: AtomicI64,
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

/// More than the database's own limit of a statement: on its way back.
const ANSWER_MARGIN: Duration = Duration::from_secs(5);
/// A connection that was not used for longer is asked whether it is there before it is used again.
const TRUSTED_IDLE: Duration = Duration::from_secs(5);
/// Longest wait for its answer.
const RECYCLE_LIMIT: Duration = Duration::from_secs(2);
/// Untold notices that a slow reader may lag behind.
const UNTOLD_BUFFER: usize = 1_024;

impl Db {
    /// A pool on a database; connects when first used.
    ///
    /// # Errors
    /// When the URL or a file that it names cannot be used.
    pub fn new(url: &str, ca_file: Option<&Path>, limits: &DbLimits) -> Result<Self, String> {
        let connect_limit = limits.connection_wait.min(CONNECT_LIMIT);
        let DatabaseUrl { config, tls, search_path } =
            DatabaseUrl::read(url, ca_file, connect_limit)?;
        let session = Session::new(limits.statement_timeout, search_path.as_deref());
        let shared = Arc::new(Shared {
            outages: Outages::default(),
            answer_limit: limits.statement_timeout + ANSWER_MARGIN,
            untold: broadcast::channel(UNTOLD_BUFFER).0,
            transaction_shift: AtomicI64::new(0),
        });
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match tls.clone() {
            Some(tls) => {
                let tls = MakeRustlsConnect::new(tls.config);
                Manager::from_config(config.clone(), tls, recycling)
            }
            None => Manager::from_config(config.clone(), NoTls, recycling),
        };
        let pool = Pool::builder(manager)
            .max_size(limits.max_connections)
            .wait_timeout(Some(limits.connection_wait))
            .create_timeout(Some(connect_limit))
            .post_create(prepare(session.clone()))
            .pre_recycle(check(shared.outages.clone()))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| format!("the database pool cannot be made: {error}"))?;
        Ok(Self { pool, config, tls, session, shared })
    }

    /// A connection from the pool.
    pub async fn connect(&self) -> StoreResult<Connection> {
        Ok(Connection::new(self.pool.get().await?, Arc::clone(&self.shared)))
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

    /// Notices that the database does not take, from now on.
    #[must_use]
    pub fn untold(&self) -> broadcast::Receiver<ControlEvent> {
        self.shared.untold.subscribe()
    }

    fn set_transaction_shift(&self, shift: i64) {
        self.shared.transaction_shift.store(shift, Ordering::Relaxed);
    }

    /// Asks the database whether it is there and takes writes.
    pub async fn ping(&self) -> StoreResult<()> {
        let connection = self.connect().await?;
        let sql = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool";
        if connection.alone().query_one(sql, &[]).await?.get(0) {
            // After a change of servers, a new connection finds the one that writes.
            connection.distrust();
            return Err(StoreError::OnlyReads);
        }
        Ok(())
    }
}

/// Prepares the session of a new connection.
fn prepare(session: Session) -> Hook {
    Hook::async_fn(move |client: &mut ClientWrapper, _: &Metrics| {
        let session = session.clone();
        Box::pin(async move {
            match timeout(CONNECT_LIMIT, session.prepare(client)).await {
                Ok(prepared) => prepared.map_err(HookError::Backend),
                Err(_) => Err(HookError::message("the database does not answer")),
            }
        })
    })
}

/// Checks a connection that may have died while it was not used.
fn check(outages: Outages) -> Hook {
    Hook::async_fn(move |client: &mut ClientWrapper, metrics: &Metrics| {
        let outages = outages.clone();
        Box::pin(async move {
            if outages.may_have_cut(metrics.created) {
                return Err(HookError::message("it was made before an outage"));
            }
            if metrics.last_used() < TRUSTED_IDLE {
                return Ok(());
            }
            match timeout(RECYCLE_LIMIT, client.batch_execute("")).await {
                Ok(answer) => answer.map_err(HookError::Backend),
                Err(_) => {
                    outages.note();
                    Err(HookError::message("the database does not answer"))
                }
            }
        })
    })
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
pub(crate) fn to_json<T: serde::Serialize>(value: &T) -> StoreResult<serde_json::Value> {
    serde_json::to_value(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}
