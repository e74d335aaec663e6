//! Retell: voice agents with an idempotency key and a look-up by metadata.

mod endings;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use campaign_process::traces::TraceContext;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::analysis;
use super::variables::variables;
use crate::call::{CallEnd, EndDetail, Fact, Outcome};
use crate::http::client::{Ask, Client, Content};
use crate::http::events::{End, Named, What};
use crate::http::flavor::{PlatformConfig, needed};
use crate::http::platform::{
    Callback, Created, Found, Manners, Means, Order, Platform, Proof, Sought, TRANSCRIPT_BYTES,
    Told, Unreadable,
};
use crate::http::signature::{Covers, Refused, Secrets, Timed};
use endings::ending;

const CREATE: &str = "/v2/create-phone-call";
const LIST: &str = "/v3/list-calls";
/// Path that answers 2xx when the key is valid.
const HEALTH: &str = "/get-concurrency";
/// Header of the signature.
const SIGNATURE: &str = "x-retell-signature";
const SCHEME: Timed = Timed {
    time: "v=",
    mac: "d=",
    units_per_second: 1_000,
    covers: Covers::BodyTime,
    window: Duration::from_secs(300),
};

/// Retell.
pub(super) struct Retell {
    client: Client,
    from: String,
    agent: Option<String>,
    secrets: Secrets,
}

/// Names of an attempt, which Retell echoes.
#[derive(Deserialize, Serialize)]
struct Metadata {
    key: String,
    contact: String,
    attempt_id: String,
}

#[derive(Serialize)]
struct Create<'a> {
    from_number: &'a str,
    to_number: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    override_agent_id: Option<&'a str>,
    metadata: Metadata,
    retell_llm_dynamic_variables: BTreeMap<&'a str, &'a str>,
    idempotency_key: &'a str,
    honor_internal_dnc: bool,
}

#[derive(Deserialize)]
struct Webhook {
    event: String,
    #[serde(default)]
    call: Option<Call>,
}

#[derive(Deserialize)]
struct Listing {
    items: Vec<Call>,
}

/// Call, as webhooks and look-ups show it.
#[derive(Deserialize)]
struct Call {
    call_id: String,
    #[serde(default)]
    call_status: String,
    #[serde(default)]
    metadata: Value,
    start_timestamp: Option<u64>,
    end_timestamp: Option<u64>,
    duration_ms: Option<u64>,
    disconnection_reason: Option<String>,
    call_analysis: Option<Analysis>,
}

#[derive(Deserialize)]
struct Analysis {
    #[serde(default)]
    in_voicemail: Option<bool>,
    #[serde(default)]
    custom_analysis_data: Option<Map<String, Value>>,
}

impl Call {
    /// Returns the names of the attempt. Calls of others have none.
    fn named(&self) -> Option<Named> {
        let Metadata { key, contact, attempt_id } = Metadata::deserialize(&self.metadata).ok()?;
        Named::echoed(&key, &contact, &attempt_id)
    }

    /// Returns everything that the call shows. An answer is provisional until the call is analysed.
    fn whats(&self) -> Vec<What> {
        let Some(reason) = self.disconnection_reason.as_deref() else {
            return match self.call_status.as_str() {
                "ongoing" => vec![What::Answered],
                "not_connected" | "error" | "ended" => self.ended(""),
                _ => Vec::new(),
            };
        };
        let mut whats = Vec::new();
        match reason {
            "user_requested_dnc" => whats.push(analysis::opted_out(true)),
            "transfer_bridged" => whats.push(transferred(self.duration())),
            _ => {}
        }
        let data = self.call_analysis.as_ref().and_then(|seen| seen.custom_analysis_data.as_ref());
        whats.extend(data.map(analysis::facts).unwrap_or_default());
        whats.extend(self.ended(reason));
        whats
    }

    fn ended(&self, reason: &str) -> Vec<What> {
        let duration = self.duration();
        let (mut outcome, shows, detail) = ending(reason, !duration.is_zero());
        let analysis = self.call_analysis.as_ref();
        let is_machine = analysis.is_some_and(|seen| seen.in_voicemail == Some(true));
        if outcome == Outcome::Answered && is_machine {
            outcome = Outcome::Voicemail;
        }
        let may_change = outcome == Outcome::Answered && analysis.is_none();
        let detail = EndDetail { provider_call_id: Some(self.call_id.clone()), ..detail };
        let end = CallEnd::new(outcome, duration).with(detail).provisional(may_change);
        vec![What::Ended(End::new(end, shows))]
    }

    fn duration(&self) -> Duration {
        let times = self.start_timestamp.zip(self.end_timestamp);
        let between = times.map(|(start, end)| end.saturating_sub(start));
        Duration::from_millis(self.duration_ms.or(between).unwrap_or_default())
    }
}

