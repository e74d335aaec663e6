//! HTTP client of the platform.

use std::time::Duration;

use axum::body::Bytes;
use campaign_process::Secret;
use campaign_process::traces::TraceContext;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, Uri, header};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::rt::TokioExecutor;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::config::HttpConfig;
use super::connecting::{Connector, connector, tls_problem};
use crate::call::Fault;

/// Largest body accepted in an answer.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// Client of one platform.
#[derive(Clone, Debug)]
pub(super) struct Client {
    client: HyperClient<Connector, Full<Bytes>>,
    base: String,
    /// Header that identifies this worker.
    key: Option<(&'static str, Secret)>,
    limit: Duration,
}

/// Request to the platform.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    pub method: Method,
    /// Path, with its query.
    pub path: &'a str,
    pub content: Content,
    pub idempotency_key: Option<&'a str>,
    pub trace: Option<&'a TraceContext>,
}

#[derive(Debug)]
pub(super) enum Content {
    None,
    Json(Vec<u8>),
    Form(String),
}

impl<'a> Ask<'a> {
    pub fn get(path: &'a str) -> Self {
        Self::with(Method::GET, path, Content::None)
    }

    pub fn post(path: &'a str, content: Content) -> Self {
        Self::with(Method::POST, path, content)
    }

    fn with(method: Method, path: &'a str, content: Content) -> Self {
        Self { method, path, content, idempotency_key: None, trace: None }
    }
}

/// Answer of the platform, whatever its status.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    /// Delay that the platform asks for.
    pub retry_after: Option<Duration>,
    pub body: Bytes,
}

/// Request without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    NotSent(Fault),
    Lost,
}

impl Client {
    pub fn new(
        base: &Uri,
        key: Option<(&'static str, Secret)>,
        config: &HttpConfig,
    ) -> Result<Self, String> {
        Ok(Self {
            client: HyperClient::builder(TokioExecutor::new())
                // Without this setting the client may repeat a request by itself.
                .retry_canceled_requests(false)
                .build(connector(config)?),
            base: base.to_string().trim_end_matches('/').to_owned(),
            key,
            limit: config.response_limit(),
        })
    }

    /// Whether the answer to a request is 2xx.
    pub async fn succeeds(&self, ask: Ask<'_>) -> bool {
        self.send(ask).await.is_ok_and(|answer| answer.status.is_success())
    }

    /// Whether the platform answers, but with an untrusted certificate or without TLS.
    pub async fn is_untrusted(&self, path: &str) -> bool {
        matches!(self.send(Ask::get(path)).await, Err(Failed::NotSent(Fault::Untrusted)))
    }

    /// Whether the answer of an address that the platform named is 2xx. The key is not sent. Except:
    /// the address is the platform's own. An address without TLS elsewhere is not asked.
    pub async fn succeeds_at(&self, url: &str, ask: Ask<'_>) -> bool {
        let own = url.strip_prefix(&self.base).is_some_and(|rest| rest.starts_with('/'));
        if !own && !url.starts_with("https://") {
            return false;
        }
        let key = self.key.as_ref().filter(|_| own);
        self.send_to(url.to_owned(), ask, key).await.is_ok_and(|answer| answer.status.is_success())
    }

    pub async fn send(&self, ask: Ask<'_>) -> Result<Answer, Failed> {
        self.send_to(format!("{}{}", self.base, ask.path), ask, self.key.as_ref()).await
    }

    async fn send_to(
        &self,
        url: String,
        ask: Ask<'_>,
        key: Option<&(&'static str, Secret)>,
    ) -> Result<Answer, Failed> {
        let mut request = Request::builder().method(ask.method).uri(url);
        let (kind, body) = match ask.content {
            Content::None => (None, Bytes::new()),
            Content::Json(json) => (Some("application/json"), json.into()),
            Content::Form(form) => (Some("application/x-www-form-urlencoded"), form.into()),
        };
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        if let Some(key) = ask.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let traceparent = ask.trace.map(TraceContext::traceparent).unwrap_or_default();
        if !traceparent.is_empty() {
            request = request.header("traceparent", traceparent);
        }
        if let Some((name, key)) = key {
            request = request.header(*name, key.reveal());
        }
        let request = request.body(Full::new(body)).map_err(|error| {
            debug!(%error, "a request could not be built");
            Failed::NotSent(Fault::Unreachable)
        })?;
        timeout(self.limit, self.answer(request)).await.unwrap_or(Err(Failed::Lost))
    }

    async fn answer(&self, request: Request<Full<Bytes>>) -> Result<Answer, Failed> {
        let response = self.client.request(request).await.map_err(|error| {
            if !error.is_connect() {
                debug!(%error, "no answer from the platform");
                return Failed::Lost;
            }
            let Some(problem) = tls_problem(&error) else {
                debug!(%error, "no connection to the platform");
                return Failed::NotSent(Fault::Unreachable);
            };
            warn!(%problem, "no secure connection to the platform");
            Failed::NotSent(Fault::Untrusted)
        })?;
        let status = response.status();
        let retry_after = response.headers().get(header::RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| {
            debug!(%error, "the platform's answer broke off");
            Failed::Lost
        })?;
        let retry_after = retry_after.map(Duration::from_secs);
        Ok(Answer { status, retry_after, body: body.to_bytes() })
    }
}
