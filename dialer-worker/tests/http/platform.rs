//! Platform of voice agents, as deploy/openapi/voice-agent.yaml describes it, with faults.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::Listener;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::tls::{Identity, SecureListener};

pub const SECRET: &str = "a secret between the two";

/// Probabilities of faults, each from 0 to 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A request to begin is rejected with 503 before any work is done.
    pub refused: f64,
    /// The call begins, and the answer is lost.
    pub answer_lost: f64,
    /// A look-up is answered with 503.
    pub look_up_failed: f64,
    /// A callback never arrives.
    pub callback_lost: f64,
    /// A callback is repeated.
    pub callback_repeated: f64,
}

/// Record of one attempt.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Number of times the phone rang. More than one is a fault.
    pub rings: u32,
    /// Outcome of the call.
    pub outcome: String,
    pub was_transferred: bool,
    /// Link named in the request.
    pub link: Option<String>,
    pub was_hung_up: bool,
    /// Events so far.
    pub events: Vec<Value>,
}

#[derive(Clone)]
pub struct Platform {
    pub url: String,
    faults: Faults,
    /// Whether calls last until they are hung up.
    waits: bool,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    random: SmallRng,
    known: HashMap<String, Known>,
    /// Keys that were requested and not looked up since.
    asked: HashSet<String>,
    /// Requests to begin that were repeated without a look-up.
    blind_repeats: u32,
    is_down: bool,
    /// Whether look-ups stay without an answer.
    is_silent: bool,
}

impl Platform {
    pub async fn start(faults: Faults, waits: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        Self::serve(url, listener, faults, waits)
    }

    /// Starts a platform over https. Each request needs a connection of its own.
    pub async fn start_secure(identity: &Identity) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("https://{}", listener.local_addr().expect("bound"));
        let listener = SecureListener { listener, identity: identity.clone() };
        Self::serve(url, listener, Faults::default(), false)
    }

    fn serve(
        url: String,
        listener: impl Listener<Addr = SocketAddr>,
        faults: Faults,
        waits: bool,
    ) -> Self {
        let inner = Inner {
            random: SmallRng::seed_from_u64(1),
            known: HashMap::new(),
            asked: HashSet::new(),
            blind_repeats: 0,
            is_down: false,
            is_silent: false,
        };
        let platform = Self { url, faults, waits, inner: Arc::new(Mutex::new(inner)) };
        let router = Router::new()
            .route("/v1/calls", post(create))
            .route("/v1/messages", post(create))
            .route("/v1/calls/{key}", get(find))
            .route("/v1/messages/{key}", get(find))
            .route("/v1/calls/{key}/hang-up", post(hang_up))
            .route("/v1/health", get(health))
            .layer(map_response(without_keep_alive))
            .with_state(platform.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        platform
    }

    pub fn known(&self) -> HashMap<String, Known> {
        self.lock().known.clone()
    }

    /// Returns the number of requests to begin that were repeated without a look-up in between.
    pub fn blind_repeats(&self) -> u32 {
        self.lock().blind_repeats
    }

    pub fn set_down(&self, is_down: bool) {
        self.lock().is_down = is_down;
    }

    pub fn set_silent(&self, is_silent: bool) {
        self.lock().is_silent = is_silent;
    }

    /// Whether any request to begin has had no look-up since.
    pub fn was_asked(&self) -> bool {
        !self.lock().asked.is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic")
    }

    fn happens(&self, odds: f64) -> bool {
        self.lock().random.random_bool(odds)
    }

    /// Records an event of a call and sends its callback.
    fn happen(&self, create: &Value, event: Value) {
        let mut event = event;
        for name in ["key", "contact", "attempt_id"] {
            event[name] = create[name].clone();
        }
        let key = create["key"].as_str().expect("text").to_owned();
        self.lock().known.get_mut(&key).expect("known").events.push(event.clone());
        let url = create["callback_url"].as_str().expect("text").to_owned();
        let times = match (self.happens(self.faults.callback_lost), self.faults.callback_repeated) {
            (true, _) => 0,
            (false, repeated) => 1 + u32::from(self.happens(repeated)),
        };
        for _ in 0..times {
            let delay = self.lock().random.random_range(0..150);
            let (url, event) = (url.clone(), event.clone());
            tokio::spawn(async move {
                sleep(Duration::from_millis(delay)).await;
                tell(&url, &event).await;
            });
        }
    }

    /// Runs a call, with its events in any order.
    async fn call(self, create: Value) {
        let key = create["key"].as_str().expect("text").to_owned();
        let (mut events, delay) = {
            let mut inner = self.lock();
            let outcomes = ["answered", "no_answer", "busy", "voicemail", "failed"];
            let outcome = outcomes[inner.random.random_range(0..outcomes.len())].to_owned();
            let is_answered = outcome == "answered";
            let was_transferred = is_answered && inner.random.random_bool(0.5);
            let known = inner.known.get_mut(&key).expect("known");
            known.outcome.clone_from(&outcome);
            known.was_transferred = was_transferred;
            let mut events =
                vec![json!({"type": "ended", "outcome": outcome, "duration_seconds": 2.5})];
            if is_answered {
                events.push(json!({"type": "answered"}));
                events.push(json!({"type": "something_newer", "more": [1, 2]}));
            }
            if was_transferred {
                events.push(json!({"type": "transferred", "seconds_before_transfer": 70}));
            }
            events.shuffle(&mut inner.random);
            (events, inner.random.random_range(0..200))
        };
        sleep(Duration::from_millis(delay)).await;
        for event in events.drain(..) {
            self.happen(&create, event);
        }
    }
}

