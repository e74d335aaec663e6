//! Detection of silent connections. Dropped packets close no connection, so a dead connection may
//! look alive.

use super::{StoreError, StoreResult};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Interval at which an unanswered statement is checked.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Time for each answer on a connection that is taken for dead. Statements that wait at a gate may
/// take longer. For a live connection this matters at most once, because the connection is not
/// handed out again.
const LAST_CHANCE: Duration = Duration::from_secs(5);

/// Time at which a connection was last found dead. Connections made before that time may be dead
/// too.
#[derive(Clone, Debug, Default)]
pub struct Outages {
    last: Arc<Mutex<Option<Instant>>>,
}

impl Outages {
    /// Records that a connection was found dead just now.
    pub fn note(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Returns whether a connection made at `made_at` is not to be trusted.
    pub fn may_have_cut(&self, made_at: Instant) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| made_at < last)
    }

    /// Waits at most `limit` for an answer on a connection that was made at `made_at`.
    pub async fn answer<T>(
        &self,
        made_at: Instant,
        limit: Duration,
        statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> StoreResult<T> {
        let asked_at = Instant::now();
        let mut statement = pin!(statement);
        loop {
            if let Ok(answer) = timeout(LOOK_INTERVAL, &mut statement).await {
                return Ok(answer?);
            }
            let waited = asked_at.elapsed();
            if waited >= limit {
                self.note();
                return Err(StoreError::Silent);
            }
            if waited >= LAST_CHANCE && self.may_have_cut(made_at) {
                return Err(StoreError::Silent);
            }
        }
    }
}
