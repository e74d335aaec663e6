//! Notices between replicas: a connection that receives them, and a channel that passes them on in
//! this process.

use crate::store::Db;
use crate::store::notify::ControlEvent;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Most events that a slow stream may lag behind. A stream that lags further looks at everything
/// again.
const CHANNEL_CAPACITY: usize = 1_024;
/// Wait before listening again after the connection broke.
const RECONNECT_DELAY: Duration = Duration::from_millis(500);

/// Channel that passes control events to the streams of this process.
#[derive(Clone, Debug)]
pub struct ControlBus {
    sender: broadcast::Sender<ControlEvent>,
    /// Number of events that may tell of a stop.
    stops_heard: Arc<AtomicU64>,
}

impl Default for ControlBus {
    fn default() -> Self {
        Self { sender: broadcast::channel(CHANNEL_CAPACITY).0, stops_heard: Arc::default() }
    }
}

impl ControlBus {
    /// Subscribes to everything that happens from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<ControlEvent> {
        self.sender.subscribe()
    }

    /// Returns how many stops were heard, or may have been missed, so far. Counted before the event
    /// is passed on: whoever finds the number unchanged hears of the next stop.
    #[must_use]
    pub fn stops_heard(&self) -> u64 {
        self.stops_heard.load(Ordering::SeqCst)
    }

    /// Listens until told to stop; reconnects by itself.
    pub async fn run(&self, db: &Db, stop: &CancellationToken) {
        tokio::join!(self.hear_others(db, stop), self.hear_untold(db, stop));
    }

    /// Passes notices that could not be sent to other replicas to the streams of this replica.
    async fn hear_untold(&self, db: &Db, stop: &CancellationToken) {
        let mut untold = db.untold();
        while let Some(event) = stop.run_until_cancelled(untold.recv()).await {
            match event {
                Ok(event) => self.pass_on(event),
                Err(RecvError::Lagged(_)) => self.pass_on(ControlEvent::Missed),
                Err(RecvError::Closed) => return,
            }
        }
    }

    async fn hear_others(&self, db: &Db, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => return,
                result = self.listen(db) => match result {
                    Ok(()) => warn!("the listening connection broke or is silent; connecting again"),
                    Err(error) => warn!(%error, "other replicas cannot be heard; connecting again"),
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RECONNECT_DELAY) => {}
            }
        }
    }

    async fn listen(&self, db: &Db) -> Result<(), crate::store::StoreError> {
        let mut listener = db.listen().await?;
        // Notices that were sent while nobody listened are not repeated.
        self.pass_on(ControlEvent::Missed);
        while let Some(payload) = listener.next().await {
            match serde_json::from_str(&payload) {
                Ok(event) => self.pass_on(event),
                // A newer replica may send notices that this one does not know.
                Err(error) => {
                    debug!(%error, "a control event was not understood");
                    self.pass_on(ControlEvent::Missed);
                }
            }
        }
        Ok(())
    }

    fn pass_on(&self, event: ControlEvent) {
        if matches!(event, ControlEvent::Stopped { .. } | ControlEvent::Missed) {
            self.stops_heard.fetch_add(1, Ordering::SeqCst);
        }
        // An error only says that no stream is open.
        let _ = self.sender.send(event);
    }
}
