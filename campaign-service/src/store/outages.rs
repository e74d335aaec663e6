//! Silence: packets that are dropped close no connection, so a connection may be dead and look alive.

use super::{StoreError, StoreResult};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How often a statement that is not answered is thought of.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A connection that is taken for dead has this long for each answer. Statements that wait at a gate may take longer,
/// but for a connection that lives this matters once at most: it is not handed out again.
const LAST_CHANCE: Duration = Duration::from_secs(5);

/// When a connection was last found dead. Where one is, those made before it may be.
#[derive(Clone, Debug, Default)]
pub struct Outages {
    last: Arc<Mutex<Option<Instant>>>,
}

impl Outages {
    /// Notes that a connection was found dead just now.
    pub fn note(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether a connection that was made then is not to be trusted.
    pub fn may_have_cut(&self, made_at: Instant) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| made_at < last)
    }

    /// Waits for an answer on a connection that was made at `made_at`, `limit` at most.
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
