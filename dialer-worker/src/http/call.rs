//! One call, from the request to begin it to its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::api::{Create, Created, Engagement, Event, Found, What};
use super::config::Channel;
use super::shared::{Listed, Shared};
use crate::call::{Attempt, CallEnd, CallEvents, Fault, Outcome};

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
/// Attempts and delay of a hang-up that the platform did not accept.
const HANG_UP_ROUNDS: usize = 10;
const HANG_UP_DELAY: Duration = Duration::from_millis(500);
/// Time in which a call must end after its hang-up.
const END_LIMIT: Duration = Duration::from_secs(15);

/// Dials and completes when the call is over.
pub(super) async fn place(
    shared: &Arc<Shared>,
    attempt: &Attempt,
    events: &CallEvents,
    hang_up: &CancellationToken,
) -> CallEnd {
    let key = attempt.key();
    let (sender, news) = mpsc::channel(NEWS_CAPACITY);
    shared.listed().insert(key.clone(), Listed { news: sender, events: events.clone() });
    // Delisted also when this future is dropped or panics.
    let mut call = Call { shared, attempt, events, hang_up, key, news };
    let end = match call.begin().await {
        Begun::Yes => call.follow().await,
        Begun::No => CallEnd::unanswered(Outcome::Failed),
        Begun::Unknown => {
            info!(attempt_id = attempt.attempt_id, "the platform does not say whether it began");
            CallEnd::unanswered(Outcome::Unknown)
        }
    };
    call.told_meanwhile().unwrap_or(end)
}

enum Begun {
    Yes,
    No,
    Unknown,
}

struct Call<'a> {
    shared: &'a Arc<Shared>,
    attempt: &'a Attempt,
    events: &'a CallEvents,
    hang_up: &'a CancellationToken,
    key: String,
    news: mpsc::Receiver<What>,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.shared.listed().remove(&self.key);
    }
}

impl Call<'_> {
    async fn begin(&mut self) -> Begun {
        let Some(to) = self.shared.to(self.attempt) else {
            info!(attempt_id = self.attempt.attempt_id, "the contact has no attribute email");
            return Begun::No;
        };
        // After a lost answer, only the platform's own answer proves that nothing began.
        let mut was_lost = false;
        for _ in 0..CREATE_ROUNDS {
            match self.create(to).await {
                Created::Yes => {
                    self.events.provider_works().await;
                    return Begun::Yes;
                }
                Created::Refused(code @ (401 | 402 | 403 | 429)) => {
                    self.events.provider_failed(Fault::Refusing(code), None).await;
                    return Begun::No;
                }
                Created::Refused(code) => {
                    info!(attempt_id = self.attempt.attempt_id, code, "rejected by the platform");
                    self.events.ended_unrung(code).await;
                    return Begun::No;
                }
                Created::NotSent(fault) => {
                    self.events.provider_failed(fault, None).await;
                    return if was_lost { Begun::Unknown } else { Begun::No };
                }
                Created::Lost(fault) => {
                    was_lost = true;
                    debug!(attempt_id = self.attempt.attempt_id, %fault, "looking up the attempt");
                    self.events.provider_failed(fault, None).await;
                }
            }
            match self.look_up().await {
                Found::Known(_) => return Begun::Yes,
                Found::Absent if self.may_repeat() => {}
                Found::Absent | Found::Unclear => return Begun::Unknown,
            }
        }
        Begun::Unknown
    }

    fn may_repeat(&self) -> bool {
        self.attempt.leave.to_repeat() && !self.hang_up.is_cancelled()
    }

    async fn create(&self, to: &str) -> Created {
        let channel = match self.shared.channel {
            Channel::Call => None,
            Channel::Sms => Some("sms"),
            Channel::Email => Some("email"),
        };
        let create = Create {
            key: &self.key,
            contact: &self.attempt.contact,
            attempt_id: &self.attempt.attempt_id,
            attempt_number: self.attempt.attempt_number,
            to,
            display_name: &self.attempt.display_name,
            time_zone: &self.attempt.time_zone,
            attributes: &self.attempt.attributes,
            callback_url: &self.shared.callback_url,
            link: &self.attempt.link,
            channel,
        };
        self.shared.api.create(&create, self.events.trace()).await
    }

    /// Looks up whether the platform knows the attempt. A callback for the attempt proves it as
    /// well.
    async fn look_up(&mut self) -> Found {
        for delay in LOOK_UP_DELAYS {
            sleep(delay).await;
            match self.shared.api.find(&self.key).await {
                Found::Known(engagement) => {
                    tokio::spawn(deliver(Arc::clone(self.shared), engagement.events));
                    return Found::Known(Engagement { events: Vec::new() });
                }
                Found::Absent if self.news.is_empty() => return Found::Absent,
                Found::Absent | Found::Unclear => {}
            }
            if !self.news.is_empty() {
                return Found::Known(Engagement { events: Vec::new() });
            }
        }
        Found::Unclear
    }

    /// Returns an end reported while another was decided. From here on the call accepts no events:
    /// the platform must retry, and its events count as those of an earlier call.
    fn told_meanwhile(&mut self) -> Option<CallEnd> {
        self.news.close();
        std::iter::from_fn(|| self.news.try_recv().ok()).find_map(|what| what.end())
    }

    /// Waits for the end of the call.
    async fn follow(&mut self) -> CallEnd {
        let poll_interval = self.shared.poll_interval;
        let mut poll_at = Instant::now() + poll_interval;
        let mut limit = Instant::now() + self.shared.call_limit;
        let mut is_hung_up = false;
        loop {
            let told_to_hang_up = tokio::select! {
                Some(what) = self.news.recv() => {
                    if let Some(end) = what.end() {
                        return end;
                    }
                    if matches!(what, What::Answered) {
                        self.events.answered().await;
                    }
                    poll_at = Instant::now() + poll_interval;
                    false
                }
                () = self.hang_up.cancelled(), if !is_hung_up => true,
                () = sleep_until(limit) => {
                    if is_hung_up {
                        warn!(attempt_id = self.attempt.attempt_id, "a call's end is unknown");
                        return CallEnd::unanswered(Outcome::Unknown);
                    }
                    true
                }
                () = sleep_until(poll_at) => {
                    poll_at = Instant::now() + poll_interval;
                    tokio::spawn(poll(Arc::clone(self.shared), self.key.clone()));
                    false
                }
            };
            if told_to_hang_up {
                is_hung_up = true;
                limit = Instant::now() + END_LIMIT;
                // The call may have ended and its callback been lost.
                poll_at = Instant::now() + END_LIMIT / 3;
                tokio::spawn(hang_up(Arc::clone(self.shared), self.key.clone()));
            }
        }
    }
}

/// Polls the platform for events that no callback has delivered.
async fn poll(shared: Arc<Shared>, key: String) {
    if let Found::Known(engagement) = shared.api.find(&key).await {
        deliver(shared, engagement.events).await;
    }
}

async fn deliver(shared: Arc<Shared>, events: Vec<Event>) {
    for event in events {
        if let Err(status) = shared.deliver(event).await {
            debug!(%status, "a polled event could not be handled");
        }
    }
}

async fn hang_up(shared: Arc<Shared>, key: String) {
    for _ in 0..HANG_UP_ROUNDS {
        if shared.api.hang_up(&key).await {
            return;
        }
        sleep(HANG_UP_DELAY).await;
    }
    warn!(key, "the platform does not accept a hang-up");
}
