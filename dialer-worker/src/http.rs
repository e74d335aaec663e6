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
mod shared;
mod signature;

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use campaign_process::Seldom;
use campaign_process::client::is_in_the_clear;
use campaign_process::connections::{ConnectionLimits, Connections};

use crate::call::{Attempt, CallEnd, CallEvents, EarlierCalls};
use crate::dialer::Dialer;
use crate::metrics::Metrics;
use api::Api;
pub use config::{Channel, HttpConfig};
use shared::Shared;
use signature::Verifier;

/// HTTP provider.
#[derive(Clone)]
pub struct HttpDialer {
    shared: Arc<Shared>,
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

    fn tells_health(&self) -> bool {
        true
    }

    fn probe(&self) -> BoxFuture<'static, bool> {
        let shared = Arc::clone(&self.shared);
        async move { shared.api.is_healthy().await }.boxed()
    }
}
