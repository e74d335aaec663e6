//! State that all calls share, and the events that reach them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use campaign_process::Seldom;
use campaign_process::metrics::Counter;
use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, error};

use super::config::Channel;
use super::events::{End, Event, Named, Of, What, judged};
use super::platform::{Found, InboundText, Platform, Sought, Unclear, Wish};
use super::texts::Texts;
use crate::call::{Attempt, CallEnd, CallEvents, EarlierCalls, Outcome};

/// Most ended calls that are remembered.
const MAX_RECENT_ENDS: usize = 10_000;

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
    /// Callbacks whose signature is not valid. `refusing` limits their log lines.
    pub refused: Counter,
    pub refusing: Seldom,
    /// Limits the log lines on calls that cannot be hung up.
    pub going_on: Seldom,
}

/// Call in progress.
#[derive(Clone)]
pub(super) struct Listed {
    pub named: Named,
    pub news: mpsc::Sender<What>,
    /// Id at the platform, once it is known.
    pub id: Arc<OnceLock<String>>,
    pub is_durable: Durability,
}

/// Most recent calls whose end was reported. A platform repeats a callback soon or not at all.
#[derive(Default)]
pub(super) struct Recent {
    /// Reported end of each call, by key.
    ends: HashMap<String, Reported>,
    in_order: VecDeque<String>,
}

/// End of a call that was reported.
#[derive(Clone)]
struct Reported {
    is_durable: Durability,
    /// Whether a later end of the call corrects it.
    is_provisional: bool,
}

/// Whether an end is durable, once that is decided.
#[derive(Clone)]
pub(super) struct Durability(watch::Receiver<Option<bool>>);

impl Durability {
    /// Completes when the end is durable.
    async fn wait(&mut self) -> Result<(), StatusCode> {
        let settled = self.0.wait_for(Option::is_some).await;
        let is_durable = settled.is_ok_and(|settled| *settled == Some(true));
        if is_durable { Ok(()) } else { Err(StatusCode::SERVICE_UNAVAILABLE) }
    }
}

