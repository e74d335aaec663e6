//! Call: the attempt that it makes, its events and its end.

mod end;
pub(crate) mod sip_codes;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use campaign_process::traces::{Span, TraceContext};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use end::{CallEnd, EndDetail, MAX_TEXT_CHARS, Outcome, Party};

/// Authorised attempt to reach one contact.
#[derive(Clone)]
pub struct Attempt {
    /// Id of the attempt, unique within its campaign.
    pub attempt_id: String,
    /// Resource name: `campaigns/{campaign}/contacts/{contact}`.
    pub contact: String,
    /// Phone number in E.164.
    pub phone_number: String,
    /// Name for the greeting; may be empty.
    pub display_name: String,
    /// Time zone as an IANA name; may be empty.
    pub time_zone: String,
    /// Further attributes that the campaign has for the contact.
    pub attributes: HashMap<String, String>,
    /// Number of the attempt, 1 for the first.
    pub attempt_number: i32,
    /// Address of the campaign that records who opens it, for a text to the contact; may be empty.
    pub link: String,
    /// Leave to make the contact's phone ring.
    pub leave: Leave,
}

/// Time in which an attempt may begin. Afterwards another worker may hold the contact, so a lost
/// request is not repeated.
#[derive(Clone, Debug)]
pub struct Leave {
    /// End of the lease by the worker's own clock, never later than the service assumes.
    until: Instant,
    withdrawn: CancellationToken,
}

impl Leave {
    /// Grants leave until the lease ends.
    #[must_use]
    pub fn until(until: Instant) -> Self {
        Self { until, withdrawn: CancellationToken::new() }
    }

    /// Whether the attempt may begin.
    #[must_use]
    pub fn to_begin(&self) -> bool {
        Instant::now() < self.until
    }

    /// Whether the request to the provider may be repeated. A stop withdraws this leave and lets
    /// calls in progress continue.
    #[must_use]
    pub fn to_repeat(&self) -> bool {
        self.to_begin() && !self.withdrawn.is_cancelled()
    }

    pub(crate) fn withdraw(&self) {
        self.withdrawn.cancel();
    }
}

impl Attempt {
    /// Returns a key that is unique above all campaigns, because attempt ids repeat between
    /// campaigns. The key has letters, digits, dots and hyphens only.
    #[must_use]
    pub fn key(&self) -> String {
        let campaign = self.contact.split('/').nth(1).unwrap_or_default();
        format!("{campaign}.{}", self.attempt_id)
    }
}

/// Omits number, name and attributes, which must not be logged.
impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("attempt_id", &self.attempt_id)
            .field("contact", &self.contact)
            .finish_non_exhaustive()
    }
}

/// Failure of the provider itself, independent of the contact. Enough consecutive faults stop
/// dialling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No connection, so nothing was dialled.
    #[error("no connection")]
    Unreachable,
    /// No secure connection, so nothing was dialled.
    #[error("its certificate is not trusted, or it speaks no TLS")]
    Untrusted,
    /// No answer in time. The provider may have received the request.
    #[error("no answer in time")]
    Silent,
    /// Rejected by the provider, with this status code.
    #[error("it answered {0}")]
    Refusing(u16),
    /// AI agent that did not answer, while persons did.
    #[error("the agent did not answer")]
    NoAgent,
    /// Number to show to contacts, of which none may call any more today.
    #[error("all numbers that it shows had their calls of the day")]
    NoCaller,
    /// Answer with which calls of different contacts ended in a row, before any phone rang.
    #[error("it answered {0} to different numbers, and none rang")]
    Alike(u16),
    /// Reason of the platform's own, with which it ended a call.
    #[error("it ended a call with {0}")]
    Told(&'static str),
}

/// Event of a contact, other than the end of the call. Each kind counts once per attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Transferred to a person.
    Transferred {
        /// Seconds from answer to transfer.
        seconds_before_transfer: i32,
    },
    /// Asked not to be engaged again.
    OptedOut {
        /// Channel of the request: "call", "text"…
        channel: String,
        /// Whether the opt-out holds for all campaigns.
        everywhere: bool,
    },
    /// Reached the campaign's goal.
    Success,
    /// Received a text.
    TextSent,
    /// Opened a link from a text.
    LinkOpened {
        /// Address of the link.
        link: String,
    },
}

/// Channel for a provider's events of one call.
#[derive(Clone, Debug)]
pub struct CallEvents {
    pub(crate) call: Arc<CallId>,
    pub(crate) sender: mpsc::Sender<CallEvent>,
}

impl CallEvents {
    /// Returns the call's trace context, for the provider's own requests.
    #[must_use]
    pub fn trace(&self) -> &TraceContext {
        &self.call.trace
    }

    /// Reports that the call was answered.
    pub async fn answered(&self) {
        self.tell(News::Answered).await;
    }

