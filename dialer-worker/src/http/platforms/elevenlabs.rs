//! ElevenLabs: voice agents over a SIP trunk or Twilio. Names of the attempt travel in the dynamic
//! variables. A failed call is told by its id alone, and no call can be hung up.

mod endings;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use campaign_process::traces::TraceContext;
use form_urlencoded::Serializer;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::analysis;
use super::variables::variables;
use crate::call::{CallEnd, EndDetail, Outcome};
use crate::http::client::{Ask, Client, Content};
use crate::http::events::{End, Event, Named, Of, What};
use crate::http::flavor::{PlatformConfig, needed};
use crate::http::platform::{
    Callback, Created, Found, Manners, Means, Order, Platform, Proof, Sought, TRANSCRIPT_BYTES,
    Told, Unclear, Unreadable,
};
use crate::http::signature::{Covers, Refused, Secrets, Timed};
use endings::{Told as Ended, ending, initiation_failure};

const CONVERSATIONS: &str = "/v1/convai/conversations";
/// Header of the signature.
const SIGNATURE: &str = "elevenlabs-signature";
const SCHEME: Timed = Timed {
    time: "t=",
    mac: "v0=",
    units_per_second: 1,
    covers: Covers::TimeDotBody,
    window: Duration::from_secs(1_800),
};
/// Variables with the names of the attempt.
const KEY: &str = "campaign_key";
const CONTACT: &str = "campaign_contact";
const ATTEMPT: &str = "campaign_attempt";
/// Longest difference of clocks between ElevenLabs and this machine.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(10);

/// ElevenLabs.
pub(super) struct ElevenLabs {
    client: Client,
    agent: String,
    phone_number: String,
    /// Path that begins a call.
    create: &'static str,
    secrets: Secrets,
}

#[derive(Serialize)]
struct Create<'a> {
    agent_id: &'a str,
    agent_phone_number_id: &'a str,
    to_number: &'a str,
    conversation_initiation_client_data: ClientData<'a>,
}

#[derive(Serialize)]
struct ClientData<'a> {
    dynamic_variables: BTreeMap<&'a str, &'a str>,
}

#[derive(Deserialize)]
struct Made {
    success: bool,
    conversation_id: Option<String>,
}

#[derive(Deserialize)]
struct Webhook {
    #[serde(rename = "type")]
    kind: String,
    data: Value,
}

/// Failure to reach anybody, told by the id of the conversation.
#[derive(Deserialize)]
struct Failure {
    conversation_id: String,
    #[serde(default)]
    failure_reason: String,
    #[serde(default)]
    metadata: Value,
}

#[derive(Deserialize)]
struct Listing {
    conversations: Vec<Summary>,
}

#[derive(Deserialize)]
struct Summary {
    conversation_id: String,
}

/// Conversation, as webhooks and look-ups show it.
#[derive(Deserialize)]
struct Conversation {
    conversation_id: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    metadata: Metadata,
    analysis: Option<Analysis>,
    conversation_initiation_client_data: Option<Echoed>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    call_duration_secs: Option<u64>,
    error: Option<Problem>,
    phone_call: Option<PhoneCall>,
    features_usage: Option<Features>,
}

#[derive(Deserialize)]
struct Problem {
    code: i64,
}

#[derive(Deserialize)]
struct PhoneCall {
    call_result: Option<String>,
}

#[derive(Deserialize)]
struct Features {
    voicemail_detection: Option<Feature>,
}

#[derive(Deserialize)]
struct Feature {
    #[serde(default)]
    used: bool,
}

#[derive(Deserialize)]
struct Analysis {
    data_collection_results: Option<BTreeMap<String, Collected>>,
}

#[derive(Deserialize)]
struct Collected {
    #[serde(default)]
    value: Value,
}

#[derive(Deserialize)]
struct Echoed {
    #[serde(default)]
    dynamic_variables: Map<String, Value>,
}