async fn create(State(platform): State<Platform>, headers: HeaderMap, body: Bytes) -> Response {
    let create: Value = serde_json::from_slice(&body).expect("JSON");
    let key = create["key"].as_str().expect("a key").to_owned();
    assert_eq!(headers["idempotency-key"], key.as_str());
    {
        let mut inner = platform.lock();
        let is_blind = !inner.asked.insert(key.clone());
        inner.blind_repeats += u32::from(is_blind);
    }
    if platform.lock().is_down || platform.happens(platform.faults.refused) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let is_new = {
        let mut inner = platform.lock();
        let is_new = !inner.known.contains_key(&key);
        let known = inner.known.entry(key.clone()).or_default();
        known.rings += u32::from(is_new);
        known.link = create["link"].as_str().map(str::to_owned);
        is_new
    };
    if is_new && !platform.waits {
        tokio::spawn(platform.clone().call(create));
    } else if is_new {
        platform.happen(&create, json!({"type": "answered"}));
        platform.lock().known.get_mut(&key).expect("known").outcome = create.to_string();
    }
    if platform.happens(platform.faults.answer_lost) {
        // The worker gives up before.
        sleep(Duration::from_secs(60)).await;
    }
    (StatusCode::CREATED, "{}").into_response()
}

async fn find(State(platform): State<Platform>, Path(key): Path<String>) -> Response {
    if platform.lock().is_silent || platform.happens(platform.faults.look_up_failed) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let mut inner = platform.lock();
    inner.asked.remove(&key);
    match inner.known.get(&key) {
        Some(known) => json!({"key": key, "events": known.events}).to_string().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn hang_up(State(platform): State<Platform>, Path(key): Path<String>) -> StatusCode {
    let create = {
        let mut inner = platform.lock();
        let Some(known) = inner.known.get_mut(&key) else { return StatusCode::NOT_FOUND };
        known.was_hung_up = true;
        serde_json::from_str::<Value>(&known.outcome).expect("as kept")
    };
    let end = json!({"type": "ended", "outcome": "answered", "duration_seconds": 1});
    platform.happen(&create, end);
    StatusCode::ACCEPTED
}

/// Closes each connection, so that a change counts for the next request.
async fn without_keep_alive(mut response: Response) -> Response {
    response.headers_mut().insert("connection", HeaderValue::from_static("close"));
    response
}

async fn health(State(platform): State<Platform>) -> StatusCode {
    if platform.lock().is_down { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
}

/// Sends a callback until it is accepted, or rejected for good.
async fn tell(url: &str, event: &Value) {
    let body = event.to_string();
    for _ in 0..20 {
        let status = callback(url, &body, &sign(&body, 0)).await;
        if status.is_success() || status.is_client_error() {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Returns a signature of the given age.
pub fn sign(body: &str, age_seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let time = i64::try_from(now).expect("in time") - age_seconds;
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length");
    mac.update(format!("{time}.{body}").as_bytes());
    let bytes = mac.finalize().into_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={time},v1={hex}")
}

/// Sends one callback.
pub async fn callback(url: &str, body: &str, signature: &str) -> StatusCode {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::post(url)
        .header("x-signature", signature)
        .body(Full::new(Bytes::from(body.to_owned())))
        .expect("a request");
    match client.request(request).await {
        Ok(response) => response.status(),
        Err(_) => StatusCode::BAD_GATEWAY,
    }
}
