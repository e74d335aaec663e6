//! Platform with the API of `deploy/openapi/voice-agent.yaml`.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use campaign_process::traces::TraceContext;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use tracing::debug;

use crate::call::{CallEnd, Fact, Outcome};
use crate::http::client::{Ask, Client, Content};
use crate::http::config::Channel;
use crate::http::events::{End, Event, Named, Of, Shows, What};
use crate::http::platform::{
    Callback, Created, Found, Manners, Means, Order, Platform, Proof, SMALL_BYTES, Sought, Told,
    Unreadable,
};
use crate::http::signature::{Covers, Refused, Secrets, Timed};

/// Path that answers 2xx when the platform works.
const HEALTH: &str = "/v1/health";
/// Header of the signature.
const SIGNATURE: &str = "x-signature";
const SCHEME: Timed = Timed {
    time: "t=",
    mac: "v1=",
    units_per_second: 1,
    covers: Covers::TimeDotBody,
    window: Duration::from_secs(300),
};

/// Platform that keys every attempt by our key.
pub(super) struct VoiceAgent {
    client: Client,
    collection: &'static str,
    secrets: Secrets,
}

/// Request to begin a call or a message.
#[derive(Serialize)]
struct Create<'a> {
    key: &'a str,
    contact: &'a str,
    attempt_id: &'a str,
    attempt_number: i32,
    to: &'a str,
    display_name: &'a str,
    time_zone: &'a str,
    attributes: &'a HashMap<String, String>,
    callback_url: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    link: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'static str>,
}

/// Event that the platform reports.
#[derive(Clone, Debug, Deserialize)]
struct Reported {
    key: String,
    contact: String,
    attempt_id: String,
    #[serde(flatten)]
    kind: Kind,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Kind {
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
enum EndedAs {
    Answered,
    Delivered,
    NoAnswer,
    Busy,
    Voicemail,
    Failed,
    Rejected,
    InvalidNumber,
    Congested,
    Abandoned,
    Cancelled,
    /// Unknown to the platform, or an outcome that only a newer one has.
    #[serde(other)]
    Unknown,
}

/// Events that the platform knows of an attempt.
#[derive(Debug, Deserialize)]
struct Engagement {
    #[serde(default)]
    events: Vec<Reported>,
}

impl EndedAs {
    fn outcome(self) -> Outcome {
        match self {
            Self::Answered | Self::Delivered => Outcome::Answered,
            Self::NoAnswer => Outcome::NoAnswer,
            Self::Busy => Outcome::Busy,
            Self::Voicemail => Outcome::Voicemail,
            Self::Failed => Outcome::Failed,
            Self::Rejected => Outcome::Rejected,
            Self::InvalidNumber => Outcome::InvalidNumber,
            Self::Congested => Outcome::Congested,
            Self::Abandoned => Outcome::Abandoned,
            Self::Cancelled => Outcome::Cancelled,
            Self::Unknown => Outcome::Unknown,
        }
    }
}

impl Kind {
    /// Returns what happened. Returns `None` for a kind that this version does not know.
    fn what(self) -> Option<What> {
        Some(match self {
            Self::Answered => What::Answered,
            Self::Ended { outcome, duration_seconds } => {
                let duration = Duration::try_from_secs_f64(duration_seconds).unwrap_or_default();
                What::Ended(End::new(CallEnd::new(outcome.outcome(), duration), Shows::Nothing))
            }
            Self::Transferred { seconds_before_transfer } => {
                let seconds = i32::try_from(seconds_before_transfer).unwrap_or(i32::MAX);
                What::Fact(Fact::Transferred { seconds_before_transfer: seconds })
            }
            Self::OptedOut { channel, everywhere } => {
                What::Fact(Fact::OptedOut { channel, everywhere })
            }
            Self::Success => What::Fact(Fact::Success),
            Self::TextSent => What::Fact(Fact::TextSent),
            Self::LinkOpened { link } => What::Fact(Fact::LinkOpened { link }),
            Self::Other => return None,
        })
    }
}

impl VoiceAgent {
    pub fn new(client: Client, channel: Channel, secrets: Secrets) -> Self {
        let collection = if channel == Channel::Call { "calls" } else { "messages" };
        Self { client, collection, secrets }
    }

    async fn request(&self, order: &Order<'_>, trace: &TraceContext) -> Created {
        let (attempt, key) = (order.attempt, &order.named.key);
        let create = Create {
            key,
            contact: &attempt.contact,
            attempt_id: &attempt.attempt_id,
            attempt_number: attempt.attempt_number,
            to: order.to,
            display_name: &attempt.display_name,
            time_zone: &attempt.time_zone,
            attributes: &attempt.attributes,
            callback_url: order.callback_url,
            link: &attempt.link,
            channel: match order.channel {
                Channel::Call => None,
                Channel::Sms => Some("sms"),
                Channel::Email => Some("email"),
            },
        };
        let content = Content::Json(serde_json::to_vec(&create).unwrap_or_default());
        let path = format!("/v1/{}", self.collection);
        let ask = Ask::post(&path, content);
        let ask = Ask { idempotency_key: Some(key), trace: Some(trace), ..ask };
        let answer = self.client.send(ask).await;
        let means = |code, _: &[u8]| (code, Means::Contact(Outcome::Failed));
        Created::read(answer, |_| Some(key.clone()), means)
    }

    async fn look_up(&self, key: &str) -> Found {
        let path = format!("/v1/{}/{key}", self.collection);
        let Ok(answer) = self.client.send(Ask::get(&path)).await else { return Found::Unclear };
        match answer.status {
            StatusCode::OK => match serde_json::from_slice::<Engagement>(&answer.body) {
                Ok(Engagement { events }) => {
                    let whats = events.into_iter().filter_map(|event| event.kind.what());
                    Found::Known { id: key.to_owned(), whats: whats.collect() }
                }
                Err(error) => {
                    debug!(key, %error, "the platform's answer cannot be parsed");
                    Found::Unclear
                }
            },
            StatusCode::NOT_FOUND => Found::Absent,
            _ => Found::Unclear,
        }
    }
}

impl Platform for VoiceAgent {
    fn manners(&self) -> Manners {
        Manners {
            repeats_safely: true,
            absence_is_proof: true,
            proof: Proof::Accepted,
            hangs_up: true,
            judges_apart: false,
            max_callback_bytes: SMALL_BYTES,
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
        self.look_up(&sought.named.key).boxed()
    }

    fn hang_up<'a>(&'a self, id: &'a str) -> BoxFuture<'a, bool> {
        async move {
            let path = format!("/v1/{}/{id}/hang-up", self.collection);
            let ask = Ask::post(&path, Content::None);
            self.client.succeeds(Ask { idempotency_key: Some(id), ..ask }).await
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
        let Reported { key, contact, attempt_id, kind } = serde_json::from_slice(callback.body)
            .map_err(|_| Unreadable("it is no event of voice-agent.yaml"))?;
        let named = Named::echoed(&key, &contact, &attempt_id);
        let named = named.ok_or(Unreadable("it names no attempt"))?;
        let event = kind.what().map(|what| Event { of: Of::Attempt(named), what });
        Ok(Told::Events(event.into_iter().collect()))
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
                if let Ok(event) = serde_json::from_slice::<Reported>(bytes) {
                    let _ = event.kind.what();
                }
            }
        }
    }
}
