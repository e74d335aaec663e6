//! Calls of the provider. Its log only grows and is written before anything is answered or notified. The provider knows
//! nothing but its log after it was killed.

use super::args::{Args, Door};
use super::log;
use super::log::{Create, Entry, Event, Log, What};
use super::person::Person;
use crate::{Result, now_micros};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Delay longer than a worker waits for an answer.
const NEVER: Duration = Duration::from_secs(30);
/// Most callbacks under way.
const MAX_TELLING: usize = 2_000;

/// Notifies the worker that asked for a call of an event. Returns the status of its answer.
pub(super) type Tell =
    Box<dyn Fn(Create, Event) -> Pin<Box<dyn Future<Output = u16> + Send>> + Send + Sync>;

#[derive(Clone)]
pub(super) struct Platform {
    door: Door,
    seed: u64,
    odds: f64,
    telling: Arc<tokio::sync::Semaphore>,
    tell: Arc<Tell>,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    random: SmallRng,
    log: Log,
    calls: HashMap<String, Call>,
    /// Calls in which something may still happen, and events not yet acknowledged.
    unsettled: usize,
}

/// Call, by its key.
struct Call {
    create: Create,
    /// Microseconds since 1970.
    rang_at: i64,
    events: Vec<Event>,
    hang_up: CancellationToken,
}

/// Call as a look-up shows it.
pub(super) struct Known {
    pub create: Create,
    /// Microseconds since 1970.
    pub rang_at: i64,
    pub events: Vec<Event>,
}

impl Inner {
    fn note(&mut self, create: Create, rang_at: i64) {
        let key = create.key.clone();
        let hang_up = CancellationToken::new();
        self.calls.insert(key, Call { create, rang_at, events: Vec::new(), hang_up });
    }
}

