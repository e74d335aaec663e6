//! Pool of connections to the database.

use super::error::{StoreError, StoreResult};
use super::notify::ControlEvent;
use super::outages::Outages;
use super::session::{CONNECT_LIMIT, Session};
use super::shared::Shared;
use super::tls::Tls;
use super::to_count::ToCount;
use super::tx::Connection;
use super::url::DatabaseUrl;
use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Metrics, Pool, PoolError,
    RecyclingMethod, Runtime, TimeoutType,
};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, broadcast};
use tokio::time::timeout;
use tokio_postgres::NoTls;
use tokio_postgres_rustls::MakeRustlsConnect;
use uuid::Uuid;

/// Limits of the service's use of the database.
#[derive(Clone, Debug)]
pub struct DbLimits {
    /// Most connections at the same time.
    pub max_connections: usize,
    /// Longest wait for a connection.
    pub connection_wait: Duration,
    /// Longest run of one statement.
    pub statement_timeout: Duration,
}

/// Database, reached through a pool of connections.
#[derive(Clone, Debug)]
pub struct Db {
    pub(super) pool: Pool,
    /// Places for connections that only look.
    looking: Arc<Semaphore>,
    connection_wait: Duration,
    /// Whether this handle only looks.
    only_looks: bool,
    pub(super) config: tokio_postgres::Config,
    /// TLS settings; `None` for unencrypted connections.
    pub(super) tls: Option<Tls>,
    pub(super) session: Session,
    pub(super) shared: Arc<Shared>,
}

/// Usage of a pool.
#[derive(Clone, Copy, Debug)]
pub struct PoolStatus {
    /// Open connections.
    pub connections: usize,
    /// Open connections that are free.
    pub idle: usize,
    pub max_connections: usize,
    /// Callers that wait for a connection.
    pub waiting: usize,
}

/// Most connections that only look, as a share of all. The rest is for control and dispatch.
const LOOKING_SHARE: usize = 4;
/// Margin over the database's own limit of a statement, for the way back.
const ANSWER_MARGIN: Duration = Duration::from_secs(5);
/// Idle time after which a connection is checked before it is used again.
const TRUSTED_IDLE: Duration = Duration::from_secs(5);
/// Longest wait for the answer of a connection that is checked.
const RECYCLE_LIMIT: Duration = Duration::from_secs(2);
/// Most untold notices that a slow reader may lag behind.
const UNTOLD_BUFFER: usize = 1_024;

impl Db {
    /// Creates a pool on a database. Connects when first used.
    ///
    /// # Errors
    /// If the URL or a file that it names cannot be used.
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
            to_count: ToCount::default(),
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
        let looking = Semaphore::new((limits.max_connections / LOOKING_SHARE).max(1));
        Ok(Self {
            pool,
            looking: Arc::new(looking),
            connection_wait: limits.connection_wait,
            only_looks: false,
            config,
            tls,
            session,
            shared,
        })
    }

    /// Returns a handle for callers that only look. Together they take a quarter of the connections
    /// at most, so that no number of them keeps others from control and dispatch.
    #[must_use]
    pub fn for_looking(&self) -> Self {
        Self { only_looks: true, ..self.clone() }
    }

    /// Takes a connection from the pool.
    pub async fn connect(&self) -> StoreResult<Connection> {
        let place = if self.only_looks {
            let looking = Arc::clone(&self.looking).acquire_owned();
            let place = timeout(self.connection_wait, looking)
                .await
                .map_err(|_| StoreError::Pool(PoolError::Timeout(TimeoutType::Wait)))?;
            place.ok()
        } else {
            None
        };
        Ok(Connection::new(self.pool.get().await?, Arc::clone(&self.shared), place))
    }

    /// Returns how the pool is used at this moment.
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

    /// Subscribes to notices that the database does not accept, from now on.
    #[must_use]
    pub fn untold(&self) -> broadcast::Receiver<ControlEvent> {
        self.shared.untold.subscribe()
    }

    pub(super) fn set_transaction_shift(&self, shift: i64) {
        self.shared.transaction_shift.store(shift, Ordering::Relaxed);
    }

    /// Takes the campaigns with many deltas of kept counts, as far as this process knows.
    #[must_use]
    pub fn take_to_fold(&self) -> Vec<Uuid> {
        self.shared.to_count.take_to_fold()
    }

    /// Takes the campaigns that were asked for and whose kept counts are not known to be right.
    #[must_use]
    pub fn take_unkept(&self) -> HashSet<Uuid> {
        self.shared.to_count.take_unkept()
    }

    /// Checks whether the database answers and accepts writes.
    pub async fn ping(&self) -> StoreResult<()> {
        let connection = self.connect().await?;
        let sql = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool";
        if connection.alone().query_one(sql, &[]).await?.get(0) {
            // After a failover, a new connection finds the server that accepts writes.
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
                return Err(HookError::message("the connection was made before an outage"));
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
