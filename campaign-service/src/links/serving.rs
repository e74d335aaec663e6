//! Listener that answers clicks on links.

use super::Links;
use crate::app::error::Error;
use crate::app::facts::Facts;
use crate::metrics::Metrics;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use campaign_domain::links::is_person;
use campaign_process::connections::{ConnectionLimits, Connections};
use campaign_process::serving::serve_http;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Longest token that is read, in bytes; a valid token has 43 characters.
const MAX_TOKEN_LENGTH: usize = 100;

#[derive(Clone, Debug)]
struct Shared {
    facts: Arc<Facts>,
    links: Links,
}

/// Answers clicks until `stop`.
pub async fn serve(
    listener: TcpListener,
    limits: ConnectionLimits,
    facts: Arc<Facts>,
    metrics: Arc<Metrics>,
    links: Links,
    stop: CancellationToken,
) {
    let connections = Connections::new(limits, metrics.turned_away("links"));
    let router = Router::new().route("/l/{token}", get(click)).with_state(Shared { facts, links });
    serve_http(listener, connections, limits.first_request, router, stop).await;
}

/// Redirects to the campaign's address and nowhere else. A person's click is recorded first.
async fn click(
    State(shared): State<Shared>,
    method: Method,
    headers: HeaderMap,
    Path(token): Path<String>,
) -> Response {
    let known = if token.len() > MAX_TOKEN_LENGTH { None } else { shared.links.read(&token) };
    let Some((campaign, position)) = known else { return unknown() };
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let is_person = method == Method::GET
        && is_person(header("user-agent"), header("sec-purpose").or(header("purpose")));
    match shared.facts.open_link(campaign, position, is_person).await {
        Ok(url) => {
            let headers = [
                (header::LOCATION, url.as_str()),
                (header::CACHE_CONTROL, "no-store"),
                (header::REFERRER_POLICY, "no-referrer"),
            ];
            (StatusCode::FOUND, headers).into_response()
        }
        Err(Error::NotFound(_)) => unknown(),
        Err(error) => {
            warn!(%campaign, %error, "a click could not be recorded; the person is asked to try again");
            let retry = [(header::RETRY_AFTER, "2")];
            (StatusCode::SERVICE_UNAVAILABLE, retry, "Please try again in a moment.\n")
                .into_response()
        }
    }
}

fn unknown() -> Response {
    (StatusCode::NOT_FOUND, "This link leads nowhere.\n").into_response()
}
