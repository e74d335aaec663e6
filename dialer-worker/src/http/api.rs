//! API of the platform: its messages, and the meaning of its answers.

use std::collections::HashMap;
use std::time::Duration;

use axum::body::Bytes;
use campaign_process::Secret;
use campaign_process::traces::TraceContext;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, Uri, header};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::rt::TokioExecutor;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::config::{Channel, HttpConfig};
use super::connecting::{Connector, connector, tls_problem};
use crate::call::{CallEnd, Fact, Fault, Outcome};

/// Largest body accepted in an answer.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// Path that answers 2xx when the platform works.
const HEALTH: &str = "/v1/health";

/// Request to begin a call or a message.
#[derive(Serialize)]
pub(super) struct Create<'a> {
    pub key: &'a str,
    pub contact: &'a str,
    pub attempt_id: &'a str,
    pub attempt_number: i32,
    pub to: &'a str,
    pub display_name: &'a str,
    pub time_zone: &'a str,
    pub attributes: &'a HashMap<String, String>,
    pub callback_url: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub link: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<&'static str>,
}

/// Event that the platform reports.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Event {
    pub key: String,
    pub contact: String,
    pub attempt_id: String,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum What {
    Answered,
    Ended {
        outcome: EndedAs,
        #[serde(default)]
        duration_seconds: f64,
    },
    Transferred {
        seconds_before_transfer: u32,
    },
    OptedOut {
        #[serde(default)]
        channel: String,
        #[serde(default)]
        everywhere: bool,
    },
    Success,
    TextSent,
    LinkOpened {
        link: String,
    },
    /// Kind known only to a newer platform.
    #[serde(other)]
    Other,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum EndedAs {
    Answered,
    Delivered,
    NoAnswer,
    Busy,
    Voicemail,
    Failed,
    Unknown,
}

impl What {
    /// Returns the end of the call, if this event is its end.
    pub fn end(&self) -> Option<CallEnd> {
        let Self::Ended { outcome, duration_seconds } = self else { return None };
        let outcome = match outcome {
            EndedAs::Answered | EndedAs::Delivered => Outcome::Answered,
            EndedAs::NoAnswer => Outcome::NoAnswer,
            EndedAs::Busy => Outcome::Busy,
            EndedAs::Voicemail => Outcome::Voicemail,
            EndedAs::Failed => Outcome::Failed,
            EndedAs::Unknown => Outcome::Unknown,
        };
        let duration = Duration::try_from_secs_f64(*duration_seconds).unwrap_or_default();
        Some(CallEnd::new(outcome, duration))
    }

    /// Returns the fact to record, if this event is one.
    pub fn fact(&self) -> Option<Fact> {
        match self {
            Self::Transferred { seconds_before_transfer } => {
                let seconds = i32::try_from(*seconds_before_transfer).unwrap_or(i32::MAX);
                Some(Fact::Transferred { seconds_before_transfer: seconds })
            }
            Self::OptedOut { channel, everywhere } => {
                Some(Fact::OptedOut { channel: channel.clone(), everywhere: *everywhere })
            }
            Self::Success => Some(Fact::Success),
            Self::TextSent => Some(Fact::TextSent),
            Self::LinkOpened { link } => Some(Fact::LinkOpened { link: link.clone() }),
            Self::Answered | Self::Ended { .. } | Self::Other => None,
        }
    }
}

/// Events that the platform knows of an attempt.
#[derive(Debug, Deserialize)]
pub(super) struct Engagement {
    #[serde(default)]
    pub events: Vec<Event>,
}

/// Result of the request to begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Created {
    Yes,
    /// Rejected by the platform for this attempt.
    Refused(u16),
    /// Not sent.
    NotSent(Fault),
    /// Without an answer; the attempt may have begun.
    Lost(Fault),
}

/// Result of a look-up at the platform.
#[derive(Debug)]
pub(super) enum Found {
    Known(Engagement),
    /// Unknown to the platform.
    Absent,
    /// Without a conclusive answer.
    Unclear,
}

/// Client of the platform.
#[derive(Clone, Debug)]
pub(super) struct Api {
    client: HyperClient<Connector, Full<Bytes>>,
    base: Uri,
    collection: &'static str,
    api_key: Option<Secret>,
    limit: Duration,
}

enum Failed {
    NotSent(Fault),
    Lost,
}

impl Api {
    pub fn new(base: Uri, config: &HttpConfig) -> Result<Self, String> {
        let collection = if config.http_channel == Channel::Call { "calls" } else { "messages" };
        Ok(Self {
            client: HyperClient::builder(TokioExecutor::new())
                // Without this setting the client may repeat a request by itself.
                .retry_canceled_requests(false)
                .build(connector(config)?),
            base,
            collection,
            api_key: config.http_api_key.clone(),
            limit: config.response_limit(),
        })
    }

