//! Callbacks: the listener for events from the platform.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::post;
use axum::{Extension, Router};
use campaign_process::connections::{ConnectionLimits, Connections, Peer};
use campaign_process::serving::serve_http;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::platform::{Callback, Told};
use super::shared::Shared;

/// Path of the callbacks.
pub(super) const PATH: &str = "/callbacks";
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
        .layer(DefaultBodyLimit::max(shared.platform.manners().max_callback_bytes))
        .with_state(shared);
    // Limit for the request to arrive and for its answer.
    let limit = limits.first_request + DURABLE_LIMIT;
    tokio::spawn(serve_http(listener, connections, limit, router, CancellationToken::new()));
}

async fn take(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Arc<Peer>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let query = uri.query().unwrap_or_default();
    let url = match query {
        "" => shared.callback_url.clone(),
        query => format!("{}?{query}", shared.callback_url),
    };
    let callback = Callback { url: &url, query, headers: &headers, body: &body };
    if let Err(refused) = shared.platform.check(&callback, SystemTime::now()) {
        shared.refused.inc();
        if let Some(left_out) = shared.refusing.may_say() {
            warn!(%refused, left_out, "a callback is refused");
        }
        return StatusCode::UNAUTHORIZED;
    }
    peer.note_known();
    let told = match shared.platform.read(&callback) {
        Ok(told) => told,
        Err(why) => {
            warn!(%why, "a callback cannot be read");
            return StatusCode::BAD_REQUEST;
        }
    };
    let handled = async {
        match told {
            Told::Events(events) => shared.deliver_all(events).await,
            Told::Text(text) => shared.hear(&text).await,
        }
    };
    match timeout(DURABLE_LIMIT, handled).await {
        Ok(Ok(())) => StatusCode::NO_CONTENT,
        Ok(Err(status)) => status,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
