//! Vapi: voice agents. Names of the attempt travel in the metadata of the assistant's overrides.

mod endings;
mod signed;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use campaign_process::traces::TraceContext;
use form_urlencoded::Serializer;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::StatusCode;
use hyper::header::HeaderName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::analysis;
use super::variables::variables;
use crate::call::{CallEnd, EndDetail, Fact, Outcome};
use crate::http::client::{Ask, Client, Content};
use crate::http::config::HttpConfig;
use crate::http::events::{End, Named, What};
use crate::http::flavor::needed;
use crate::http::platform::{
    Callback, Created, Found, Manners, Means, Order, Platform, Proof, Sought, TRANSCRIPT_BYTES,
    Told, Unreadable,
};
use crate::http::signature::{Refused, Secrets};
use endings::{FORWARDED, ending};

/// Kind of the message that tells a call's times and analysis.
const REPORT: &str = "end-of-call-report";
/// Longest difference of clocks between Vapi and this machine.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(10);
/// Most calls that a look-up reads.
const MAX_LISTED: &str = "100";
/// Longest calls that Vapi accepts, in seconds.
const TIME_LIMITS: (u32, u32) = (10, 43_200);

/// Vapi.
pub(super) struct Vapi {
    client: Client,
    assistant: String,
    phone_number: String,
    time_limit_seconds: u32,
    secrets: Secrets,
    signature_header: Option<HeaderName>,
}

/// Names of an attempt, which Vapi echoes.
#[derive(Deserialize, Serialize)]
struct Metadata {
    key: String,
    contact: String,
    attempt_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Create<'a> {
    assistant_id: &'a str,
    phone_number_id: &'a str,
    customer: Customer<'a>,
    assistant_overrides: Overrides<'a>,
}

#[derive(Serialize)]
struct Customer<'a> {
    number: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Overrides<'a> {
    metadata: Metadata,
    max_duration_seconds: u32,
    variable_values: BTreeMap<&'a str, &'a str>,
}

#[derive(Deserialize)]
struct Webhook {
    message: Message,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    status: String,
    ended_reason: Option<String>,
    started_at: Option<String>,
    ended_at: Option<String>,
    analysis: Option<Analysis>,
    call: Option<Call>,
}

/// Call, as look-ups show it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Call {
    id: String,
    #[serde(default)]
    status: String,
    ended_reason: Option<String>,
    started_at: Option<String>,
    ended_at: Option<String>,
    analysis: Option<Analysis>,
    assistant_overrides: Option<Echoed>,
    monitor: Option<Monitor>,
}

