//! What a telephony provider must do.

use std::collections::HashMap;
use std::fmt;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use campaign_process::traces::TraceContext;
use campaign_proto::v1::CallOutcome;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::calls::{CallEvent, CallId, News};

/// Places calls. One value serves all calls of the process.
pub trait Dialer: Send + Sync + 'static {
    /// Dials once, and comes back when the call is over; that is reported as the end of the call, so
    /// every call ends exactly once. Everything else goes through `events`, also later than the end
    /// of the call (a link opened). When `hang_up` is cancelled the call has to end at once. It is not
    /// asked at all when it was cancelled before, or without leave to begin.
    fn dial(
        &self,
        attempt: Attempt,
        events: CallEvents,
        hang_up: CancellationToken,
    ) -> BoxFuture<'static, CallEnd>;

    /// Called once, before anything else: where to tell what happened in calls of an earlier process.
    fn begin(&self, _earlier: EarlierCalls) {}

    /// Asks the provider, without a call, whether it works again. Only while the worker has stopped
    /// dialling because calls failed; `true` lets it try one.
    fn probe(&self) -> BoxFuture<'static, bool>;

    /// Called once, when the worker begins to stop: takes no more callers, and comes back when the calls
    /// that came in are over and recorded, or could not be soon after the grace. Returns how many are not.
    fn stop(&self, _grace: Duration) -> BoxFuture<'static, usize> {
        ready(0).boxed()
    }
}

/// One authorised attempt to reach one contact.
#[derive(Clone)]
pub struct Attempt {
    /// Names the attempt everywhere.
    pub attempt_id: String,
    /// `campaigns/{campaign}/contacts/{contact}`.
    pub contact: String,
    /// E.164.
    pub phone_number: String,
    /// For the greeting; may be empty.
    pub display_name: String,
    /// IANA name; may be empty.
    pub time_zone: String,
    /// What else the campaign knows of the contact.
    pub attributes: HashMap<String, String>,
    /// 1 for the first attempt.
    pub attempt_number: i32,
    /// For a text to the contact: an address of the campaign that records who opens it; may be empty.
    pub link: String,
    /// How long its phone may be made to ring.
    pub leave: Leave,
}

/// How long an attempt may begin. After that another worker may have the contact, so a request that got lost
/// is not made again.
#[derive(Clone, Debug)]
pub struct Leave {
    /// By our own clock, and not later than the service thinks: the end of the lease.
    until: Instant,
    withdrawn: CancellationToken,
}

impl Leave {
    /// Leave while the lease lives.
    #[must_use]
    pub fn until(until: Instant) -> Self {
        Self { until, withdrawn: CancellationToken::new() }
    }

    /// Whether the attempt may begin.
    #[must_use]
    pub fn to_begin(&self) -> bool {
        Instant::now() < self.until
    }

    /// Whether the provider may be asked once more. What stopped meanwhile lets calls go on, and no others begin.
    #[must_use]
    pub fn to_repeat(&self) -> bool {
        self.to_begin() && !self.withdrawn.is_cancelled()
    }

    pub(crate) fn withdraw(&self) {
        self.withdrawn.cancel();
    }
}

impl Attempt {
    /// Names the attempt above all campaigns, in letters, digits, dots and hyphens: attempt ids repeat
    /// from campaign to campaign.
    #[must_use]
    pub fn key(&self) -> String {
        let campaign = self.contact.split('/').nth(1).unwrap_or_default();
        format!("{campaign}.{}", self.attempt_id)
    }
}

/// Leaves out what must not be logged: number, name and attributes.
impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("attempt_id", &self.attempt_id)
            .field("contact", &self.contact)
            .finish_non_exhaustive()
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallEnd {
    /// What came of it.
    pub outcome: Outcome,
    /// From answer to end; zero if nobody answered.
    pub duration: Duration,
}

impl CallEnd {
    /// The end of a call in which nobody spoke.
    #[must_use]
    pub fn unanswered(outcome: Outcome) -> Self {
        Self { outcome, duration: Duration::ZERO }
    }
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A person answered.
    Answered,
    /// It rang, nobody answered.
    NoAnswer,
    /// The line was busy.
    Busy,
    /// A machine answered.
    Voicemail,
    /// The call could not be placed.
    Failed,
    /// Nobody knows: it may have rung. The service's retry policy decides, and a real outcome that
    /// comes later replaces it.
    Unknown,
}