    /// Whether the platform answers, but with an untrusted certificate or without TLS.
    pub async fn is_untrusted(&self) -> bool {
        let answer = self.ask(Method::GET, HEALTH, None, Vec::new()).await;
        matches!(answer, Err(Failed::NotSent(Fault::Untrusted)))
    }

    pub async fn create(&self, create: &Create<'_>, trace: &TraceContext) -> Created {
        let body = serde_json::to_vec(create).unwrap_or_default();
        let path = format!("/v1/{}", self.collection);
        match self.ask_for(trace, Method::POST, &path, Some(create.key), body).await {
            Ok((status, _)) if status.is_success() => Created::Yes,
            // The attempt or the worker is at fault. In either case the attempt did not begin.
            Ok((status, _))
                if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT =>
            {
                Created::Refused(status.as_u16())
            }
            Ok((status, _)) => Created::Lost(Fault::Refusing(status.as_u16())),
            Err(Failed::NotSent(fault)) => Created::NotSent(fault),
            Err(Failed::Lost) => Created::Lost(Fault::Silent),
        }
    }

    pub async fn find(&self, key: &str) -> Found {
        let path = format!("/v1/{}/{key}", self.collection);
        match self.ask(Method::GET, &path, None, Vec::new()).await {
            Ok((StatusCode::OK, body)) => match serde_json::from_slice(&body) {
                Ok(engagement) => Found::Known(engagement),
                Err(error) => {
                    debug!(key, %error, "the platform's answer cannot be parsed");
                    Found::Unclear
                }
            },
            Ok((StatusCode::NOT_FOUND, _)) => Found::Absent,
            _ => Found::Unclear,
        }
    }

    /// Asks the platform to hang up. Returns whether it agreed.
    pub async fn hang_up(&self, key: &str) -> bool {
        let path = format!("/v1/{}/{key}/hang-up", self.collection);
        let answer = self.ask(Method::POST, &path, Some(key), Vec::new()).await;
        answer.is_ok_and(|(status, _)| status.is_success())
    }

    pub async fn is_healthy(&self) -> bool {
        let answer = self.ask(Method::GET, HEALTH, None, Vec::new()).await;
        answer.is_ok_and(|(status, _)| status.is_success())
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        idempotency_key: Option<&str>,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), Failed> {
        self.ask_for(&TraceContext::default(), method, path, idempotency_key, body).await
    }

    /// Sends a request as `ask` does, with the trace context of its call.
    async fn ask_for(
        &self,
        trace: &TraceContext,
        method: Method,
        path: &str,
        idempotency_key: Option<&str>,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), Failed> {
        let base = self.base.to_string();
        let uri = format!("{}{path}", base.trim_end_matches('/'));
        let mut request = Request::builder().method(method).uri(uri);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let traceparent = trace.traceparent();
        if !traceparent.is_empty() {
            request = request.header("traceparent", traceparent);
        }
        if let Some(api_key) = &self.api_key {
            let bearer = format!("Bearer {}", api_key.reveal());
            request = request.header(header::AUTHORIZATION, bearer);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| {
            debug!(%error, path, "a request could not be built");
            Failed::NotSent(Fault::Unreachable)
        })?;
        timeout(self.limit, self.send(request)).await.unwrap_or(Err(Failed::Lost))
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Failed> {
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
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| {
            debug!(%error, "the platform's answer broke off");
            Failed::Lost
        })?;
        Ok((status, body.to_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #![proptest_config(crate::fuzz_inputs())]

        /// A manipulated callback parses as an event or not at all.
        #[test]
        fn any_event(
            kind in "(answered|ended|transferred|opted_out|success|text_sent|\\PC{0,9})",
            number in "(-?[0-9]{1,25}(\\.[0-9]{1,20})?(e[+-]?[0-9]{1,4})?|null|\\[\\])",
            outcome in "(answered|busy|\\PC{0,9})",
            cut in 0_usize..200,
        ) {
            let text = format!(
                "{{\"key\":\"1\",\"contact\":\"campaigns/1\",\"attempt_id\":\"1-1-1\",\
                 \"type\":\"{kind}\",\"outcome\":\"{outcome}\",\"duration_seconds\":{number},\
                 \"seconds_before_transfer\":{number},\"channel\":\"{kind}\"}}"
            );
            let bytes = &text.as_bytes()[..cut.min(text.len())];
            for bytes in [text.as_bytes(), bytes] {
                let _ = serde_json::from_slice::<Engagement>(bytes);
                if let Ok(event) = serde_json::from_slice::<Event>(bytes) {
                    let _ = event.what.end();
                }
            }
        }
    }
}
