//! One call, from the request to begin it to its end.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::events::{End, Named, What, judged};
use super::platform::{Created, Found, Means, Order, Proof};
use super::remote::Remote;
use super::shared::Shared;
use crate::call::{Attempt, CallEnd, CallEvents, EndDetail, Fact, Fault, Outcome};

/// Capacity for events of one call that wait to be handled.
const NEWS_CAPACITY: usize = 16;
/// Most requests to begin one attempt. The request is repeated, under the same key, when the
/// platform says that it does not know the attempt.
const CREATE_ROUNDS: usize = 3;
/// Delays before the look-ups of an attempt. They stop at the first conclusive answer.
const LOOK_UP_DELAYS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];
/// Delay of the next look-up of a call that is over.
const OVER_DELAY: Duration = Duration::from_secs(1);
/// Time in which a call must end after its hang-up.
const END_LIMIT: Duration = Duration::from_secs(15);

/// Dials and completes when the call is over.
pub(super) async fn place(
    shared: &Arc<Shared>,
    attempt: &Attempt,
    events: &CallEvents,
    hang_up: &CancellationToken,
) -> CallEnd {
    let Some(to) = shared.to(attempt) else {
        info!(attempt_id = attempt.attempt_id, "the contact has no attribute email");
        return CallEnd::unanswered(Outcome::Failed);
    };
    let named = Named::of(attempt);
    let (news, id) = shared.list(&named, events, NEWS_CAPACITY).await;
    let remote = Remote {
        shared: Arc::clone(shared),
        named,
        to: to.to_owned(),
        id,
        begun_at: SystemTime::now(),
    };
    // Delisted also when this future is dropped or panics.
    let mut call = Call { attempt, events, hang_up, remote, news, is_machine: false, told: None };
    let end = match call.begin().await {
        Begun::Yes => call.follow().await,
        Begun::No(end) => end,
        Begun::Unknown => {
            info!(attempt_id = attempt.attempt_id, "the platform does not say whether it began");
            call.unknown("the platform does not say whether it began")
        }
    };
    call.last_word(end).await
}

enum Begun {
    Yes,
    No(CallEnd),
    Unknown,
}

struct Call<'a> {
    attempt: &'a Attempt,
    events: &'a CallEvents,
    hang_up: &'a CancellationToken,
    remote: Remote,
    news: mpsc::Receiver<What>,
    /// Whether the voice that answered was judged to be a machine's.
    is_machine: bool,
    /// End that the platform told.
    told: Option<CallEnd>,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.remote.shared.delist(&self.remote.named.key, self.told.as_ref());
    }
}

