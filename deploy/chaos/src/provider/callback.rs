//! Callbacks that notify a worker of events.

use super::log;
use axum::body::Bytes;
use axum::http::Request;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
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

/// Sends a callback, made anew each time, until it is acknowledged or rejected for good. Returns the status of the
/// answer.
pub(super) async fn tell(callback: impl Fn() -> Option<Request<Full<Bytes>>>) -> u16 {
    let mut delay = FIRST_DELAY;
    loop {
        let status = timeout(ANSWER_LIMIT, once(callback())).await.unwrap_or(0);
        if log::is_final(status) {
            return status;
        }
        sleep(delay).await;
        delay = (delay * 2).min(LAST_DELAY);
    }
}

async fn once(callback: Option<Request<Full<Bytes>>>) -> u16 {
    let Some(callback) = callback else { return 0 };
    CLIENT.request(callback).await.map_or(0, |response| response.status().as_u16())
}

/// Returns the HMAC-SHA256 of some text under the secret.
pub(super) fn mac(text: &str) -> Vec<u8> {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()) else {
        return Vec::new();
    };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}
