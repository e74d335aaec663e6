//! Provider behind a small HTTP API (`deploy/openapi/voice-agent.yaml`), to which platforms of
//! voice agents are adapted. Texts and e-mails use the same API.
//!
//! Every request carries the attempt's key as its idempotency key. If an answer is lost, the worker
//! first looks the call up by that key. If the end of the call cannot be found out, it is reported
//! as unknown. Events of the platform count even when they are repeated, out of order, or for
//! another process.

mod api;
mod call;
mod callbacks;
mod config;
mod connecting;
mod signature;

use std::collections::{HashMap, VecDeque};
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

use campaign_process::Seldom;
use campaign_process::client::is_in_the_clear;
use campaign_process::connections::{ConnectionLimits, Connections};
use campaign_process::metrics::Counter;

use crate::call::{Attempt, CallEnd, CallEvents, EarlierCalls};
use crate::dialer::Dialer;
use crate::metrics::Metrics;
use api::{Api, Event, What};
pub use config::{Channel, HttpConfig};
use signature::Verifier;

/// Capacity for events of one call that wait to be handled.
const NEWS_CAPACITY: usize = 16;
/// Most ended calls that are remembered.
const MAX_RECENT_ENDS: usize = 10_000;

/// HTTP provider.
#[derive(Clone)]
pub struct HttpDialer {
    shared: Arc<Shared>,
}

/// State that all calls share.
struct Shared {
    api: Api,
    channel: Channel,
    callback_url: String,
    verifier: Verifier,
    poll_interval: Duration,
    call_limit: Duration,
    /// Channel for calls of an earlier process. Set when the worker begins.
    earlier: OnceLock<EarlierCalls>,
    /// Calls in progress, by key.
    calls: Mutex<HashMap<String, Listed>>,
    ended: Mutex<Recent>,
    /// Callbacks whose signature is not valid. `refusing` limits their log lines.
    refused: Counter,
    refusing: Seldom,
}

/// Call in progress.
#[derive(Clone)]
struct Listed {
    news: mpsc::Sender<What>,
    events: CallEvents,
}

/// Most recent calls whose end was reported. A platform repeats a callback soon or not at all.
#[derive(Default)]
struct Recent {
    /// Durability of each call's end, by key.
    ends: HashMap<String, bool>,
    in_order: VecDeque<String>,
}

impl Recent {
    fn begin(&mut self, key: &str) {
        if self.ends.insert(key.to_owned(), false).is_none() {
            self.in_order.push_back(key.to_owned());
        }
        if self.in_order.len() > MAX_RECENT_ENDS
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.ends.remove(&oldest);
        }
    }

    fn finish(&mut self, key: &str, is_durable: bool) {
        if is_durable {
            self.ends.insert(key.to_owned(), true);
        } else {
            self.ends.remove(key);
            self.in_order.retain(|other| other != key);
        }
    }
}

