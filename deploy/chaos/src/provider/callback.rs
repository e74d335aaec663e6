//! Callbacks that notify a worker of events.

use super::log;
use axum::body::Bytes;
use axum::http::Request;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use sha2::Sha256;
use std::sync::LazyLock;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Secret with which callbacks are signed.
pub const SECRET: &str = "a secret between the two";
/// Longest wait for an answer; more than the worker waits for the service.
const ANSWER_LIMIT: Duration = Duration::from_secs(12);
/// Delays between two tries.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LAST_DELAY: Duration = Duration::from_secs(1);

static CLIENT: LazyLock<Client<HttpConnector, Full<Bytes>>> =
    LazyLock::new(|| Client::builder(TokioExecutor::new()).build_http());

/// Sends an event until it is acknowledged or rejected for good. Returns the status of the answer.
pub(super) async fn tell(url: &str, event: &Value) -> u16 {
    let body = event.to_string();
    let mut delay = FIRST_DELAY;
    loop {
        let status = timeout(ANSWER_LIMIT, once(url, &body)).await.unwrap_or(0);
        if log::is_final(status) {
            return status;
        }
        sleep(delay).await;
        delay = (delay * 2).min(LAST_DELAY);
    }
}

async fn once(url: &str, body: &str) -> u16 {
    let request = Request::post(url)
        .header("x-signature", sign(body))
        .body(Full::new(Bytes::from(body.to_owned())));
    let Ok(request) = request else { return 0 };
    CLIENT.request(request).await.map_or(0, |response| response.status().as_u16())
}

fn sign(body: &str) -> String {
    let seconds = chrono::Utc::now().timestamp();
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()) else {
        return String::new();
    };
    mac.update(format!("{seconds}.{body}").as_bytes());
    let bytes = mac.finalize().into_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={seconds},v1={hex}")
}