impl Conversation {
    fn named(&self) -> Option<Named> {
        let variables = &self.conversation_initiation_client_data.as_ref()?.dynamic_variables;
        let text = |name| variables.get(name).and_then(Value::as_str);
        Named::echoed(text(KEY)?, text(CONTACT)?, text(ATTEMPT)?)
    }

    /// Returns everything that the conversation shows. Its end is known when it was analysed.
    fn whats(&self) -> Vec<What> {
        match self.status.as_str() {
            "in-progress" | "processing" => vec![What::Answered],
            "done" | "failed" => self.ended(),
            _ => Vec::new(),
        }
    }

    fn ended(&self) -> Vec<What> {
        let metadata = &self.metadata;
        let call = metadata.phone_call.as_ref();
        let detects = metadata.features_usage.as_ref();
        let detected = detects.and_then(|features| features.voicemail_detection.as_ref());
        let duration = Duration::from_secs(metadata.call_duration_secs.unwrap_or_default());
        let (outcome, shows) = ending(&Ended {
            has_failed: self.status == "failed",
            has_error: metadata.error.is_some(),
            call_result: call.and_then(|call| call.call_result.as_deref()),
            is_voicemail: detected.is_some_and(|feature| feature.used),
            was_connected: !duration.is_zero(),
        });
        let detail = EndDetail {
            code: metadata.error.as_ref().and_then(|error| u16::try_from(error.code).ok()),
            provider_call_id: Some(self.conversation_id.clone()),
            // The reason of the termination may be in the agent's own words.
            reason: call.and_then(|call| call.call_result.clone()),
            ..EndDetail::default()
        };
        let collected =
            self.analysis.as_ref().and_then(|seen| seen.data_collection_results.as_ref());
        let collected = collected.into_iter().flatten();
        let data = collected.map(|(name, result)| (name.clone(), result.value.clone())).collect();
        let mut whats = analysis::facts(&data);
        let end = CallEnd::new(outcome, duration).with(detail);
        whats.push(What::Ended(End::new(end, shows)));
        whats
    }
}

impl Failure {
    fn what(&self) -> What {
        let (outcome, shows, code) = initiation_failure(&self.failure_reason, &self.metadata);
        let detail = EndDetail {
            code,
            provider_call_id: Some(self.conversation_id.clone()),
            reason: Some(self.failure_reason.clone()).filter(|reason| !reason.is_empty()),
            ..EndDetail::default()
        };
        What::Ended(End::new(CallEnd::unanswered(outcome).with(detail), shows))
    }
}

impl ElevenLabs {
    pub fn new(client: Client, options: &PlatformConfig, secrets: Secrets) -> Result<Self, String> {
        let need = |value, flag| needed(value, "elevenlabs", flag).cloned();
        let create = if options.http_over_twilio {
            "/v1/convai/twilio/outbound-call"
        } else {
            "/v1/convai/sip-trunk/outbound-call"
        };
        Ok(Self {
            client,
            agent: need(options.http_agent.as_ref(), "--http-agent")?,
            phone_number: need(options.http_from.as_ref(), "--http-from")?,
            create,
            secrets,
        })
    }

    async fn request(&self, order: &Order<'_>, trace: &TraceContext) -> Created {
        let Named { key, contact, attempt_id } = order.named;
        let mut dynamic_variables = variables(order.attempt);
        dynamic_variables.extend([
            (KEY, key.as_str()),
            (CONTACT, contact.as_str()),
            (ATTEMPT, attempt_id.as_str()),
        ]);
        let create = Create {
            agent_id: &self.agent,
            agent_phone_number_id: &self.phone_number,
            to_number: order.to,
            conversation_initiation_client_data: ClientData { dynamic_variables },
        };
        let content = Content::Json(serde_json::to_vec(&create).unwrap_or_default());
        let ask = Ask { trace: Some(trace), ..Ask::post(self.create, content) };
        let answer = self.client.send(ask).await;
        // A failure to dial is told with 200.
        if let Ok(answer) = &answer
            && let Ok(Made { success: false, .. }) = serde_json::from_slice(&answer.body)
        {
            return endings::refusal(&answer.body);
        }
        let id = |body: &[u8]| serde_json::from_slice::<Made>(body).ok()?.conversation_id;
        let means = |code, _: &[u8]| (code, Means::Contact(Outcome::Failed));
        Created::read(answer, id, means)
    }