impl Platform {
    /// Opens the log. Nothing happens before [`Self::remember`].
    pub fn new(args: &Args, tell: Tell) -> Result<Self> {
        let known = log::read(&args.log)?.len();
        let inner = Inner {
            // The faults take another course after each start.
            random: SmallRng::seed_from_u64(args.seed ^ known as u64),
            log: Log::append_to(&args.log)?,
            calls: HashMap::new(),
            unsettled: 0,
        };
        Ok(Self {
            door: args.door,
            seed: args.seed,
            odds: args.odds,
            telling: Arc::new(tokio::sync::Semaphore::new(MAX_TELLING)),
            tell: Arc::new(tell),
            inner: Arc::new(Mutex::new(inner)),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the provider itself fails this request.
    pub fn fails(&self) -> bool {
        self.lock().random.random_bool(self.odds)
    }

    /// Lets the answer to a request wait for ever, sometimes.
    pub async fn forget_to_answer(&self) {
        if self.fails() {
            sleep(NEVER).await;
        }
    }

    /// Rings a phone, unless it rang under this key before.
    pub fn ring_once(&self, create: Create) {
        let is_known = self.lock().calls.contains_key(&create.key);
        if is_known {
            self.lock().log.write(What::Repeated(create));
        } else {
            self.ring(create);
        }
    }

    /// Rings a phone.
    pub fn ring(&self, create: Create) {
        let (key, rang_at) = (create.key.clone(), now_micros());
        {
            let mut inner = self.lock();
            inner.log.write_of(rang_at, What::Rang(create.clone()));
            inner.note(create, rang_at);
        }
        self.begin(key);
    }

    /// Hangs up. Returns whether there is such a call.
    pub fn hang_up(&self, key: &str) -> bool {
        let mut inner = self.lock();
        let Some(call) = inner.calls.get(key) else { return false };
        call.hang_up.cancel();
        inner.log.write(What::HungUp { key: key.to_owned() });
        true
    }

    /// Returns the events of a call, or `None` if there is no such call.
    pub fn events_of(&self, key: &str) -> Option<Vec<Event>> {
        self.lock().calls.get(key).map(|call| call.events.clone())
    }

    /// Returns the calls that meet a condition.
    pub fn calls(&self, is_wanted: impl Fn(&Create) -> bool) -> Vec<Known> {
        let inner = self.lock();
        let wanted = inner.calls.values().filter(|call| is_wanted(&call.create));
        let known = |call: &Call| Known {
            create: call.create.clone(),
            rang_at: call.rang_at,
            events: call.events.clone(),
        };
        wanted.map(known).collect()
    }

    /// Returns how many calls and events are not settled.
    pub fn unsettled(&self) -> usize {
        self.lock().unsettled
    }

    /// Continues after a kill, from the log.
    pub fn remember(&self, known: Vec<Entry>) {
        let mut untaken: Vec<Event> = Vec::new();
        for entry in known {
            match entry.what {
                What::Rang(create) => self.lock().note(create, entry.at),
                What::Happened(event) => {
                    if let Some(call) = self.lock().calls.get_mut(&event.key) {
                        call.events.push(event.clone());
                    }
                    untaken.push(event);
                }
                What::Told { key, kind, status } if log::is_final(status) => {
                    untaken.retain(|event| event.key != key || event.kind() != kind);
                }
                What::HungUp { key } => {
                    if let Some(call) = self.lock().calls.get(&key) {
                        call.hang_up.cancel();
                    }
                }
                What::Repeated(_) | What::Told { .. } => {}
            }
        }
        for event in untaken {
            self.tell(event);
        }
        let open: Vec<String> = {
            let inner = self.lock();
            let is_open = |call: &Call| !call.events.iter().any(Event::is_end);
            inner
                .calls
                .iter()
                .filter(|(_, call)| is_open(call))
                .map(|(key, _)| key.clone())
                .collect()
        };
        for key in open {
            self.begin(key);
        }
    }

    fn begin(&self, key: String) {
        self.lock().unsettled += 1;
        let platform = self.clone();
        tokio::spawn(async move {
            platform.clone().live(key).await;
            // The events of the call are being notified by now.
            platform.lock().unsettled -= 1;
        });
    }

    /// Lives through a call, as the seed and the key decide. Events that happened before are not repeated. The person
    /// talks on while the provider's program is down, and hangs up at the time already decided.
    async fn live(self, key: String) {
        let person = Person::of(self.seed, &key);
        let (rang_at, hang_up) = match self.lock().calls.get(&key) {
            Some(call) => (call.rang_at, call.hang_up.clone()),
            None => return,
        };
        let mut is_hung_up = false;
        for (after, event) in person.events(self.door) {
            let mut at = rang_at.saturating_add(i64::try_from(after.as_micros()).unwrap_or(0));
            let wait = Duration::from_micros(u64::try_from(at - now_micros()).unwrap_or(0));
            if !is_hung_up {
                tokio::select! {
                    () = sleep(wait) => {}
                    () = hang_up.cancelled() => is_hung_up = true,
                }
            }
            at = at.min(now_micros());
            // A person who is hung up on says and does nothing more; the call still ends.
            if is_hung_up && event["type"] != "ended" {
                continue;
            }
            self.happen(&key, event, at);
        }
    }

    /// Notes an event of a call, and notifies the worker.
    fn happen(&self, key: &str, body: serde_json::Value, at: i64) {
        let event = {
            let mut inner = self.lock();
            let Some(call) = inner.calls.get_mut(key) else { return };
            if call.events.iter().any(|event| event.body["type"] == body["type"]) {
                return;
            }
            let mut body = body;
            if self.door == Door::Sip && body["type"] == "ended" && call.hang_up.is_cancelled() {
                let is_answered = call.events.iter().any(|event| event.kind() == "answered");
                body["outcome"] = json!(if is_answered { "answered" } else { "cancelled" });
            }
            body["key"] = json!(key);
            body["contact"] = json!(call.create.contact);
            body["attempt_id"] = json!(call.create.attempt_id);
            let event = Event { key: key.to_owned(), body };
            call.events.push(event.clone());
            inner.log.write_of(at, What::Happened(event.clone()));
            event
        };
        self.tell(event);
    }

    /// Notifies an event until it is acknowledged; sometimes later, sometimes again.
    fn tell(&self, event: Event) {
        let (create, delay, times) = {
            let mut inner = self.lock();
            let Some(call) = inner.calls.get(&event.key) else { return };
            let create = call.create.clone();
            inner.unsettled += 1;
            // A worker whose request had no answer then has only look-ups to go by.
            let is_slow = self.door == Door::Twilio;
            let late = inner.random.random_bool(if is_slow { 0.25 } else { 0.04 });
            let most = if late { 2_500 } else { 80 };
            let delay = Duration::from_millis(inner.random.random_range(0..most));
            (create, delay, 1 + u32::from(inner.random.random_bool(0.1)))
        };
        let platform = self.clone();
        tokio::spawn(async move {
            // Signalling comes in time, and in order.
            if platform.door != Door::Sip {
                sleep(delay).await;
            }
            for _ in 0..times {
                let Ok(turn) = platform.telling.acquire().await else { return };
                let status = (platform.tell)(create.clone(), event.clone()).await;
                drop(turn);
                let (key, kind) = (event.key.clone(), event.kind().to_owned());
                platform.lock().log.write(What::Told { key, kind, status });
            }
            platform.lock().unsettled -= 1;
        });
    }
}
