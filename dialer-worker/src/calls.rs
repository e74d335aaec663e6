//! Calls in progress: starts calls, hangs them up and receives their events.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::call::{
    Attempt, CallEnd, CallEvent, CallEvents, CallId, CallTrace, Leave, News, Outcome,
};
use crate::dialer::Dialer;
use crate::leases::Granted;

/// Time for the answer to a probe. A provider that exceeds the limit fails the probe.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// Calls that have not ended.
pub(crate) struct Calls {
    dialer: Arc<dyn Dialer>,
    events: mpsc::Sender<CallEvent>,
    in_progress: HashMap<Arc<CallId>, Call>,
    dialled: u64,
}

struct Call {
    begun_at: Instant,
    hang_up: CancellationToken,
    leave: Leave,
    is_answered: bool,
    /// Whether the provider has yet to react.
    is_unheard: bool,
    /// Sender that learns whether the end of the call is durable.
    waits_for_end: Option<oneshot::Sender<bool>>,
}

impl Calls {
    pub fn new(dialer: Arc<dyn Dialer>, events: mpsc::Sender<CallEvent>) -> Self {
        Self { dialer, events, in_progress: HashMap::new(), dialled: 0 }
    }

    pub fn in_progress(&self) -> usize {
        self.in_progress.len()
    }

    /// Returns the number of calls dialled since the start.
    pub fn dialled(&self) -> u64 {
        self.dialled
    }

    /// Dials a granted attempt.
    pub fn start(&mut self, granted: Granted) {
        let (call, attempt, trace) = granted.into_call();
        let hang_up = CancellationToken::new();
        let events = CallEvents { call: Arc::clone(&call), sender: self.events.clone() };
        let started = Call {
            begun_at: Instant::now(),
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

    /// Records that the call was answered.
    pub fn answered(&mut self, id: &CallId) {
        if let Some(call) = self.in_progress.get_mut(id) {
            call.is_answered = true;
        }
    }

    /// Records that the provider reacted to the call.
    pub fn heard(&mut self, id: &CallId) {
        if let Some(call) = self.in_progress.get_mut(id) {
            call.is_unheard = false;
        }
    }

    /// Returns when a call in progress began.
    pub fn begun_at(&self, id: &CallId) -> Option<Instant> {
        self.in_progress.get(id).map(|call| call.begun_at)
    }

    /// Returns the number of calls that the provider has not reacted to.
    pub fn unheard(&self) -> usize {
        self.in_progress.values().filter(|call| call.is_unheard).count()
    }

    /// Probes whether the provider works again. The answer is sent on `answers`.
    pub fn probe(&self, answers: mpsc::Sender<bool>) {
        let probe = AssertUnwindSafe(self.dialer.probe());
        tokio::spawn(async move {
            let answer = timeout(PROBE_LIMIT, probe.catch_unwind()).await;
            let _ = answers.send(matches!(answer, Ok(Ok(true)))).await;
        });
    }

    /// Registers `done` to learn when the end of a call is durable. If the call has ended, or
    /// another request replaces this one, `done` is dropped, which means "no".
    pub fn tell_when_ended(&mut self, id: &CallId, done: oneshot::Sender<bool>) {
        if let Some(call) = self.in_progress.get_mut(id) {
            call.waits_for_end = Some(done);
        }
    }

    /// Forgets a call that ended. Returns the sender that learns when the end is durable. Returns
    /// `None` if the call had already ended.
    pub fn ended(&mut self, id: &CallId) -> Option<Option<oneshot::Sender<bool>>> {
        self.in_progress.remove(id).map(|call| call.waits_for_end)
    }

    /// Withdraws the leave to begin from the calls that `wanted` selects. Calls that have begun
    /// continue.
    pub fn withdraw(&self, wanted: impl Fn(&CallId) -> bool) {
        for (_, call) in self.in_progress.iter().filter(|(id, _)| wanted(id)) {
            call.leave.withdraw();
        }
    }

    /// Hangs up the calls that `wanted` selects by identity and by whether they are answered.
    pub fn hang_up(&self, wanted: impl Fn(&CallId, bool) -> bool) {
        for (id, call) in &self.in_progress {
            if wanted(id, call.is_answered) {
                call.hang_up.cancel();
            }
        }
    }
}

/// Runs one call from dial to end. A panic of the provider ends the call as unknown.
async fn dial(
    dialer: Arc<dyn Dialer>,
    attempt: Attempt,
    events: CallEvents,
    hang_up: CancellationToken,
    mut trace: CallTrace,
) {
    let told = events.clone();
    let call = async move {
        // The process may have been suspended since the grant. Nothing was asked of the provider, so
        // the attempt is given back.
        if hang_up.is_cancelled() || !attempt.leave.to_begin() {
            return CallEnd::unanswered(Outcome::Congested);
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
