//! Twilio's API for calls, as far as a worker uses it. Nothing makes a repeated request safe: each one rings a phone.

use super::callback::{mac, tell};
use super::log::{Create, Event};
use super::platform::{Known, Platform};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::DateTime;
use form_urlencoded::{Serializer, parse};
use http_body_util::Full;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Account that the workers use.
pub const ACCOUNT: &str = "AC00000000000000000000000000000000";
const CALLS: &str = "/2010-04-01/Accounts/{account}/Calls.json";
const CALL: &str = "/2010-04-01/Accounts/{account}/Calls/{call}";

pub(super) fn router() -> Router<Platform> {
    Router::new()
        .route(CALLS, get(list).post(create))
        .route(CALL, get(find).post(hang_up))
        .route("/2010-04-01/Accounts/{account}", get(account))
}

fn form(body: &[u8]) -> BTreeMap<String, String> {
    parse(body).into_owned().collect()
}

/// Returns Twilio's id of a call.
fn sid(key: &str) -> String {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    format!("CA{:032x}", hasher.finish())
}

/// Returns Twilio's name of what happened last in a call, and the parameters that go with it.
fn state(events: &[Event]) -> (&'static str, BTreeMap<&'static str, String>) {
    let mut more = BTreeMap::new();
    let end = events.iter().find(|event| event.is_end());
    let status = match end.and_then(|end| end.body["outcome"].as_str()) {
        Some("answered") => {
            more.insert("CallDuration", "2".to_owned());
            "completed"
        }
        Some("busy") => "busy",
        Some("no_answer") => "no-answer",
        Some(outcome) => {
            let code = match outcome {
                "invalid_number" => Some("404"),
                "congested" => Some("503"),
                "rejected" => Some("607"),
                _ => None,
            };
            more.extend(code.map(|code| ("SipResponseCode", code.to_owned())));
            "failed"
        }
        None if events.iter().any(|event| event.kind() == "answered") => "in-progress",
        None => "ringing",
    };
    if events.iter().any(|event| event.kind() == "machine") {
        more.insert("AnsweredBy", "machine_start".to_owned());
    }
    (status, more)
}

/// Notifies the worker that asked for the call. Returns the status of the answer.
pub(super) async fn notify(create: Create, event: Event) -> u16 {
    let (status, mut form) = state(std::slice::from_ref(&event));
    form.insert("CallSid", sid(&create.key));
    form.insert("AccountSid", ACCOUNT.to_owned());
    form.insert("To", create.to.clone());
    // A verdict on the voice says nothing of the call's state.
    if event.kind() != "machine" {
        form.insert("CallStatus", status.to_owned());
    }
    let signed: String = form.iter().flat_map(|(name, value)| [*name, value.as_str()]).collect();
    let signature = BASE64_STANDARD.encode(mac(&format!("{}{signed}", create.callback_url)));
    let body = Serializer::new(String::new()).extend_pairs(&form).finish();
    tell(|| {
        Request::post(&create.callback_url)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("x-twilio-webhooks-signature-settings", "algorithm=HMAC_SHA256")
            .header("x-twilio-signature", &signature)
            .body(Full::new(Bytes::from(body.clone())))
            .ok()
    })
    .await
}

/// Returns the request to call somebody. The worker's callback names the contact and the attempt.
fn read(form: &BTreeMap<String, String>) -> Option<Create> {
    let callback_url = form.get("StatusCallback")?;
    let (_, query) = callback_url.split_once('?')?;
    let names = self::form(query.as_bytes());
    let (contact, attempt_id) = (names.get("contact")?, names.get("attempt")?);
    let campaign = contact.split('/').nth(1)?;
    Some(Create {
        key: format!("{campaign}.{attempt_id}"),
        contact: contact.clone(),
        attempt_id: attempt_id.clone(),
        to: form.get("To")?.clone(),
        callback_url: callback_url.clone(),
    })
}

fn shown(call: &Known) -> Value {
    let (status, more) = state(&call.events);
    let created = DateTime::from_timestamp_micros(call.rang_at).unwrap_or_default();
    json!({
        "sid": sid(&call.create.key),
        "status": status,
        "to": call.create.to,
        "duration": more.get("CallDuration"),
        "answered_by": more.get("AnsweredBy"),
        "date_created": created.to_rfc2822(),
    })
}

async fn create(State(platform): State<Platform>, body: Bytes) -> Response {
    let Some(create) = read(&form(&body)) else { return StatusCode::BAD_REQUEST.into_response() };
    if platform.fails() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let made = json!({"sid": sid(&create.key), "status": "queued"});
    platform.ring(create);
    platform.forget_to_answer().await;
    (StatusCode::CREATED, made.to_string()).into_response()
}

/// Lists the calls to a number, newest first.
async fn list(State(platform): State<Platform>, RawQuery(query): RawQuery) -> Response {
    if platform.fails() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let asked = form(query.unwrap_or_default().as_bytes());
    let mut calls = platform.calls(|create| asked.get("To") == Some(&create.to));
    calls.sort_by_key(|call| std::cmp::Reverse(call.rang_at));
    let calls: Vec<Value> = calls.iter().map(shown).collect();
    json!({ "calls": calls }).to_string().into_response()
}

fn called(platform: &Platform, call: &str) -> Option<Known> {
    let asked = call.trim_end_matches(".json");
    platform.calls(|create| sid(&create.key) == asked).pop()
}

async fn find(
    State(platform): State<Platform>,
    Path((_, call)): Path<(String, String)>,
) -> Response {
    if platform.fails() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    match called(&platform, &call) {
        Some(call) => shown(&call).to_string().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn hang_up(
    State(platform): State<Platform>,
    Path((_, call)): Path<(String, String)>,
) -> Response {
    match called(&platform, &call) {
        Some(call) if platform.hang_up(&call.create.key) => {
            shown(&call).to_string().into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn account() -> Response {
    json!({"sid": ACCOUNT, "status": "active"}).to_string().into_response()
}