impl Outcome {
    /// All there are, in order.
    pub const ALL: [Self; 6] =
        [Self::Answered, Self::NoAnswer, Self::Busy, Self::Voicemail, Self::Failed, Self::Unknown];

    /// As the API has it.
    #[must_use]
    pub fn to_api(self) -> CallOutcome {
        match self {
            Self::Answered => CallOutcome::Answered,
            Self::NoAnswer => CallOutcome::NoAnswer,
            Self::Busy => CallOutcome::Busy,
            Self::Voicemail => CallOutcome::Voicemail,
            Self::Failed => CallOutcome::Failed,
            Self::Unknown => CallOutcome::Unknown,
        }
    }

    /// For metrics and traces: the API's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        let name = self.to_api().as_str_name();
        name.strip_prefix("CALL_OUTCOME_").unwrap_or(name)
    }
}

/// How the provider itself failed, whoever was called. Enough of these in a row stop the dialling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No connection, so nothing was dialled.
    #[error("no connection")]
    Unreachable,
    /// No secure connection, so nothing was dialled.
    #[error("its certificate is not trusted, or it speaks no TLS")]
    Untrusted,
    /// It took the request, or may have, and said nothing in time.
    #[error("no answer in time")]
    Silent,
    /// It answered that it cannot: the code says why.
    #[error("it answered {0}")]
    Refusing(u16),
}

/// Something that happened to the contact, other than the end of the call. Each kind counts once for
/// an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Handed over to a person.
    Transferred {
        /// From answer to transfer, in seconds.
        seconds_before_transfer: i32,
    },
    /// Asked not to be engaged again.
    OptedOut {
        /// How: "call", "text"…
        channel: String,
        /// By any campaign.
        everywhere: bool,
    },
    /// The campaign's goal was met.
    Success,
    /// A text was sent.
    TextSent,
    /// A link in a text was opened.
    LinkOpened {
        /// Which.
        link: String,
    },
}

/// Where a provider tells what happens in one call.
#[derive(Clone, Debug)]
pub struct CallEvents {
    pub(crate) call: Arc<CallId>,
    pub(crate) sender: mpsc::Sender<CallEvent>,
}

impl CallEvents {
    /// Where the call belongs, for whom the provider asks.
    #[must_use]
    pub fn trace(&self) -> &TraceContext {
        &self.call.trace
    }

    /// Somebody picked up.
    pub async fn answered(&self) {
        self.tell(News::Answered).await;
    }

    /// The provider reacted to the call as it should, whatever comes of it.
    pub async fn provider_works(&self) {
        self.tell(News::Provider(Ok(()))).await;
    }

    /// The provider failed the call.
    pub async fn provider_failed(&self, fault: Fault) {
        self.tell(News::Provider(Err(fault))).await;
    }

    /// Something to record. Waits while the worker has no room for more.
    pub async fn report(&self, fact: Fact) {
        self.tell(News::Fact(fact, None)).await;
    }

    /// As `report`, and waits until the service has it: true when it is durable, false when it was
    /// rejected or the worker stops.
    pub async fn report_durably(&self, fact: Fact) -> bool {
        let (done, is_durable) = oneshot::channel();
        self.tell(News::Fact(fact, Some(done))).await;
        is_durable.await.unwrap_or(false)
    }

    /// To be called before the call ends: tells when its end is durable, as `report_durably` does.
    pub async fn when_end_is_durable(&self) -> oneshot::Receiver<bool> {
        let (done, is_durable) = oneshot::channel();
        self.tell(News::TellWhenEnded(done)).await;
        is_durable
    }

    /// Completes when nobody listens any more, because the worker has stopped.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    pub(crate) async fn tell(&self, news: News) {
        // Fails only when the worker has stopped; then nobody is left to tell.
        let _ = self.sender.send(CallEvent { call: Arc::clone(&self.call), news }).await;
    }
}

/// Where to tell of calls that an earlier process placed: the service takes it in place of what it
/// had to assume.
#[derive(Clone, Debug)]
pub struct EarlierCalls {
    pub(crate) sender: mpsc::Sender<CallEvent>,
}

impl EarlierCalls {
    /// Where to tell what happened in one call.
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

    /// How one ended; as `report_durably`.
    pub async fn ended(&self, contact: &str, attempt_id: &str, end: CallEnd) -> bool {
        let (done, is_durable) = oneshot::channel();
        self.call(contact, attempt_id).tell(News::EndedBefore(end, done)).await;
        is_durable.await.unwrap_or(false)
    }
}