impl Recent {
    fn insert(&mut self, key: &str, reported: Reported) {
        if self.ends.insert(key.to_owned(), reported).is_none() {
            self.in_order.push_back(key.to_owned());
        }
        if self.in_order.len() > MAX_RECENT_ENDS
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.ends.remove(&oldest);
        }
    }

    /// Takes up the last word on a provisional end. Returns false if another one came first.
    fn correct(&mut self, key: &str, is_durable: Durability) -> bool {
        let end = self.ends.get_mut(key).filter(|end| end.is_provisional);
        let is_first = end.is_some();
        if let Some(end) = end {
            *end = Reported { is_durable, is_provisional: false };
        }
        is_first
    }

    /// Forgets an end that is not durable, so that a repeat is reported.
    fn forget(&mut self, key: &str) {
        self.ends.remove(key);
        self.in_order.retain(|other| other != key);
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
        let is_durable = Durability(is_durable);
        let listed = Listed { named: named.clone(), news: sender, id: Arc::clone(&id), is_durable };
        self.listed().insert(named.key.clone(), listed);
        (news, id)
    }

    /// Removes a call from the list. A repeat of the end that the platform told is not reported
    /// again.
    pub fn delist(&self, key: &str, told: Option<&CallEnd>) {
        let is_durable = self.listed().get(key).map(|call| call.is_durable.clone());
        let known = told.filter(|end| end.outcome != Outcome::Unknown);
        if let Some((end, is_durable)) = known.zip(is_durable) {
            let reported = Reported { is_durable, is_provisional: end.is_provisional };
            self.recent().insert(key, reported);
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
            What::Ended(end) => match in_progress {
                Some(mut call) if call.pass(What::Ended(end.clone())).is_ok() => {
                    call.is_durable.wait().await
                }
                // Between its end and the record of it, a call hears nothing.
                Some(mut call) => {
                    call.is_durable.wait().await?;
                    self.end_again(&named, end).await
                }
                None => self.end_again(&named, end).await,
            },
            What::Over { id } => match in_progress {
                Some(mut call) => {
                    call.pass(What::Over { id })?;
                    call.is_durable.wait().await
                }
                None => match self.reported(&named.key) {
                    Some(mut reported) => reported.is_durable.wait().await,
                    None => self.look_up(named, &id).await,
                },
            },
            what => match in_progress {
                Some(mut call) => match call.pass(what.clone()) {
                    Ok(()) => Ok(()),
                    // Between its end and the record of it, a call hears nothing.
                    Err(_) => {
                        call.is_durable.wait().await?;
                        self.hear_late(&named, what).await
                    }
                },
                None => self.hear_late(&named, what).await,
            },
        }
    }

    /// Handles news of a call that is over, or that another process placed. A judgement on the voice
    /// corrects the end, once there is one.
    async fn hear_late(&self, named: &Named, what: What) -> Result<(), StatusCode> {
        let What::AnsweredBy { is_machine: true, id } = what else { return Ok(()) };
        let is_over = match self.reported(&named.key) {
            Some(mut reported) => reported.is_durable.wait().await.map(|()| true)?,
            None => {
                let whats = self.found(named, &id).await?;
                whats.iter().any(|what| matches!(what, What::Ended(_)))
            }
        };
        if !is_over {
            // The process that follows the call finds the judgement with its end.
            return Ok(());
        }
        self.report_end(named, CallEnd::unanswered(Outcome::Voicemail)).await
    }

    /// Waits for opt-outs by text to be recorded, for the grace at most. Returns how many are not
    /// recorded.
    pub async fn stop(&self, grace: Duration) -> usize {
        match &self.texts {
            Some(texts) => texts.stop(grace).await,
            None => 0,
        }
    }

    /// Handles the end of a call that is over, or that another process placed. A repeat changes
    /// nothing, and the last word corrects a provisional end.
    async fn end_again(self: &Arc<Self>, named: &Named, end: End) -> Result<(), StatusCode> {
        let End { end, shows } = end;
        let Some(mut reported) = self.reported(&named.key) else {
            return self.report_end(named, self.judged_elsewhere(named, end).await).await;
        };
        reported.is_durable.wait().await?;
        let is_news = !matches!(end.outcome, Outcome::Answered | Outcome::Unknown);
        if !reported.is_provisional || !is_news {
            return Ok(());
        }
        let (settle, is_durable) = watch::channel(None);
        if !self.recent().correct(&named.key, Durability(is_durable)) {
            // Another last word came first.
            return match self.reported(&named.key) {
                Some(mut other) => other.is_durable.wait().await,
                None => Err(StatusCode::SERVICE_UNAVAILABLE),
            };
        }
        // The callback may be dropped, and the report must go on.
        let (shared, named) = (Arc::clone(self), named.clone());
        let correcting = tokio::spawn(async move {
            if let Some(earlier) = shared.earlier.get() {
                shows.tell(&earlier.call(&named.contact, &named.attempt_id)).await;
            }
            let recorded = shared.report_end(&named, end).await;
            if recorded.is_err() {
                shared.recent().forget(&named.key);
            }
            settle.send_replace(Some(recorded.is_ok()));
            recorded
        });
        correcting.await.unwrap_or(Err(StatusCode::SERVICE_UNAVAILABLE))
    }

    /// Returns the end of a call that another process placed, with the judgement that the process may
    /// have heard of.
    async fn judged_elsewhere(&self, named: &Named, end: CallEnd) -> CallEnd {
        let is_open = self.platform.manners().judges_apart && end.outcome == Outcome::Answered;
        let Some(id) = end.detail.provider_call_id.as_deref().filter(|_| is_open) else {
            return end;
        };
        let whats = self.found(named, id).await.unwrap_or_default();
        let is_machine =
            whats.iter().any(|what| matches!(what, What::AnsweredBy { is_machine: true, .. }));
        judged(end, is_machine)
    }

    /// Returns everything that the platform knows of a call.
    async fn found(&self, named: &Named, id: &str) -> Result<Vec<What>, StatusCode> {
        let sought = Sought { named, to: "", id: Some(id), begun_at: SystemTime::now() };
        match self.platform.find(&sought).await {
            Found::Known { whats, .. } => Ok(whats),
            Found::Absent | Found::Unclear => Err(StatusCode::SERVICE_UNAVAILABLE),
        }
    }

    /// Looks up how a call ended that another process placed.
    async fn look_up(self: &Arc<Self>, named: Named, id: &str) -> Result<(), StatusCode> {
        let whats = self.found(&named, id).await?;
        if !whats.iter().any(|what| matches!(what, What::Ended(_))) {
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        Box::pin(self.deliver_all(named.events(whats))).await
    }

    async fn report_end(&self, named: &Named, end: CallEnd) -> Result<(), StatusCode> {
        let earlier = self.earlier.get().ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
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

    fn reported(&self, key: &str) -> Option<Reported> {
        self.recent().ends.get(key).cloned()
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
    if !is_durable {
        shared.recent().forget(&key);
    }
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
}

fn durable(is_durable: bool) -> Result<(), StatusCode> {
    // A rejection is final, so the platform need not repeat the callback.
    if is_durable { Ok(()) } else { Err(StatusCode::UNPROCESSABLE_ENTITY) }
}
