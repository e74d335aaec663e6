//! Platform: the requests and callbacks that differ between platforms.

use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use axum::http::HeaderMap;
use campaign_process::traces::TraceContext;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use hyper::StatusCode;

use super::client::{Answer, Failed};
use super::config::Channel;
use super::events::{Event, Named, What};
use super::signature::Refused;
use crate::call::{Attempt, Fault, Outcome};

/// Largest callback that holds no transcript.
pub(super) const SMALL_BYTES: usize = 64 << 10;
/// Largest callback that holds the transcript of a call. The end of a longer call is polled.
pub(super) const TRANSCRIPT_BYTES: usize = 1 << 20;

/// Platform that places calls or sends messages.
pub(super) trait Platform: Send + Sync + 'static {
    /// Returns how the platform keeps its promises.
    fn manners(&self) -> Manners;

    /// Requests a call or a message.
    fn create<'a>(
        &'a self,
        order: &'a Order<'a>,
        trace: &'a TraceContext,
    ) -> BoxFuture<'a, Created>;

    /// Looks an attempt up.
    fn find<'a>(&'a self, sought: &'a Sought<'a>) -> BoxFuture<'a, Found>;

    /// Asks the platform to hang up. Returns whether it agreed.
    fn hang_up<'a>(&'a self, id: &'a str) -> BoxFuture<'a, bool>;

    /// Whether the platform and the account work.
    fn is_healthy(&self) -> BoxFuture<'_, bool>;

    /// Checks the signature of a callback.
    fn check(&self, callback: &Callback<'_>, now: SystemTime) -> Result<(), Refused>;

    /// Reads a callback. The signature has been checked.
    fn read(&self, callback: &Callback<'_>) -> Result<Told, Unreadable>;

    /// Returns the names of the attempt behind a platform's own id, for events that echo no names;
    /// `None` if the call is of another program.
    fn named<'a>(&'a self, _id: &'a str) -> BoxFuture<'a, Result<Option<Named>, Unclear>> {
        ready(Ok(None)).boxed()
    }
}

/// Look-up without a conclusive answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unclear;

/// Promises of a platform.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manners {
    /// Whether a repeated request begins nothing twice.
    pub repeats_safely: bool,
    /// Whether a look-up that finds nothing proves that nothing began. If not, what the platform
    /// refuses to repeat may have begun.
    pub absence_is_proof: bool,
    /// Sign that a call gives of the platform's health.
    pub proof: Proof,
    /// Whether a call can be hung up.
    pub hangs_up: bool,
    /// Whether the end of a call says nothing of the voice that answered.
    pub judges_apart: bool,
    /// Largest callback accepted.
    pub max_callback_bytes: usize,
}

/// First thing in a call that shows that the platform works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// The platform accepted the request.
    Accepted,
    /// A phone rang.
    Rung,
    /// The call ended well. An agent may fail after somebody answered, in every call.
    Ended,
}

/// Request to begin an attempt.
#[derive(Clone, Copy)]
pub(super) struct Order<'a> {
    pub attempt: &'a Attempt,
    pub named: &'a Named,
    /// Number, or address of an e-mail.
    pub to: &'a str,
    pub channel: Channel,
    /// Public address of this worker's callbacks.
    pub callback_url: &'a str,
}

/// Attempt to look up.
#[derive(Clone, Copy)]
pub(super) struct Sought<'a> {
    pub named: &'a Named,
    pub to: &'a str,
    /// Id at the platform, once it is known.
    pub id: Option<&'a str>,
    /// Time of the first request, by this machine's clock.
    pub begun_at: SystemTime,
}

/// Result of the request to begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Created {
    /// Begun, with the platform's own id.
    Yes(String),
    /// Rejected; nothing began.
    Refused { code: u16, means: Means, retry_after: Option<Duration> },
    /// Not sent.
    NotSent(Fault),
    /// Without a conclusive answer; the attempt may have begun.
    Lost { fault: Fault, retry_after: Option<Duration> },
}

/// Meaning of a rejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Means {
    /// The platform or the account is at fault.
    Provider,
    /// This contact cannot be reached.
    Contact(Outcome),
    /// This contact opted out, by the platform's own list.
    OptedOut,
}

impl Created {
    /// Reads the answer to a request to begin. `id` reads the platform's id, `means` a rejection.
    pub fn read(
        answer: Result<Answer, Failed>,
        id: impl FnOnce(&[u8]) -> Option<String>,
        means: impl FnOnce(u16, &[u8]) -> (u16, Means),
    ) -> Self {
        let answer = match answer {
            Ok(answer) => answer,
            Err(Failed::NotSent(fault)) => return Self::NotSent(fault),
            Err(Failed::Lost) => return Self::Lost { fault: Fault::Silent, retry_after: None },
        };
        let (status, retry_after) = (answer.status, answer.retry_after);
        let code = status.as_u16();
        match status {
            // Without its id the attempt has to be looked up.
            _ if status.is_success() => id(&answer.body)
                .map_or(Self::Lost { fault: Fault::Silent, retry_after: None }, Self::Yes),
            StatusCode::UNAUTHORIZED
            | StatusCode::PAYMENT_REQUIRED
            | StatusCode::FORBIDDEN
            | StatusCode::TOO_MANY_REQUESTS => {
                Self::Refused { code, means: Means::Provider, retry_after }
            }
            // The attempt or the worker is at fault. In either case the attempt did not begin.
            _ if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT => {
                let (code, means) = means(code, &answer.body);
                Self::Refused { code, means, retry_after }
            }
            _ => Self::Lost { fault: Fault::Refusing(code), retry_after },
        }
    }
}

/// Result of a look-up at the platform.
#[derive(Debug)]
pub(super) enum Found {
    /// Known, with its id and with everything that happened so far.
    Known { id: String, whats: Vec<What> },
    /// Unknown to the platform.
    Absent,
    /// Without a conclusive answer.
    Unclear,
}

/// Callback as it came.
pub(super) struct Callback<'a> {
    /// Public address that the platform was given, with the query of this request.
    pub url: &'a str,
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    pub body: &'a Bytes,
}

impl Callback<'_> {
    /// Returns a header's text; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// News in a callback.
#[derive(Debug)]
pub(super) enum Told {
    Events(Vec<Event>),
    /// Text from a person to one of our numbers.
    Text(InboundText),
}

/// Text from a person. It names no attempt.
pub(super) struct InboundText {
    pub from: String,
    /// Id of the text at the platform.
    pub id: String,
    pub wish: Wish,
}

impl std::fmt::Debug for InboundText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InboundText")
            .field("id", &self.id)
            .field("wish", &self.wish)
            .finish_non_exhaustive()
    }
}

/// Wish that a text expresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Stop,
    Start,
    /// Anything else.
    None,
}

/// Reason for which a callback cannot be read. It holds nothing of the callback.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unreadable(pub &'static str);
