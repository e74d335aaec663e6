//! Platform of voice agents (deploy/openapi/voice-agent.yaml) with faults of its own. Its log only grows and is written
//! before anything is answered or notified. The platform knows nothing but its log after it was killed.

mod callback;
pub mod log;
mod person;

use crate::{Result, now_micros};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
pub use callback::SECRET;
use clap::Parser;
use log::{Create, Entry, Event, Log, What};
use person::Person;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Delay longer than a worker waits for an answer.
const NEVER: Duration = Duration::from_secs(30);
/// Most callbacks under way.
const MAX_TELLING: usize = 2_000;

/// Answers calls as people do, and as platforms do
#[derive(Clone, Debug, Parser)]
pub struct Args {
    /// Address to listen on
    #[arg(long)]
    pub listen: SocketAddr,
    /// Log of events; read at the start, then appended to
    #[arg(long)]
    pub log: PathBuf,
    /// Seed that decides the course of each call
    #[arg(long)]
    pub seed: u64,
    /// Share of requests in which the platform itself fails: it rejects them or forgets to answer, 0 to 1
    #[arg(long, default_value_t = 0.03)]
    pub odds: f64,
}

#[derive(Clone)]
struct Platform {
    seed: u64,
    odds: f64,
    telling: Arc<tokio::sync::Semaphore>,
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

/// Serves until it is killed.
///
/// # Errors
/// When the provider cannot listen, or cannot read or write its log.
pub async fn run(args: Args) -> Result<()> {
    let known = log::read(&args.log)?;
    let inner = Inner {
        // The faults take another course after each start.
        random: SmallRng::seed_from_u64(args.seed ^ known.len() as u64),
        log: Log::append_to(&args.log)?,
        calls: HashMap::new(),
        unsettled: 0,
    };
    let platform = Platform {
        seed: args.seed,
        odds: args.odds,
        telling: Arc::new(tokio::sync::Semaphore::new(MAX_TELLING)),
        inner: Arc::new(Mutex::new(inner)),
    };
    platform.remember(known);
    let router = Router::new()
        .route("/v1/calls", post(create))
        .route("/v1/calls/{key}", get(find))
        .route("/v1/calls/{key}/hang-up", post(hang_up))
        .route("/v1/health", get(|| async { StatusCode::OK }))
        .route("/quiet", get(quiet))
        .with_state(platform);
    let listener = tokio::net::TcpListener::bind(args.listen).await?;
    Ok(axum::serve(listener, router).await?)
}

impl Inner {
    fn ring(&mut self, create: Create, rang_at: i64) {
        let key = create.key.clone();
        let hang_up = CancellationToken::new();
        self.calls.insert(key, Call { create, rang_at, events: Vec::new(), hang_up });
    }
}

impl Platform {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn happens(&self, odds: f64) -> bool {
        self.lock().random.random_bool(odds)
    }

    /// Continues after a kill, from the log.
    fn remember(&self, known: Vec<Entry>) {
        let mut untaken: Vec<Event> = Vec::new();
        for entry in known {
            match entry.what {
                What::Rang(create) => self.lock().ring(create, entry.at),
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
    /// talks on while the platform's program is down, and hangs up at the time already decided.
    async fn live(self, key: String) {
        let person = Person::of(self.seed, &key);
        let (rang_at, hang_up) = match self.lock().calls.get(&key) {
            Some(call) => (call.rang_at, call.hang_up.clone()),
            None => return,
        };
        let mut is_hung_up = false;
        for (after, event) in person.events() {
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
        let (url, delay, times) = {
            let mut inner = self.lock();
            let Some(call) = inner.calls.get(&event.key) else { return };
            let url = call.create.callback_url.clone();
            inner.unsettled += 1;
            let late = inner.random.random_bool(0.04);
            let most = if late { 2_500 } else { 80 };
            let delay = Duration::from_millis(inner.random.random_range(0..most));
            (url, delay, 1 + u32::from(inner.random.random_bool(0.1)))
        };
        let platform = self.clone();
        tokio::spawn(async move {
            sleep(delay).await;
            for _ in 0..times {
                let Ok(turn) = platform.telling.acquire().await else { return };
                let status = callback::tell(&url, &event.body).await;
                drop(turn);
                let (key, kind) = (event.key.clone(), event.kind().to_owned());
                platform.lock().log.write(What::Told { key, kind, status });
            }
            platform.lock().unsettled -= 1;
        });
    }
}

async fn create(State(platform): State<Platform>, body: Bytes) -> Response {
    let Ok(create) = serde_json::from_slice::<Create>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    if platform.happens(platform.odds) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let is_known = platform.lock().calls.contains_key(&create.key);
    if is_known {
        platform.lock().log.write(What::Repeated(create));
    } else {
        let (key, rang_at) = (create.key.clone(), now_micros());
        {
            let mut inner = platform.lock();
            inner.log.write_of(rang_at, What::Rang(create.clone()));
            inner.ring(create, rang_at);
        }
        platform.begin(key);
    }
    if platform.happens(platform.odds) {
        sleep(NEVER).await;
    }
    (StatusCode::CREATED, "{}").into_response()
}

async fn find(State(platform): State<Platform>, Path(key): Path<String>) -> Response {
    if platform.happens(platform.odds) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let inner = platform.lock();
    match inner.calls.get(&key) {
        Some(call) => {
            let events: Vec<_> = call.events.iter().map(|event| &event.body).collect();
            json!({"key": key, "events": events}).to_string().into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn hang_up(State(platform): State<Platform>, Path(key): Path<String>) -> StatusCode {
    let mut inner = platform.lock();
    let Some(call) = inner.calls.get(&key) else { return StatusCode::NOT_FOUND };
    call.hang_up.cancel();
    inner.log.write(What::HungUp { key });
    StatusCode::ACCEPTED
}

/// Answers 200 if every call is over and all events are acknowledged, else 503.
async fn quiet(State(platform): State<Platform>) -> (StatusCode, String) {
    let inner = platform.lock();
    let status =
        if inner.unsettled == 0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{} calls and events not settled, at {}", inner.unsettled, now_micros()))
}