/// Returns the fact of a transfer that a person answered.
fn transferred(after: Duration) -> What {
    let seconds = i32::try_from(after.as_secs()).unwrap_or(i32::MAX);
    What::Fact(Fact::Transferred { seconds_before_transfer: seconds })
}

/// Reads a rejection. Retell rejects numbers on its own list of people who must not be called.
fn means(code: u16, body: &[u8]) -> (u16, Means) {
    let text = String::from_utf8_lossy(body).to_lowercase();
    let is_listed = ["do_not_call", "do not call", "dnc"].iter().any(|word| text.contains(word));
    let means = if is_listed { Means::OptedOut } else { Means::Contact(Outcome::Failed) };
    (code, means)
}

impl Retell {
    pub fn new(client: Client, options: &PlatformConfig, secrets: Secrets) -> Result<Self, String> {
        let from = needed(options.http_from.as_ref(), "retell", "--http-from")?.clone();
        Ok(Self { client, from, agent: options.http_agent.clone(), secrets })
    }

    async fn request(&self, order: &Order<'_>, trace: &TraceContext) -> Created {
        let Named { key, contact, attempt_id } = order.named.clone();
        let create = Create {
            from_number: &self.from,
            to_number: order.to,
            override_agent_id: self.agent.as_deref(),
            metadata: Metadata { key, contact, attempt_id },
            retell_llm_dynamic_variables: variables(order.attempt),
            idempotency_key: &order.named.key,
            honor_internal_dnc: true,
        };
        let content = Content::Json(serde_json::to_vec(&create).unwrap_or_default());
        let ask = Ask { trace: Some(trace), ..Ask::post(CREATE, content) };
        let id = |body: &[u8]| serde_json::from_slice::<Call>(body).ok().map(|call| call.call_id);
        Created::read(self.client.send(ask).await, id, means)
    }

    async fn look_up(&self, sought: &Sought<'_>) -> Found {
        let answer = match sought.id {
            Some(id) => {
                let path = format!("/v2/get-call/{id}");
                self.client.send(Ask::get(&path)).await
            }
            None => {
                let filter = json!({"type": "string", "op": "eq", "key": "key",
                    "value": sought.named.key});
                let list = json!({"filter_criteria": {"metadata": [filter]}, "limit": 1});
                let content = Content::Json(list.to_string().into());
                self.client.send(Ask::post(LIST, content)).await
            }
        };
        let Ok(answer) = answer else { return Found::Unclear };
        if !matches!(answer.status, StatusCode::OK | StatusCode::CREATED) {
            return Found::Unclear;
        }
        let calls = match sought.id {
            Some(_) => serde_json::from_slice::<Call>(&answer.body).map(|call| vec![call]),
            None => serde_json::from_slice::<Listing>(&answer.body).map(|listing| listing.items),
        };
        let Ok(calls) = calls else { return Found::Unclear };
        let ours = calls.into_iter().find(|call| call.named().as_ref() == Some(sought.named));
        ours.map_or(Found::Absent, |call| Found::Known { whats: call.whats(), id: call.call_id })
    }
}

impl Platform for Retell {
    fn manners(&self) -> Manners {
        Manners {
            repeats_safely: true,
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
        async move {
            let path = format!("/v2/stop-call/{id}");
            self.client.succeeds(Ask::post(&path, Content::None)).await
        }
        .boxed()
    }

    fn is_healthy(&self) -> BoxFuture<'_, bool> {
        self.client.succeeds(Ask::get(HEALTH)).boxed()
    }

    fn check(&self, callback: &Callback<'_>, now: SystemTime) -> Result<(), Refused> {
        let header = callback.header(SIGNATURE);
        SCHEME.check(&self.secrets, header, callback.body, now)
    }

    fn read(&self, callback: &Callback<'_>) -> Result<Told, Unreadable> {
        let Webhook { event, call } = serde_json::from_slice(callback.body)
            .map_err(|_| Unreadable("it is no webhook of Retell"))?;
        let Some((call, named)) = call.and_then(|call| call.named().map(|named| (call, named)))
        else {
            return Ok(Told::Events(Vec::new()));
        };
        let whats = match event.as_str() {
            "call_started" => vec![What::Answered],
            "call_ended" | "call_analyzed" => call.whats(),
            "transfer_bridged" => vec![transferred(self.time_on_call(&call, callback))],
            _ => Vec::new(),
        };
        Ok(Told::Events(named.events(whats)))
    }
}

impl Retell {
    /// Returns how long a call had lasted when a callback was signed.
    fn time_on_call(&self, call: &Call, callback: &Callback<'_>) -> Duration {
        let signed = SCHEME.time(callback.header(SIGNATURE)).unwrap_or(UNIX_EPOCH);
        let start = UNIX_EPOCH + Duration::from_millis(call.start_timestamp.unwrap_or_default());
        signed.duration_since(start).unwrap_or_default()
    }
}
