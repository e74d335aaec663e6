//! Callbacks: the listener for events from the platform.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Extension, Router};
use campaign_process::connections::{ConnectionLimits, Connections, Peer};
use campaign_process::serving::serve_http;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::api::Event;
use super::shared::Shared;
use super::signature::{self, Refused};

/// Path of the callbacks.
pub(super) const PATH: &str = "/callbacks";
/// Largest callback.
const MAX_BODY_BYTES: usize = 64 << 10;
/// Longest names accepted.
const MAX_NAME_CHARACTERS: usize = 200;
/// Longest time that a callback waits for the service to have its event.
const DURABLE_LIMIT: Duration = Duration::from_secs(10);

/// Listens in the background as long as the process runs.
pub(super) fn listen(
    shared: Arc<Shared>,
    listener: TcpListener,
    connections: Arc<Connections>,
    limits: ConnectionLimits,
) {
    let router = Router::new()
        .route(PATH, post(take))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(shared);
    // Limit for the request to arrive and for its answer.
    let limit = limits.first_request + DURABLE_LIMIT;
    tokio::spawn(serve_http(listener, connections, limit, router, CancellationToken::new()));
}

async fn take(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Arc<Peer>>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    if let Err(refused) = check(&shared, &headers, &body) {
        shared.refused.inc();
        if let Some(left_out) = shared.refusing.may_say() {
            warn!(%refused, left_out, "a callback is refused");
        }
        return StatusCode::UNAUTHORIZED;
    }
    peer.note_known();
    let event: Event = match serde_json::from_slice(&body) {
        Ok(event) => event,
        Err(error) => {
            warn!(%error, "a callback cannot be parsed");
            return StatusCode::BAD_REQUEST;
        }
    };
    if !is_well_named(&event) {
        return StatusCode::BAD_REQUEST;
    }
    match timeout(DURABLE_LIMIT, shared.deliver(event)).await {
        Ok(Ok(())) => StatusCode::NO_CONTENT,
        Ok(Err(status)) => status,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn check(shared: &Shared, headers: &HeaderMap, body: &[u8]) -> Result<(), Refused> {
    let header = headers.get(signature::HEADER).and_then(|value| value.to_str().ok());
    shared.verifier.check(header.ok_or(Refused::Malformed)?, body, SystemTime::now())
}

fn is_well_named(event: &Event) -> bool {
    let names = [&event.key, &event.contact, &event.attempt_id];
    names.iter().all(|name| (1..=MAX_NAME_CHARACTERS).contains(&name.len()))
}