    async fn get(&self, id: &str) -> Option<Conversation> {
        let path = format!("{CONVERSATIONS}/{id}");
        let answer = self.client.send(Ask::get(&path)).await.ok()?;
        let is_ok = answer.status == StatusCode::OK;
        is_ok.then(|| serde_json::from_slice(&answer.body).ok()).flatten()
    }

    async fn look_up(&self, sought: &Sought<'_>) -> Found {
        let id = match sought.id {
            Some(id) => id.to_owned(),
            None => match self.search(sought).await {
                Ok(Some(id)) => id,
                Ok(None) => return Found::Absent,
                Err(()) => return Found::Unclear,
            },
        };
        let Some(conversation) = self.get(&id).await else { return Found::Unclear };
        if conversation.named().as_ref() != Some(sought.named) {
            return Found::Absent;
        }
        Found::Known { id, whats: conversation.whats() }
    }

    /// Searches the id of a conversation by its variables, among those since the request.
    async fn search(&self, sought: &Sought<'_>) -> Result<Option<String>, ()> {
        let path = self.search_path(sought);
        let answer = self.client.send(Ask::get(&path)).await.map_err(|_| ())?;
        let listing = serde_json::from_slice::<Listing>(&answer.body).map_err(|_| ())?;
        Ok(listing.conversations.into_iter().next().map(|found| found.conversation_id))
    }

    fn search_path(&self, sought: &Sought<'_>) -> String {
        let since = sought.begun_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let since = since.saturating_sub(CLOCK_DIFFERENCE).as_secs();
        let mut query = Serializer::new(String::new());
        query.append_pair("agent_id", &self.agent);
        query.append_pair("call_start_after_unix", &since.to_string());
        query.append_pair("dynamic_variable_filter", &format!("{KEY}:eq:{}", sought.named.key));
        query.append_pair("page_size", "1");
        format!("{CONVERSATIONS}?{}", query.finish())
    }

    fn agent_path(&self) -> String {
        format!("/v1/convai/agents/{}", self.agent)
    }
}

impl Platform for ElevenLabs {
    fn manners(&self) -> Manners {
        Manners {
            repeats_safely: false,
            absence_is_proof: false,
            proof: Proof::Ended,
            hangs_up: false,
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

    fn hang_up<'a>(&'a self, _id: &'a str) -> BoxFuture<'a, bool> {
        async { false }.boxed()
    }

    fn is_healthy(&self) -> BoxFuture<'_, bool> {
        async move { self.client.succeeds(Ask::get(&self.agent_path())).await }.boxed()
    }

    fn check(&self, callback: &Callback<'_>, now: SystemTime) -> Result<(), Refused> {
        SCHEME.check(&self.secrets, callback.header(SIGNATURE), callback.body, now)
    }

    fn read(&self, callback: &Callback<'_>) -> Result<Told, Unreadable> {
        let unreadable = |_| Unreadable("it is no webhook of ElevenLabs");
        let Webhook { kind, data } = serde_json::from_slice(callback.body).map_err(unreadable)?;
        let events = match kind.as_str() {
            "post_call_transcription" => {
                let conversation = Conversation::deserialize(data).map_err(unreadable)?;
                let named = conversation.named();
                let event = |what| named.clone().map(|of| Event { of: Of::Attempt(of), what });
                conversation.whats().into_iter().filter_map(event).collect()
            }
            "call_initiation_failure" => {
                let failure = Failure::deserialize(data).map_err(unreadable)?;
                let what = failure.what();
                vec![Event { of: Of::Call(failure.conversation_id), what }]
            }
            _ => Vec::new(),
        };
        Ok(Told::Events(events))
    }

    fn named<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Named>, Unclear>> {
        async move { self.get(id).await.map(|found| found.named()).ok_or(Unclear) }.boxed()
    }
}