impl HttpDialer {
    /// Starts to listen for callbacks.
    ///
    /// # Errors
    /// Returns a text that names the setting that does not work.
    pub async fn start(
        config: &HttpConfig,
        limits: ConnectionLimits,
        metrics: &Metrics,
    ) -> Result<Self, String> {
        let url = config.http_url.clone().ok_or("--provider http needs --http-url")?;
        if is_in_the_clear(&url) && !config.http_allow_plaintext {
            return Err(format!(
                "--http-url {url} would send numbers and the API key in the clear: use https, or allow it with \
                 --http-allow-plaintext"
            ));
        }
        let secret = config.http_callback_secret.as_ref();
        let secret = secret.ok_or("--provider http needs --http-callback-secret")?;
        let api = Api::new(url.clone(), config)?;
        // Checked before an attempt is spent on an untrusted platform. A platform that is down may
        // come up.
        if url.scheme_str() == Some("https") && api.is_untrusted().await {
            return Err(format!(
                "{url} has no certificate that is trusted, or speaks no TLS (the line above says more): look at \
                 --http-url, or name its authority with --http-ca-file"
            ));
        }
        let listener = TcpListener::bind(config.http_callback_listen).await.map_err(|error| {
            format!("--http-callback-listen {} does not work: {error}", config.http_callback_listen)
        })?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let base = config.http_callback_url.as_ref();
        let base = base.map_or_else(|| format!("http://{address}"), ToString::to_string);
        let shared = Arc::new(Shared {
            api,
            channel: config.http_channel,
            callback_url: format!("{}{}", base.trim_end_matches('/'), callbacks::PATH),
            verifier: Verifier::new(secret.reveal())?,
            poll_interval: config.poll_interval(),
            call_limit: config.call_limit(),
            earlier: OnceLock::new(),
            calls: Mutex::default(),
            ended: Mutex::default(),
            refused: metrics.refused_callbacks.clone(),
            refusing: Seldom::default(),
        });
        let connections = Connections::new(limits, metrics.callbacks_turned_away.clone());
        callbacks::listen(Arc::clone(&shared), listener, connections, limits);
        info!(platform = %url, callbacks = shared.callback_url, "HTTP is ready");
        Ok(Self { shared })
    }
}

impl Shared {
    /// Returns the address of the contact in this channel, if the contact has one.
    fn to<'a>(&self, attempt: &'a Attempt) -> Option<&'a str> {
        match self.channel {
            Channel::Call | Channel::Sms => Some(&attempt.phone_number),
            Channel::Email => attempt.attributes.get("email").map(String::as_str),
        }
    }

    /// Handles an event. Completes when the event can no longer be lost.
    async fn deliver(self: &Arc<Self>, event: Event) -> Result<(), StatusCode> {
        let earlier = self.earlier.get().ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
        if let Some(fact) = event.what.fact() {
            let call = earlier.call(&event.contact, &event.attempt_id);
            return durable(call.report_durably(fact).await);
        }
        let Some(end) = event.what.end() else {
            let in_progress = self.listed().get(&event.key).cloned();
            return in_progress.map_or(Ok(()), |call| call.pass(event.what));
        };
        let told_before = self.recent().ends.get(&event.key).copied();
        let in_progress = self.listed().get(&event.key).cloned();
        match (told_before, in_progress) {
            (Some(true), _) => Ok(()),
            // The first report of this end is still being handled.
            (Some(false), _) => Err(StatusCode::SERVICE_UNAVAILABLE),
            (None, Some(call)) => {
                // Runs to completion even if the platform does not wait for it.
                let shared = Arc::clone(self);
                let ended = tokio::spawn(async move { shared.end(&call, &event).await });
                ended.await.unwrap_or(Err(StatusCode::SERVICE_UNAVAILABLE))
            }
            (None, None) => durable(earlier.ended(&event.contact, &event.attempt_id, end).await),
        }
    }

    /// Ends a call in progress.
    async fn end(&self, call: &Listed, event: &Event) -> Result<(), StatusCode> {
        self.recent().begin(&event.key);
        let is_durable = call.events.when_end_is_durable().await;
        let passed = call.pass(event.what.clone());
        // False if another end was decided first.
        let is_durable = passed.is_ok() && is_durable.await.unwrap_or(false);
        self.recent().finish(&event.key, is_durable);
        if is_durable { Ok(()) } else { Err(StatusCode::SERVICE_UNAVAILABLE) }
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listed(&self) -> MutexGuard<'_, HashMap<String, Listed>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listed {
    /// Passes news to the call.
    fn pass(&self, what: What) -> Result<(), StatusCode> {
        self.news.try_send(what).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
    }
}

fn durable(is_durable: bool) -> Result<(), StatusCode> {
    // A rejection is final, so the platform need not repeat the callback.
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
        // Set once: the process has one worker.
        let _ = self.shared.earlier.set(earlier);
    }

    fn probe(&self) -> BoxFuture<'static, bool> {
        let shared = Arc::clone(&self.shared);
        async move { shared.api.is_healthy().await }.boxed()
    }
}
