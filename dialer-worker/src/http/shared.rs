//! State that all calls share, and the events that reach them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use campaign_process::Seldom;
use campaign_process::metrics::Counter;
use futures_util::future::{join, join_all};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tracing::{debug, error};

use super::config::Channel;
use super::events::{End, Event, Named, Of, Shows, What};
use super::platform::{InboundText, Platform, Unclear, Wish};
use super::texts::Texts;
use crate::call::{Attempt, CallEnd, CallEvents, EarlierCalls, Outcome};

/// Most ended calls that are remembered.
const MAX_RECENT_ENDS: usize = 10_000;
/// Most ends of calls of other processes that wait for a last word.
const MAX_DELAYED_ENDS: usize = 1_000;

/// State that all calls share.
pub(super) struct Shared {
    pub platform: Box<dyn Platform>,
    pub channel: Channel,
    pub callback_url: String,
    pub poll_interval: Duration,
    pub call_limit: Duration,
    /// Recorder of opt-outs by text, if a campaign is named for them.
    pub texts: Option<Arc<Texts>>,
    /// Channel for calls of an earlier process. Set when the worker begins.
    pub earlier: OnceLock<EarlierCalls>,
    /// Calls in progress, by key.
    pub calls: Mutex<HashMap<String, Listed>>,
    pub ended: Mutex<Recent>,
    /// Ends of calls of other processes that wait for a last word, by key.
    pub delayed: Mutex<HashMap<String, Delayed>>,
    /// Callbacks whose signature is not valid. `refusing` limits their log lines.
    pub refused: Counter,
    pub refusing: Seldom,
    /// Limits the log lines on calls that cannot be hung up.
    pub going_on: Seldom,
}

/// End of another process's call that waits for a last word.
pub(super) struct Delayed {
    named: Named,
    end: End,
    /// Report at the end of that time.
    reporting: AbortHandle,
}

/// Call in progress.
#[derive(Clone)]
pub(super) struct Listed {
    pub named: Named,
    pub news: mpsc::Sender<What>,
    /// Id at the platform, once it is known.
    pub id: Arc<OnceLock<String>>,
    /// Whether the end of the call is durable, once that is decided.
    pub is_durable: watch::Receiver<Option<bool>>,
}

/// Most recent calls whose end was reported. A platform repeats a callback soon or not at all.
#[derive(Default)]
pub(super) struct Recent {
    /// Durability of each call's end, by key.
    ends: HashMap<String, bool>,
    in_order: VecDeque<String>,
}

impl Recent {
    fn begin(&mut self, key: &str) {
        if self.ends.insert(key.to_owned(), false).is_none() {
            self.in_order.push_back(key.to_owned());
        }
        if self.in_order.len() > MAX_RECENT_ENDS
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.ends.remove(&oldest);
        }
    }

    fn finish(&mut self, key: &str, is_durable: bool) {
        let Some(end) = self.ends.get_mut(key) else { return };
        if is_durable {
            *end = true;
        } else {
            self.ends.remove(key);
            self.in_order.retain(|other| other != key);
        }
    }
}

