//! Errors of the database.

use deadpool_postgres::{HookError, PoolError};
use std::error::Error as _;
use tokio_postgres::error::{DbError, SqlState};

/// Result of a store function.
pub type StoreResult<T> = Result<T, StoreError>;

/// Error of the database. Its text may be logged.
#[derive(thiserror::Error)]
pub enum StoreError {
    /// A statement failed.
    #[error("{}", without_values(.0))]
    Database(#[from] tokio_postgres::Error),
    /// No connection was available in time.
    #[error("{}", of_pool(.0))]
    Pool(#[from] PoolError),
    /// A statement or a connection got no answer, not even an error.
    #[error("the database does not answer; its network may drop packets")]
    Silent,
    /// The server is a standby, or is set to accept no writes.
    #[error(
        "the database takes no writes: it is a standby, or default_transaction_read_only is on; \
         promote it, free its disk, or point DATABASE_URL at the primary"
    )]
    OnlyReads,
    /// A stored value is one that we never write.
    #[error("stored value cannot be read: {0}")]
    Corrupt(String),
    /// Somebody changed rows that a lock or a gate protects.
    #[error("rows locked for one transaction were changed by another")]
    Meddled,
}

impl std::fmt::Debug for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// Returns PostgreSQL's message without people's data. Leaves out the details, which show rows and
/// keys, and messages about unreadable values (class 22).
fn without_values(error: &tokio_postgres::Error) -> String {
    let Some(database) = error.as_db_error() else {
        let is_of_value = error.source().is_some_and(|source| source.is::<serde_json::Error>());
        return match error.source() {
            _ if is_of_value => "a stored value cannot be read".to_owned(),
            // The error is of the connection: its text alone says "error connecting to server" and
            // not why.
            Some(source) if is_of_connection(source) => format!("{error}: {source}"),
            _ => error.to_string(),
        };
    };
    let code = database.code().code();
    let message = if code.starts_with("22") { "a value was rejected" } else { database.message() };
    let place = [database.table(), database.column(), database.constraint()];
    let place: Vec<&str> = place.into_iter().flatten().collect();
    format!("{message} (SQLSTATE {code}) {}", place.join(" ")).trim_end().to_owned()
}

fn is_of_connection(source: &(dyn std::error::Error + 'static)) -> bool {
    source.is::<std::io::Error>() || source.is::<rustls::Error>()
}

fn of_pool(error: &PoolError) -> String {
    match error {
        PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
            without_values(error)
        }
        other => other.to_string(),
    }
}

/// SQLSTATE classes of errors after which a retry may work: connection, resources, operator
/// intervention, system errors, transactions rolled back because of others. Source: PostgreSQL's
/// appendix on error codes.
const TRANSIENT_CLASSES: [&str; 5] = ["08", "53", "57", "58", "40"];
/// Single SQLSTATE codes after which a retry may work: an unavailable lock, and time limits.
const TRANSIENT: [SqlState; 3] = [
    SqlState::LOCK_NOT_AVAILABLE,
    SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    // The statement that failed first tells the cause.
    SqlState::IN_FAILED_SQL_TRANSACTION,
];

impl StoreError {
    /// Returns whether the same request may work later: the database is unavailable, busy, or gave
    /// up on the request.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Pool(_) | Self::Silent | Self::OnlyReads => true,
            Self::Corrupt(_) | Self::Meddled => false,
            Self::Database(error) => {
                let Some(database) = error.as_db_error() else { return true };
                let code = database.code();
                TRANSIENT_CLASSES.iter().any(|class| code.code().starts_with(class))
                    || TRANSIENT.contains(code)
                    || Staleness::of(database).is_some()
            }
        }
    }

    /// Returns PostgreSQL's error, if the error is from PostgreSQL.
    pub(super) fn said(&self) -> Option<&DbError> {
        match self {
            Self::Database(error) => error.as_db_error(),
            _ => None,
        }
    }
}

/// Reason why a session is no longer usable, though its connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Staleness {
    /// The session only reads, for example after a failover.
    OnlyReads,
    /// The session's prepared statements are of another schema, or gone. The same is true of the
    /// other sessions.
    Prepared,
}

impl Staleness {
    pub(super) fn of(error: &DbError) -> Option<Self> {
        let code = error.code();
        // The code says only "not supported", and the message is in the server's language.
        let is_replanned = error.routine() == Some("RevalidateCachedQuery");
        if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
            Some(Self::OnlyReads)
        } else if *code == SqlState::INVALID_SQL_STATEMENT_NAME
            || *code == SqlState::DUPLICATE_PSTATEMENT
            || (*code == SqlState::FEATURE_NOT_SUPPORTED && is_replanned)
        {
            Some(Self::Prepared)
        } else {
            None
        }
    }
}
