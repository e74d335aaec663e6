//! Calls in progress: starting them, hanging up, hearing of them.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use campaign_process::traces::{Span, TraceContext};
use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::dialer::{Attempt, CallEnd, CallEvents, Dialer, Fact, Fault, Leave, Outcome};
use crate::leases::Granted;

/// A provider that does not answer a probe in this time has failed it.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// Which call. Lease and slot name it in this process, the attempt id to everyone else.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct CallId {
    pub lease: String,
    pub slot: i32,
    pub attempt_id: String,
    pub contact: String,
    pub campaign: String,
    pub run: i32,
    /// Where what comes of it belongs.
    pub trace: TraceContext,
}

/// The spans of a call: of the dial, and of the whole from the question on. Both end with this value.
#[derive(Debug)]
pub(crate) struct CallTrace {
    pub dial: Span,
    pub _call: Span,
}

/// Something a provider told of a call.
#[derive(Debug)]
pub(crate) struct CallEvent {
    pub call: Arc<CallId>,
    pub news: News,
}

#[derive(Debug)]
pub(crate) enum News {
    Answered,
    /// And who wants to know when it is durable.
    Fact(Fact, Option<oneshot::Sender<bool>>),
    /// Whether the provider did its part.
    Provider(Result<(), Fault>),
    Ended(CallEnd),
    /// Somebody wants to know when the end of the call is durable.
    TellWhenEnded(oneshot::Sender<bool>),
    /// How a call ended that this process does not know, or not any more.
    EndedBefore(CallEnd, oneshot::Sender<bool>),
}

/// The calls that have not ended.
pub(crate) struct Calls {
    dialer: Arc<dyn Dialer>,
    events: mpsc::Sender<CallEvent>,
    in_progress: HashMap<Arc<CallId>, Call>,
    dialled: u64,
}

struct Call {
    hang_up: CancellationToken,
    leave: Leave,
    is_answered: bool,
    /// The provider has not reacted yet.
    is_unheard: bool,
    /// Who wants to know when its end is durable.
    waits_for_end: Option<oneshot::Sender<bool>>,
}

impl Calls {
    pub fn new(dialer: Arc<dyn Dialer>, events: mpsc::Sender<CallEvent>) -> Self {
        Self { dialer, events, in_progress: HashMap::new(), dialled: 0 }
    }

    pub fn in_progress(&self) -> usize {
        self.in_progress.len()
    }

    /// How many were ever dialled.
    pub fn dialled(&self) -> u64 {
        self.dialled
    }

    /// Dials.
    pub fn start(&mut self, granted: Granted) {
        let (call, attempt, trace) = granted.into_call();
        let hang_up = CancellationToken::new();
        let events = CallEvents { call: Arc::clone(&call), sender: self.events.clone() };
        let started = Call {
            hang_up: hang_up.clone(),
            leave: attempt.leave.clone(),
            is_answered: false,
            is_unheard: true,
            waits_for_end: None,
        };
        self.in_progress.insert(call, started);
        self.dialled += 1;
        tokio::spawn(dial(Arc::clone(&self.dialer), attempt, events, hang_up, trace));
    }

    /// Somebody picked up.
    pub fn answered(&mut self, id: &CallId) {
        if let Some(call) = self.in_progress.get_mut(id) {
            call.is_answered = true;
        }
    }

    /// The provider reacted.
    pub fn heard(&mut self, id: &CallId) {
        if let Some(call) = self.in_progress.get_mut(id) {
            call.is_unheard = false;
        }
    }

    /// Calls that the provider has not reacted to.
    pub fn unheard(&self) -> usize {
        self.in_progress.values().filter(|call| call.is_unheard).count()
    }

    /// Asks the provider whether it works again; the answer comes on `answers`.
    pub fn probe(&self, answers: mpsc::Sender<bool>) {
        let probe = AssertUnwindSafe(self.dialer.probe());
        tokio::spawn(async move {
            let answer = timeout(PROBE_LIMIT, probe.catch_unwind()).await;
            let _ = answers.send(matches!(answer, Ok(Ok(true)))).await;
        });
    }

    /// Remembers who wants to know when the end of a call is durable. They are told "no" when it has
    /// ended before, or when somebody else asks.
    pub fn tell_when_ended(&mut self, id: &CallId, done: oneshot::Sender<bool>) {
        if let Some(call) = self.in_progress.get_mut(id) {
            call.waits_for_end = Some(done);
        }
    }

    /// Forgets a call that ended; `None` when it had ended before. Returns who wants to know when the
    /// end is durable.
    pub fn ended(&mut self, id: &CallId) -> Option<Option<oneshot::Sender<bool>>> {
        self.in_progress.remove(id).map(|call| call.waits_for_end)
    }

    /// Lets no call begin anew that `wanted` picks; those that began go on.
    pub fn withdraw(&self, wanted: impl Fn(&CallId) -> bool) {
        for (_, call) in self.in_progress.iter().filter(|(id, _)| wanted(id)) {
            call.leave.withdraw();
        }
    }

    /// Hangs up the calls that `wanted` picks by name and by whether they are answered.
    pub fn hang_up(&self, wanted: impl Fn(&CallId, bool) -> bool) {
        for (id, call) in &self.in_progress {
            if wanted(id, call.is_answered) {
                call.hang_up.cancel();
            }
        }
    }
}

/// One call from dial to end, whatever the provider does.
async fn dial(
    dialer: Arc<dyn Dialer>,
    attempt: Attempt,
    events: CallEvents,
    hang_up: CancellationToken,
    mut trace: CallTrace,
) {
    let told = events.clone();
    let call = async move {
        // This process may have stood still since it was granted.
        if hang_up.is_cancelled() || !attempt.leave.to_begin() {
            return CallEnd::unanswered(Outcome::Failed);
        }
        dialer.dial(attempt, told, hang_up).await
    };
    let end = AssertUnwindSafe(call).catch_unwind().await.unwrap_or_else(|_| {
        let attempt_id = &events.call.attempt_id;
        error!(attempt_id, "the provider panicked; the call's end is reported as unknown");
        CallEnd::unanswered(Outcome::Unknown)
    });
    trace.dial.set("outcome", end.outcome.name());
    drop(trace);
    events.tell(News::Ended(end)).await;
}
