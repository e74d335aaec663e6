//! API of deploy/openapi/voice-agent.yaml.

use super::callback::{mac, tell};
use super::log::{Create, Event};
use super::platform::Platform;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::Full;
use serde_json::json;

pub(super) fn router() -> Router<Platform> {
    Router::new()
        .route("/v1/calls", post(create))
        .route("/v1/calls/{key}", get(find))
        .route("/v1/calls/{key}/hang-up", post(hang_up))
        .route("/v1/health", get(|| async { StatusCode::OK }))
}

/// Notifies the worker that asked for the call. Returns the status of the answer.
pub(super) async fn notify(create: Create, event: Event) -> u16 {
    let body = event.body.to_string();
    tell(|| {
        let request = Request::post(&create.callback_url).header("x-signature", sign(&body));
        request.body(Full::new(Bytes::from(body.clone()))).ok()
    })
    .await
}

fn sign(body: &str) -> String {
    let seconds = chrono::Utc::now().timestamp();
    let bytes = mac(&format!("{seconds}.{body}"));
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={seconds},v1={hex}")
}

async fn create(State(platform): State<Platform>, body: Bytes) -> Response {
    let Ok(create) = serde_json::from_slice::<Create>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    if platform.fails() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    platform.ring_once(create);
    platform.forget_to_answer().await;
    (StatusCode::CREATED, "{}").into_response()
}

async fn find(State(platform): State<Platform>, Path(key): Path<String>) -> Response {
    if platform.fails() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    match platform.events_of(&key) {
        Some(events) => {
            let events: Vec<_> = events.into_iter().map(|event| event.body).collect();
            json!({"key": key, "events": events}).to_string().into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn hang_up(State(platform): State<Platform>, Path(key): Path<String>) -> StatusCode {
    if platform.hang_up(&key) { StatusCode::ACCEPTED } else { StatusCode::NOT_FOUND }
}