impl Call<'_> {
    async fn begin(&mut self) -> Begun {
        let manners = self.remote.shared.platform.manners();
        // After a lost answer, only the platform's own look-up may prove that nothing began.
        let mut was_lost = false;
        for _ in 0..CREATE_ROUNDS {
            match self.create().await {
                Created::Yes(id) => {
                    let _ = self.remote.id.set(id);
                    self.prove(Proof::Accepted).await;
                    return Begun::Yes;
                }
                Created::Refused { code, means, retry_after } => {
                    let refused = self.refused(code, means, retry_after).await;
                    let may_have_begun = was_lost && !manners.absence_is_proof;
                    return if may_have_begun { Begun::Unknown } else { refused };
                }
                Created::NotSent(fault) => {
                    self.events.provider_failed(fault, None).await;
                    let end = CallEnd::unanswered(Outcome::Congested);
                    return if was_lost { Begun::Unknown } else { Begun::No(end) };
                }
                Created::Lost { fault, retry_after } => {
                    was_lost = true;
                    debug!(attempt_id = self.attempt.attempt_id, %fault, "looking up the attempt");
                    self.events.provider_failed(fault, retry_after).await;
                }
            }
            match self.look_up(manners.repeats_safely).await {
                Looked::Begun => return Begun::Yes,
                Looked::Absent if self.may_repeat() => {}
                Looked::Absent | Looked::Unclear => return Begun::Unknown,
            }
        }
        Begun::Unknown
    }

    async fn create(&self) -> Created {
        let shared = &self.remote.shared;
        let order = Order {
            attempt: self.attempt,
            named: &self.remote.named,
            to: &self.remote.to,
            channel: shared.channel,
            callback_url: &shared.callback_url,
        };
        shared.platform.create(&order, self.events.trace()).await
    }

    async fn refused(&self, code: u16, means: Means, retry_after: Option<Duration>) -> Begun {
        info!(attempt_id = self.attempt.attempt_id, code, ?means, "rejected by the platform");
        let outcome = match means {
            Means::Provider => {
                self.events.provider_failed(Fault::Refusing(code), retry_after).await;
                Outcome::Congested
            }
            Means::Contact(outcome) => {
                self.events.ended_unrung(code).await;
                outcome
            }
            Means::OptedOut => {
                let channel = self.remote.shared.channel.name().to_owned();
                self.events.report(Fact::OptedOut { channel, everywhere: true }).await;
                Outcome::Rejected
            }
        };
        let detail = EndDetail { code: Some(code), ..EndDetail::default() };
        Begun::No(CallEnd::unanswered(outcome).with(detail))
    }

    fn may_repeat(&self) -> bool {
        self.attempt.leave.to_repeat() && !self.hang_up.is_cancelled()
    }

    /// Looks up whether the platform knows the attempt. A callback for the attempt proves it as
    /// well.
    async fn look_up(&mut self, absence_is_proof: bool) -> Looked {
        for delay in LOOK_UP_DELAYS {
            sleep(delay).await;
            match self.remote.find().await {
                Found::Known { whats, .. } => {
                    tokio::spawn(self.remote.clone().deliver(whats));
                    return Looked::Begun;
                }
                Found::Absent if absence_is_proof && self.news.is_empty() => {
                    return Looked::Absent;
                }
                Found::Absent | Found::Unclear => {}
            }
            if !self.news.is_empty() {
                return Looked::Begun;
            }
        }
        Looked::Unclear
    }

    /// Returns the end after all news that came while it was decided. From here on the call accepts
    /// no events: they count as those of a call that is over.
    async fn last_word(&mut self, decided: CallEnd) -> CallEnd {
        self.news.close();
        while let Some(what) = self.news.recv().await {
            match what {
                What::AnsweredBy { is_machine, .. } => self.is_machine = is_machine,
                What::Ended(told) => self.note_end(told.end),
                _ => {}
            }
        }
        let is_machine = self.is_machine;
        self.told = self.told.take().map(|told| judged(told, is_machine));
        self.told.clone().unwrap_or(decided)
    }

    /// Notes an end that the platform told. The first one counts, unless it was unknown, or
    /// provisional and this one is known.
    fn note_end(&mut self, end: CallEnd) {
        let counts = self.told.as_ref().is_none_or(|told| {
            let is_known = end.outcome != Outcome::Unknown;
            told.outcome == Outcome::Unknown || told.is_provisional && is_known
        });
        if counts {
            self.told = Some(end);
        }
    }

    /// Waits for the end of the call: the platform's first, or one that this worker decides by itself.
    async fn follow(&mut self) -> CallEnd {
        let mut poll_interval = self.remote.shared.poll_interval;
        let mut poll_at = Instant::now() + poll_interval;
        let mut limit = Instant::now() + self.remote.shared.call_limit;
        let mut is_hung_up = false;
        loop {
            let told_to_hang_up = tokio::select! {
                Some(what) = self.news.recv() => {
                    poll_at = Instant::now() + poll_interval;
                    if let What::Over { .. } = what {
                        poll_at = Instant::now();
                        poll_interval = OVER_DELAY;
                    }
                    if let Some(end) = self.hear(what).await {
                        return end;
                    }
                    false
                }
                () = self.hang_up.cancelled(), if !is_hung_up => true,
                () = sleep_until(limit) => {
                    if is_hung_up {
                        warn!(attempt_id = self.attempt.attempt_id, "a call's end is unknown");
                        return self.unknown("no end came within the longest time of a call");
                    }
                    true
                }
                () = sleep_until(poll_at) => {
                    poll_at = Instant::now() + poll_interval;
                    tokio::spawn(self.remote.clone().poll());
                    false
                }
            };
            if told_to_hang_up {
                is_hung_up = true;
                limit = self.begin_to_hang_up().unwrap_or(limit);
                // The call may have ended and its callback been lost.
                poll_at = Instant::now() + END_LIMIT / 3;
            }
        }
    }

    /// Hangs up, if the platform can. Returns when the call must have ended then.
    fn begin_to_hang_up(&self) -> Option<Instant> {
        if !self.remote.shared.platform.manners().hangs_up {
            if let Some(left_out) = self.remote.shared.going_on.may_say() {
                let attempt_id = &self.attempt.attempt_id;
                warn!(attempt_id, left_out, "the platform cannot hang up: a call or text goes on");
            }
            return None;
        }
        tokio::spawn(self.remote.clone().hang_up());
        Some(Instant::now() + END_LIMIT)
    }

    /// Handles news. Returns the end of the call, if the news is that.
    async fn hear(&mut self, what: What) -> Option<CallEnd> {
        match what {
            What::Rings => self.prove(Proof::Rung).await,
            What::Answered => {
                self.prove(Proof::Rung).await;
                self.events.answered().await;
            }
            What::AnsweredBy { is_machine, .. } => self.is_machine = is_machine,
            What::Ended(End { end, shows }) => {
                shows.tell(self.events).await;
                self.note_end(end.clone());
                return Some(end);
            }
            What::Fact(_) | What::Over { .. } => {}
        }
        None
    }

    /// Returns an end that nobody knows.
    fn unknown(&self, reason: &str) -> CallEnd {
        CallEnd::unanswered(Outcome::Unknown).with(EndDetail {
            provider_call_id: self.remote.id.get().cloned(),
            reason: Some(reason.to_owned()),
            ..EndDetail::default()
        })
    }

    /// Reports that the platform works, if it proves that in this way.
    async fn prove(&self, by: Proof) {
        if self.remote.shared.platform.manners().proof == by {
            self.events.provider_works().await;
        }
    }
}

/// Result of looking an attempt up until it is conclusive.
enum Looked {
    Begun,
    Absent,
    Unclear,
}