#[derive(Deserialize)]
struct Echoed {
    #[serde(default)]
    metadata: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Analysis {
    structured_data: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Monitor {
    control_url: Option<String>,
}

impl Call {
    fn named(&self) -> Option<Named> {
        let echoed = &self.assistant_overrides.as_ref()?.metadata;
        let Metadata { key, contact, attempt_id } = Metadata::deserialize(echoed).ok()?;
        Named::echoed(&key, &contact, &attempt_id)
    }

    /// Returns everything that the call shows.
    fn whats(&self) -> Vec<What> {
        match self.status.as_str() {
            "ringing" => vec![What::Rings],
            "in-progress" | "forwarding" => vec![What::Answered],
            // Without times, nobody knows whether anybody answered.
            "ended" if self.ended_at.is_some() => self.ended(),
            _ => Vec::new(),
        }
    }

    fn duration(&self) -> Duration {
        let times = self.started_at.as_deref().zip(self.ended_at.as_deref());
        times.and_then(|(start, end)| between(start, end)).unwrap_or_default()
    }

    fn ended(&self) -> Vec<What> {
        let reason = self.ended_reason.as_deref().unwrap_or_default();
        let duration = self.duration();
        let (outcome, shows, detail) = ending(reason, !duration.is_zero());
        let mut whats = Vec::new();
        if reason == FORWARDED {
            let seconds = i32::try_from(duration.as_secs()).unwrap_or(i32::MAX);
            whats.push(What::Fact(Fact::Transferred { seconds_before_transfer: seconds }));
        }
        let data = self.analysis.as_ref().and_then(|seen| seen.structured_data.as_ref());
        whats.extend(data.map(analysis::facts).unwrap_or_default());
        let detail = EndDetail { provider_call_id: Some(self.id.clone()), ..detail };
        whats.push(What::Ended(End::new(CallEnd::new(outcome, duration).with(detail), shows)));
        whats
    }
}

/// Returns the time between two moments as Vapi writes them.
fn between(start: &str, end: &str) -> Option<Duration> {
    let [start, end] = [start, end].map(|text| text.parse::<Timestamp>().ok());
    Duration::try_from(end?.duration_since(start?)).ok()
}

impl Message {
    /// Returns the call with everything that the message itself says of it.
    fn call(self) -> Option<(Named, Call)> {
        let call = self.call?;
        let named = call.named()?;
        let is_report = self.kind == REPORT;
        let status = if is_report { "ended".to_owned() } else { self.status };
        let analysis = self.analysis.filter(|_| is_report);
        Some((
            named,
            Call {
                status,
                ended_reason: self.ended_reason.or(call.ended_reason),
                started_at: self.started_at.or(call.started_at),
                ended_at: self.ended_at.or(call.ended_at),
                analysis,
                ..call
            },
        ))
    }
}

/// Reads a rejection: a number in a wrong form is the contact's.
fn means(code: u16, body: &[u8]) -> (u16, Means) {
    let text = String::from_utf8_lossy(body);
    let is_invalid = text.contains("customer.number") || text.contains("E.164");
    let outcome = if is_invalid { Outcome::InvalidNumber } else { Outcome::Failed };
    (code, Means::Contact(outcome))
}

impl Vapi {
    pub fn new(client: Client, config: &HttpConfig, secrets: Secrets) -> Result<Self, String> {
        let options = &config.platform;
        let need = |value, flag| needed(value, "vapi", flag).cloned();
        let (least, most) = TIME_LIMITS;
        Ok(Self {
            client,
            assistant: need(options.http_agent.as_ref(), "--http-agent")?,
            phone_number: need(options.http_from.as_ref(), "--http-from")?,
            time_limit_seconds: config.http_call_limit_seconds.clamp(least, most),
            secrets,
            signature_header: options.http_signature_header.clone(),
        })
    }

    async fn request(&self, order: &Order<'_>, trace: &TraceContext) -> Created {
        let Named { key, contact, attempt_id } = order.named.clone();
        let create = Create {
            assistant_id: &self.assistant,
            phone_number_id: &self.phone_number,
            customer: Customer { number: order.to },
            assistant_overrides: Overrides {
                metadata: Metadata { key, contact, attempt_id },
                max_duration_seconds: self.time_limit_seconds,
                variable_values: variables(order.attempt),
            },
        };
        let content = Content::Json(serde_json::to_vec(&create).unwrap_or_default());
        let ask = Ask { trace: Some(trace), ..Ask::post("/call", content) };
        let id = |body: &[u8]| serde_json::from_slice::<Call>(body).ok().map(|call| call.id);
        Created::read(self.client.send(ask).await, id, means)
    }

    async fn get(&self, id: &str) -> Option<Call> {
        let path = format!("/call/{id}");
        let answer = self.client.send(Ask::get(&path)).await.ok()?;
        let is_ok = answer.status == StatusCode::OK;
        is_ok.then(|| serde_json::from_slice(&answer.body).ok()).flatten()
    }

    async fn look_up(&self, sought: &Sought<'_>) -> Found {
        let Some(id) = sought.id else { return self.search(sought).await };
        self.get(id).await.map_or(Found::Unclear, |call| self.known(call))
    }

    /// Searches a call without an id by its metadata, among those since the request.
    async fn search(&self, sought: &Sought<'_>) -> Found {
        let path = self.search_path(sought.begun_at);
        let Ok(answer) = self.client.send(Ask::get(&path)).await else { return Found::Unclear };
        let Ok(calls) = serde_json::from_slice::<Vec<Call>>(&answer.body) else {
            return Found::Unclear;
        };
        let ours = calls.into_iter().find(|call| call.named().as_ref() == Some(sought.named));
        ours.map_or(Found::Absent, |call| self.known(call))
    }

    fn search_path(&self, begun_at: SystemTime) -> String {
        let since = Timestamp::try_from(begun_at - CLOCK_DIFFERENCE).unwrap_or_default();
        let mut query = Serializer::new(String::new());
        query.append_pair("phoneNumberId", &self.phone_number);
        query.append_pair("createdAtGe", &format!("{since:.3}"));
        query.append_pair("limit", MAX_LISTED);
        format!("/call?{}", query.finish())
    }

    fn known(&self, call: Call) -> Found {
        Found::Known { whats: call.whats(), id: call.id }
    }

    /// Ends a call by the address that Vapi gives for it.
    async fn end(&self, id: &str) -> bool {
        let Some(call) = self.get(id).await else { return false };
        if call.status == "ended" {
            return true;
        }
        let Some(url) = call.monitor.and_then(|monitor| monitor.control_url) else { return false };
        let content = Content::Json(br#"{"type":"end-call"}"#.to_vec());
        self.client.succeeds_at(&url, Ask::post("", content)).await
    }
}

impl Platform for Vapi {
    fn manners(&self) -> Manners {
        Manners {
            repeats_safely: false,
            absence_is_proof: false,
            proof: Proof::Ended,
            hangs_up: true,
            judges_apart: false,
            max_callback_bytes: TRANSCRIPT_BYTES,
        }
    }

    fn create<'a>(
        &'a self,
        order: &'a Order<'a>,
        trace: &'a TraceContext,
    ) -> BoxFuture<'a, Created> {
        self.request(order, trace).boxed()
    }

    fn find<'a>(&'a self, sought: &'a Sought<'a>) -> BoxFuture<'a, Found> {
        self.look_up(sought).boxed()
    }

    fn hang_up<'a>(&'a self, id: &'a str) -> BoxFuture<'a, bool> {
        self.end(id).boxed()
    }

    fn is_healthy(&self) -> BoxFuture<'_, bool> {
        async move {
            let path = format!("/phone-number/{}", self.phone_number);
            self.client.succeeds(Ask::get(&path)).await
        }
        .boxed()
    }

    fn check(&self, callback: &Callback<'_>, now: SystemTime) -> Result<(), Refused> {
        signed::check(&self.secrets, self.signature_header.as_ref(), callback, now)
    }

    fn read(&self, callback: &Callback<'_>) -> Result<Told, Unreadable> {
        let Webhook { message } = serde_json::from_slice(callback.body)
            .map_err(|_| Unreadable("it is no message of Vapi"))?;
        if !matches!(message.kind.as_str(), "status-update" | REPORT) {
            return Ok(Told::Events(Vec::new()));
        }
        let is_report = message.kind == REPORT;
        let Some((named, call)) = message.call() else { return Ok(Told::Events(Vec::new())) };
        let whats = if is_report {
            call.ended()
        } else if call.status == "ended" && call.ended_at.is_none() {
            // An update tells no times, and so not whether anybody answered.
            vec![What::Over { id: call.id }]
        } else {
            call.whats()
        };
        Ok(Told::Events(named.events(whats)))
    }
}
