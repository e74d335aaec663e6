//! Call at the platform: polled and hung up by the platform's own id.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use tokio::time::sleep;
use tracing::{debug, warn};

use super::events::{Named, What};
use super::platform::{Found, Sought};
use super::shared::Shared;

/// Attempts and delay of a hang-up that the platform did not accept.
const HANG_UP_ROUNDS: usize = 10;
const HANG_UP_DELAY: Duration = Duration::from_millis(500);

/// Call at the platform.
#[derive(Clone)]
pub(super) struct Remote {
    pub shared: Arc<Shared>,
    pub named: Named,
    /// Number, or address of an e-mail.
    pub to: String,
    /// Id at the platform, once it is known.
    pub id: Arc<OnceLock<String>>,
    /// Time of the first request.
    pub begun_at: SystemTime,
}

impl Remote {
    /// Looks the call up, and notes its id.
    pub async fn find(&self) -> Found {
        let id = self.id.get().map(String::as_str);
        let sought = Sought { named: &self.named, to: &self.to, id, begun_at: self.begun_at };
        let found = self.shared.platform.find(&sought).await;
        if let Found::Known { id, .. } = &found {
            let _ = self.id.set(id.clone());
        }
        found
    }

    /// Handles everything that the platform knows of the call.
    pub async fn deliver(self, whats: Vec<What>) {
        if let Err(status) = self.shared.deliver_all(self.named.events(whats)).await {
            debug!(%status, "a polled event could not be handled");
        }
    }

    /// Polls the platform for events that no callback has delivered.
    pub async fn poll(self) {
        if let Found::Known { whats, .. } = self.find().await {
            self.deliver(whats).await;
        }
    }

    /// Hangs up, however often that takes.
    pub async fn hang_up(self) {
        for _ in 0..HANG_UP_ROUNDS {
            if self.id.get().is_none() {
                self.find().await;
            }
            if let Some(id) = self.id.get()
                && self.shared.platform.hang_up(id).await
            {
                return;
            }
            sleep(HANG_UP_DELAY).await;
        }
        warn!(key = self.named.key, "the platform does not accept a hang-up");
    }
}
