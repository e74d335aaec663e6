//! Provider behind an HTTP API: a platform of voice agents, or a sender of texts and e-mails.
//!
//! A platform is read and asked in its own words (`platforms`). The rest is the same for all: the
//! listener for callbacks, the list of calls in progress, and the life of a call.
//!
//! Every platform echoes the names of an attempt. If an answer is lost, the worker first looks the
//! call up. If the end of the call cannot be found out, it is reported as unknown. Events of the
//! platform count even when they are repeated, out of order, or for another process.

mod call;
mod callbacks;
mod client;
mod config;
mod connecting;
mod events;
mod flavor;
mod platform;
mod platforms;
mod remote;
mod shared;
mod signature;
mod texts;

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use clap::ValueEnum;
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
use crate::service::Replica;
use client::Client;
pub use config::{Channel, HttpConfig};
pub use flavor::{Flavor, PlatformConfig};
use platforms::platform;
use shared::Shared;
use signature::Secrets;
use texts::Texts;

/// HTTP provider.
#[derive(Clone)]
pub struct HttpDialer {
    shared: Arc<Shared>,
}

impl HttpDialer {
    /// Starts to listen for callbacks. `replicas` record opt-outs by text.
    ///
    /// # Errors
    /// Returns a text that names the setting that does not work.
    pub async fn start(
        config: &HttpConfig,
        replicas: Vec<Replica>,
        limits: ConnectionLimits,
        metrics: &Metrics,
    ) -> Result<Self, String> {
        let url = config.http_url.clone().or_else(|| config.platform.http_flavor.url());
        let url = url.ok_or("--provider http needs --http-url")?;
        if is_in_the_clear(&url) && !config.http_allow_plaintext {
            return Err(format!(
                "--http-url {url} would send numbers and the API key in the clear: use https, or allow it with \
                 --http-allow-plaintext"
            ));
        }
        let secret = config.http_callback_secret.as_ref();
        let secret = secret.ok_or("--provider http needs --http-callback-secret")?;
        let secrets = Secrets::new(secret, config.http_callback_secret_before.as_ref())?;
        let platform = platform(&url, config, secrets)?;
        // Checked before an attempt is spent on an untrusted platform. A platform that is down may
        // come up.
        if url.scheme_str() == Some("https")
            && Client::new(&url, None, config)?.is_untrusted("/").await
        {
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
        let campaign = config.platform.http_text_campaign.clone();
        let shared = Arc::new(Shared {
            platform,
            channel: config.http_channel,
            callback_url: format!("{}{}", base.trim_end_matches('/'), callbacks::PATH),
            poll_interval: config.poll_interval(),
            call_limit: config.call_limit(),
            texts: campaign.map(|campaign| Arc::new(Texts::new(campaign, &replicas))),
            earlier: OnceLock::new(),
            calls: Mutex::default(),
            ended: Mutex::default(),
            refused: metrics.refused_callbacks.clone(),
            refusing: Seldom::default(),
            going_on: Seldom::default(),
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

    fn channels(&self) -> Vec<String> {
        // The service knows channels by the names that the flag has.
        let name = self.shared.channel.to_possible_value();
        name.map(|name| name.get_name().to_owned()).into_iter().collect()
    }

    fn tells_health(&self) -> bool {
        true
    }

    fn stop(&self, grace: Duration) -> BoxFuture<'static, usize> {
        let shared = Arc::clone(&self.shared);
        async move { shared.stop(grace).await }.boxed()
    }

    fn probe(&self) -> BoxFuture<'static, bool> {
        let shared = Arc::clone(&self.shared);
        async move { shared.platform.is_healthy().await }.boxed()
    }
}
