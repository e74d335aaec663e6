//! Platform in Python (`peers`), with the vendor's own library, and a worker that calls through it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use axum::body::Bytes;
use campaign_proto::v1::CallOutcome;
use campaign_proto::v1::interaction::Fact;
use campaign_testkit::{Program, free_address};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use crate::fake::outcome;
use crate::service::{CallingWorker, Reported, is_provisional};

/// Key and secret at every platform.
pub const KEY: &str = "key_of_the_platform_0123";
/// Number that calls.
pub const FROM: &str = "+15550009999";

/// Platform in Python.
pub struct Peer {
    pub url: String,
    _process: Program,
}

impl Peer {
    /// Starts `peers/{name}.py`.
    pub fn start(name: &str) -> Self {
        let packages = std::env::var("CAMPAIGN_PLATFORMS_PYTHONPATH").expect(
            "CAMPAIGN_PLATFORMS_PYTHONPATH is not set: run `make test`, or eval \"$(python3 deploy/local/tools.py)\"",
        );
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/http/peers").join(name);
        let mut command = Command::new("python3");
        command
            .arg(file.with_extension("py"))
            .env("PYTHONPATH", packages)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Program::start(&mut command).expect("python3");
        let mut line = String::new();
        let stdout = process.take_stdout().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("its port");
        let port: u16 = line.trim().parse().expect("its port; see its error above");
        Self { url: format!("http://127.0.0.1:{port}"), _process: process }
    }

    pub async fn set(&self, settings: Value, plans: Value) {
        self.control("/_/set", json!({"settings": settings, "plans": plans})).await;
    }

    /// Lets the platform do something. Returns its answer.
    pub async fn act(&self, command: Value) -> Value {
        self.control("/_/do", command).await
    }

    pub async fn state(&self) -> Value {
        self.control("/_/state", json!({})).await
    }

    /// Returns the calls that it knows.
    pub async fn calls(&self) -> Vec<Value> {
        self.state().await["calls"].as_array().expect("calls").clone()
    }

    async fn control(&self, path: &str, body: Value) -> Value {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let body = Full::new(Bytes::from(body.to_string()));
        let request = Request::post(format!("{}{path}", self.url)).body(body).expect("a request");
        let response = client.request(request).await.expect("an answer");
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        serde_json::from_slice(&body).expect("JSON")
    }
}

/// Starts a worker that calls through a platform. The platform is told where callbacks go.
pub async fn worker(peer: &Peer, flavor: &str, flags: &[&str], plans: Value) -> CallingWorker {
    let address = free_address().to_string();
    let own = [
        "--provider",
        "http",
        "--http-flavor",
        flavor,
        "--http-url",
        &peer.url,
        "--http-api-key",
        KEY,
        "--http-callback-secret",
        KEY,
        "--http-callback-listen",
        &address,
        "--http-from",
        FROM,
        "--http-response-limit-seconds",
        "1",
        "--http-poll-seconds",
        "1",
    ];
    let callback = format!("http://{address}/callbacks");
    peer.set(json!({"key": KEY, "secret": KEY, "callback": callback}), plans).await;
    CallingWorker::start(&[&own, flags].concat()).await
}

/// Dials slots, and returns everything reported until each has its end.
pub async fn dial(worker: &mut CallingWorker, lease: u32, slots: &[i32]) -> Reported {
    worker.stream.lease_slots(lease, slots.iter().copied()).await;
    let mut reported = Reported::default();
    while reported.ends.len() < slots.len() {
        worker.note_next(&mut reported).await;
    }
    reported
}

/// Notes reports until the platform's last word on some ends has come.
pub async fn until_last_word(
    worker: &mut CallingWorker,
    reported: &mut Reported,
    attempts: &[&str],
) {
    while attempts.iter().any(|attempt| reported.ends.get(*attempt).is_none_or(is_provisional)) {
        worker.note_next(reported).await;
    }
}

/// Returns the reported outcomes, by slot.
pub fn outcomes(reported: &Reported) -> BTreeMap<i32, CallOutcome> {
    let slot = |attempt: &str| attempt.rsplit('-').next().expect("a slot").parse().expect("a slot");
    let ends = reported.ends.iter();
    ends.map(|(attempt, end)| (slot(attempt), outcome(end).expect("an end"))).collect()
}

/// Returns the names of reported facts, as `slot kind`.
pub fn facts(reported: &Reported) -> Vec<String> {
    let mut facts: Vec<_> = reported
        .facts
        .iter()
        .map(|fact| {
            let slot = fact.attempt_id.rsplit('-').next().expect("a slot");
            let kind = match fact.fact.as_ref().expect("a fact") {
                Fact::Transferred(_) => "transferred",
                Fact::OptedOut(told) if told.everywhere => "opted out everywhere",
                Fact::OptedOut(_) => "opted out",
                Fact::Success(_) => "success",
                Fact::TextSent(_) => "text sent",
                _ => "other",
            };
            format!("{slot} {kind}")
        })
        .collect();
    facts.sort();
    facts.dedup();
    facts
}