impl Shared {
    /// Returns the address of the contact in this channel, if the contact has one.
    pub fn to<'a>(&self, attempt: &'a Attempt) -> Option<&'a str> {
        match self.channel {
            Channel::Call | Channel::Sms => Some(&attempt.phone_number),
            Channel::Email => attempt.attributes.get("email").map(String::as_str),
        }
    }

    /// Lists a call, until `delist`. Returns its news.
    pub async fn list(
        self: &Arc<Self>,
        named: &Named,
        events: &CallEvents,
        capacity: usize,
    ) -> (mpsc::Receiver<What>, Arc<OnceLock<String>>) {
        let (sender, news) = mpsc::channel(capacity);
        let (durable, is_durable) = watch::channel(None);
        let id = Arc::new(OnceLock::new());
        let when = events.when_end_is_durable().await;
        tokio::spawn(tell_durability(Arc::clone(self), named.key.clone(), when, durable));
        let listed = Listed { named: named.clone(), news: sender, id: Arc::clone(&id), is_durable };
        self.listed().insert(named.key.clone(), listed);
        (news, id)
    }

    /// Removes a call from the list. `is_told` says whether the platform told its end; then a
    /// repeat of that end is not reported again.
    pub fn delist(&self, key: &str, is_told: bool) {
        if is_told {
            self.recent().begin(key);
        }
        self.listed().remove(key);
    }

    /// Handles a text from a person. Completes when its opt-out cannot be lost any more.
    pub async fn hear(&self, text: &InboundText) -> Result<(), StatusCode> {
        match &self.texts {
            Some(texts) => texts.hear(text).await,
            None if text.wish == Wish::Stop => {
                error!(
                    text = text.id,
                    "an opt-out by text is not recorded: name a campaign with --http-text-campaign"
                );
                Err(StatusCode::UNPROCESSABLE_ENTITY)
            }
            None => Ok(()),
        }
    }

    /// Handles events. All are passed on at once, in order, so that none is lost if nobody waits.
    /// Completes when none can be lost any more.
    pub async fn deliver_all(self: &Arc<Self>, events: Vec<Event>) -> Result<(), StatusCode> {
        let delivered = join_all(events.into_iter().map(|event| self.deliver(event))).await;
        delivered.into_iter().collect()
    }

    async fn deliver(self: &Arc<Self>, event: Event) -> Result<(), StatusCode> {
        let earlier = self.earlier.get().ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
        let named = match event.of {
            Of::Attempt(named) => named,
            Of::Call(id) => match self.named(&id).await {
                Ok(Some(named)) => named,
                // The call is of another program with the same account.
                Ok(None) => return Ok(()),
                Err(Unclear) => return Err(StatusCode::SERVICE_UNAVAILABLE),
            },
        };
        let in_progress = self.listed().get(&named.key).cloned();
        match event.what {
            What::Fact(fact) => {
                let call = earlier.call(&named.contact, &named.attempt_id);
                durable(call.report_durably(fact).await)
            }
            What::Ended(end) => match (in_progress, self.durability(&named.key)) {
                (Some(mut call), _) => {
                    let may_change = !end.may_change_for.is_zero();
                    call.pass(What::Ended(end))?;
                    if may_change { Ok(()) } else { call.until_durable().await }
                }
                (None, Some(true)) => Ok(()),
                // The first report of this end is still being handled.
                (None, Some(false)) => Err(StatusCode::SERVICE_UNAVAILABLE),
                (None, None) => self.end_elsewhere(named, end).await,
            },
            what => match in_progress {
                Some(mut call) => match call.pass(what.clone()) {
                    Ok(()) => Ok(()),
                    // Between its end and the record of it, a call hears nothing.
                    Err(_) => {
                        call.until_durable().await?;
                        self.hear_late(&named, what).await
                    }
                },
                None => self.hear_late(&named, what).await,
            },
        }
    }

    /// Handles news of a call that is over, or that another process placed. A judgement on the voice
    /// is the last word on an end that waits for one, and corrects an end that was recorded here.
    async fn hear_late(&self, named: &Named, what: What) -> Result<(), StatusCode> {
        let What::AnsweredBy { is_machine } = what else { return Ok(()) };
        if let Some(Delayed { named, end, .. }) = self.take_delayed(&named.key) {
            return self.report_end(&named, end, Some(is_machine)).await;
        }
        match self.durability(&named.key).filter(|_| is_machine) {
            Some(true) => {
                let end = CallEnd::unanswered(Outcome::Voicemail);
                self.report_end(named, End::last(end, Shows::Nothing), None).await
            }
            Some(false) => Err(StatusCode::SERVICE_UNAVAILABLE),
            None => Ok(()),
        }
    }

    /// Reports the ends that wait for a last word, and waits for opt-outs by text to be recorded, for
    /// the grace at most. Returns how many are not recorded.
    pub async fn stop(&self, grace: Duration) -> usize {
        let keys: Vec<String> = self.delayed().keys().cloned().collect();
        let ends = keys.iter().filter_map(|key| self.take_delayed(key)).collect::<Vec<_>>();
        let reports = join_all(ends.into_iter().map(|delayed| async move {
            self.report_end(&delayed.named, delayed.end, None).await.is_ok()
        }));
        let texts = async {
            match &self.texts {
                Some(texts) => texts.stop(grace).await,
                None => 0,
            }
        };
        let (reported, texts) = join(timeout(grace, reports), texts).await;
        let unreported = match reported {
            Ok(reported) => reported.into_iter().filter(|is_reported| !is_reported).count(),
            Err(_) => keys.len(),
        };
        unreported + texts
    }

    /// Handles the end of a call that another process placed. An end that may change is reported
    /// after that time, unless a last word comes before.
    async fn end_elsewhere(self: &Arc<Self>, named: Named, end: End) -> Result<(), StatusCode> {
        if self.delay(&named, &end) {
            return Ok(());
        }
        self.take_delayed(&named.key);
        self.report_end(&named, end, None).await
    }

    /// Takes an end that waits for a last word, which is then not reported by itself.
    fn take_delayed(&self, key: &str) -> Option<Delayed> {
        let delayed = self.delayed().remove(key)?;
        delayed.reporting.abort();
        Some(delayed)
    }

    /// Delays the report of an end that may change. Returns false if the end has to be reported now.
    fn delay(self: &Arc<Self>, named: &Named, end: &End) -> bool {
        let mut delayed = self.delayed();
        if end.may_change_for.is_zero() || delayed.len() >= MAX_DELAYED_ENDS {
            return false;
        }
        delayed.entry(named.key.clone()).or_insert_with(|| {
            let (shared, key, delay) = (Arc::clone(self), named.key.clone(), end.may_change_for);
            let reporting = async move {
                sleep(delay).await;
                // Taken without an abort: this is the task that reports it.
                let Some(Delayed { named, end, .. }) = shared.delayed().remove(&key) else {
                    return;
                };
                if let Err(status) = shared.report_end(&named, end, None).await {
                    debug!(%status, "the end of an earlier call is not recorded");
                }
            };
            let reporting = tokio::spawn(reporting).abort_handle();
            Delayed { named: named.clone(), end: end.clone(), reporting }
        });
        true
    }

    async fn report_end(
        &self,
        named: &Named,
        end: End,
        is_machine: Option<bool>,
    ) -> Result<(), StatusCode> {
        let earlier = self.earlier.get().ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
        let end = end.judged(is_machine);
        durable(earlier.ended(&named.contact, &named.attempt_id, end).await)
    }

    /// Returns the names of the attempt behind a platform's own id.
    async fn named(&self, id: &str) -> Result<Option<Named>, Unclear> {
        let listed =
            self.listed().values().find(|call| call.has(id)).map(|call| call.named.clone());
        match listed {
            Some(named) => Ok(Some(named)),
            None => self.platform.named(id).await,
        }
    }

    fn durability(&self, key: &str) -> Option<bool> {
        self.recent().ends.get(key).copied()
    }

    fn delayed(&self) -> MutexGuard<'_, HashMap<String, Delayed>> {
        self.delayed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn listed(&self) -> MutexGuard<'_, HashMap<String, Listed>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until the end of a call is durable, and notifies the callbacks that wait for it.
async fn tell_durability(
    shared: Arc<Shared>,
    key: String,
    when: oneshot::Receiver<bool>,
    durable: watch::Sender<Option<bool>>,
) {
    let is_durable = when.await.unwrap_or(false);
    shared.recent().finish(&key, is_durable);
    debug!(key, is_durable, "the end of a call is settled");
    durable.send_replace(Some(is_durable));
}

impl Listed {
    fn has(&self, id: &str) -> bool {
        self.id.get().is_some_and(|own| own == id)
    }

    /// Passes news to the call.
    fn pass(&self, what: What) -> Result<(), StatusCode> {
        self.news.try_send(what).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
    }

    /// Completes when the end of the call is durable.
    async fn until_durable(&mut self) -> Result<(), StatusCode> {
        let settled = self.is_durable.wait_for(Option::is_some).await;
        let is_durable = settled.is_ok_and(|settled| *settled == Some(true));
        if is_durable { Ok(()) } else { Err(StatusCode::SERVICE_UNAVAILABLE) }
    }
}

fn durable(is_durable: bool) -> Result<(), StatusCode> {
    // A rejection is final, so the platform need not repeat the callback.
    if is_durable { Ok(()) } else { Err(StatusCode::UNPROCESSABLE_ENTITY) }
}
