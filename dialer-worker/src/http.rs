//! A provider behind a small HTTP API (`deploy/openapi/voice-agent.yaml`), to which platforms of voice
//! agents are adapted; texts and e-mails go the same way.
//!
//! The attempt's key is the idempotency key of everything. A request whose answer is lost is looked up
//! by it before anything else is done, and an end that cannot be found out is reported as unknown.
//! What the platform tells counts whenever it comes: repeated, out of order, or for another process.

mod api;
mod call;
mod callbacks;
mod config;
mod signature;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::dialer::{Attempt, CallEnd, CallEvents, Dialer, EarlierCalls};
use api::{Api, Event, What};
pub use config::{Channel, HttpConfig};
use signature::Verifier;

/// News of one call that wait for it.
const NEWS_CAPACITY: usize = 16;
/// Ended calls that are remembered.
const MAX_RECENT_ENDS: usize = 10_000;

/// The HTTP provider.
#[derive(Clone)]
pub struct HttpDialer {
    shared: Arc<Shared>,
}

/// What all calls share.
struct Shared {
    api: Api,
    channel: Channel,
    callback_url: String,
    verifier: Verifier,
    poll_interval: Duration,
    call_limit: Duration,
    /// Set when the worker begins.
    earlier: OnceLock<EarlierCalls>,
    /// By key, those in progress.
    calls: Mutex<HashMap<String, mpsc::Sender<What>>>,
    ended: Mutex<Recent>,
}

/// Keys of calls whose end was told, the newest: a platform repeats itself soon or not at all.
#[derive(Default)]
struct Recent {
    keys: HashSet<String>,
    in_order: VecDeque<String>,
}

impl Recent {
    fn add(&mut self, key: String) {
        if self.keys.insert(key.clone()) {
            self.in_order.push_back(key);
        }
        if self.in_order.len() > MAX_RECENT_ENDS
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }
}

impl HttpDialer {
    /// Begins to listen for callbacks.
    ///
    /// # Errors
    /// When something in the configuration does not work; the text says what.
    pub async fn start(config: &HttpConfig) -> Result<Self, String> {
        let url = config.http_url.clone().ok_or("--provider http needs --http-url")?;
        let secret = config.http_callback_secret.as_ref();
        let secret = secret.ok_or("--provider http needs --http-callback-secret")?;
        let listener = TcpListener::bind(config.http_callback_listen).await.map_err(|error| {
            format!("--http-callback-listen {} does not work: {error}", config.http_callback_listen)
        })?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let base = config.http_callback_url.as_ref();
        let base = base.map_or_else(|| format!("http://{address}"), ToString::to_string);
        let shared = Arc::new(Shared {
            api: Api::new(url.clone(), config),
            channel: config.http_channel,
            callback_url: format!("{}{}", base.trim_end_matches('/'), callbacks::PATH),
            verifier: Verifier::new(secret.reveal())?,
            poll_interval: config.poll_interval(),
            call_limit: config.call_limit(),
            earlier: OnceLock::new(),
            calls: Mutex::default(),
            ended: Mutex::default(),
        });
        callbacks::listen(Arc::clone(&shared), listener);
        info!(platform = %url, callbacks = shared.callback_url, "HTTP is ready");
        Ok(Self { shared })
    }
}

impl Shared {
    /// Whom to reach.
    fn to<'a>(&self, attempt: &'a Attempt) -> Option<&'a str> {
        match self.channel {
            Channel::Call | Channel::Sms => Some(&attempt.phone_number),
            Channel::Email => attempt.attributes.get("email").map(String::as_str),
        }
    }

    /// Takes in what happened; done when it cannot be lost any more, but for the end of a call in
    /// progress: if this process dies before that is reported, the service knows that it knows not.
    async fn deliver(&self, event: Event) -> Result<(), StatusCode> {
        let earlier = self.earlier.get().ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
        if let Some(fact) = event.what.fact() {
            let call = earlier.call(&event.contact, &event.attempt_id);
            return durable(call.report_durably(fact).await);
        }
        let in_progress = self.listed().get(&event.key).cloned();
        match (in_progress, event.what.end()) {
            (_, Some(_)) if self.recent().keys.contains(&event.key) => Ok(()),
            (Some(call), end) => {
                call.try_send(event.what).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
                if end.is_some() {
                    self.recent().add(event.key);
                }
                Ok(())
            }
            (None, Some(end)) => {
                durable(earlier.ended(&event.contact, &event.attempt_id, end).await)
            }
            (None, None) => Ok(()),
        }
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listed(&self) -> MutexGuard<'_, HashMap<String, mpsc::Sender<What>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn durable(is_durable: bool) -> Result<(), StatusCode> {
    // Rejected for good, so that it need not be sent again.
    if is_durable { Ok(()) } else { Err(StatusCode::UNPROCESSABLE_ENTITY) }
}

impl fmt::Debug for HttpDialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpDialer").finish_non_exhaustive()
    }
}

impl Dialer for HttpDialer {
    fn dial(
        &self,
        attempt: Attempt,
        events: CallEvents,
        hang_up: CancellationToken,
    ) -> BoxFuture<'static, CallEnd> {
        let shared = Arc::clone(&self.shared);
        async move { call::place(&shared, &attempt, &events, &hang_up).await }.boxed()
    }

    fn begin(&self, earlier: EarlierCalls) {
        // Once for each worker; there is one.
        let _ = self.shared.earlier.set(earlier);
    }

    fn probe(&self) -> BoxFuture<'static, bool> {
        let shared = Arc::clone(&self.shared);
        async move { shared.api.is_healthy().await }.boxed()
    }
}