    /// Reports that the provider did its part: a phone rings, or somebody answered.
    pub async fn provider_works(&self) {
        self.tell(News::Provider(Sign::Works)).await;
    }

    /// Reports that the AI agent came to the line.
    pub async fn agent_works(&self) {
        self.tell(News::Provider(Sign::AgentWorks)).await;
    }

    /// Reports that the provider failed the call. `retry_after` is the delay that it asks for.
    pub async fn provider_failed(&self, fault: Fault, retry_after: Option<Duration>) {
        self.tell(News::Provider(Sign::Failed(fault, retry_after))).await;
    }

    /// Reports that the provider ended the call with a code, before any phone rang. That may be the
    /// contact's fault or the provider's own.
    pub async fn ended_unrung(&self, code: u16) {
        self.tell(News::Provider(Sign::Unrung(code))).await;
    }

    /// Reports a fact to record. Waits while the worker has no room for another.
    pub async fn report(&self, fact: Fact) {
        self.tell(News::Fact(fact, None)).await;
    }

    /// Reports a fact and waits for the service's acknowledgement. Returns true if the fact is
    /// durable, false if the service rejected it or the worker stops.
    pub async fn report_durably(&self, fact: Fact) -> bool {
        let (done, is_durable) = oneshot::channel();
        self.tell(News::Fact(fact, Some(done))).await;
        is_durable.await.unwrap_or(false)
    }

    /// Returns a receiver that learns whether the end of the call is durable, as `report_durably`
    /// does. Must be called before the call ends.
    pub async fn when_end_is_durable(&self) -> oneshot::Receiver<bool> {
        let (done, is_durable) = oneshot::channel();
        self.tell(News::TellWhenEnded(done)).await;
        is_durable
    }

    /// Completes when the worker has stopped and receives no more events.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    pub(crate) async fn tell(&self, news: News) {
        // A send fails only when the worker has stopped and receives no more events.
        let _ = self.sender.send(CallEvent { call: Arc::clone(&self.call), news }).await;
    }
}

/// Channel for events of calls that an earlier process placed. The service lets a reported end
/// replace the one that it had to assume.
#[derive(Clone, Debug)]
pub struct EarlierCalls {
    pub(crate) sender: mpsc::Sender<CallEvent>,
}

impl EarlierCalls {
    /// Returns the channel for events of one call.
    #[must_use]
    pub fn call(&self, contact: &str, attempt_id: &str) -> CallEvents {
        let campaign = contact.split("/contacts/").next().unwrap_or_default();
        let call = CallId {
            lease: String::new(),
            slot: 0,
            attempt_id: attempt_id.to_owned(),
            contact: contact.to_owned(),
            campaign: campaign.to_owned(),
            run: 0,
            trace: TraceContext::default(),
        };
        CallEvents { call: Arc::new(call), sender: self.sender.clone() }
    }

    /// Reports the end of one call and waits for the acknowledgement, as `report_durably` does.
    pub async fn ended(&self, contact: &str, attempt_id: &str, end: CallEnd) -> bool {
        let (done, is_durable) = oneshot::channel();
        self.call(contact, attempt_id).tell(News::EndedBefore(end, done)).await;
        is_durable.await.unwrap_or(false)
    }
}

/// Identity of a call. Lease and slot name the call in this process; the attempt id names it
/// elsewhere.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct CallId {
    pub lease: String,
    pub slot: i32,
    pub attempt_id: String,
    pub contact: String,
    pub campaign: String,
    pub run: i32,
    /// Trace context for everything that follows from the call.
    pub trace: TraceContext,
}

/// Spans of a call. One span covers the dial, the other starts at the authorisation request. Both
/// end when this value is dropped.
#[derive(Debug)]
pub(crate) struct CallTrace {
    pub dial: Span,
    pub _call: Span,
}

/// Event that a provider reported for a call.
#[derive(Debug)]
pub(crate) struct CallEvent {
    pub call: Arc<CallId>,
    pub news: News,
}

/// Sign of the provider's health that a call gives.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sign {
    Works,
    /// The AI agent came to the line.
    AgentWorks,
    /// The provider failed the call, and may ask for a delay.
    Failed(Fault, Option<Duration>),
    /// The call ended with this code before any phone rang.
    Unrung(u16),
}

#[derive(Debug)]
pub(crate) enum News {
    Answered,
    /// Fact to record. The sender, if any, learns whether the fact is durable.
    Fact(Fact, Option<oneshot::Sender<bool>>),
    Provider(Sign),
    Ended(CallEnd),
    /// Request to learn when the end of the call is durable.
    TellWhenEnded(oneshot::Sender<bool>),
    /// End of a call that this process does not know, or no longer knows.
    EndedBefore(CallEnd, oneshot::Sender<bool>),
}
