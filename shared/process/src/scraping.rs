//! Listener for Prometheus, which reads the metrics.

use crate::connections::{ConnectionLimits, Connections};
use crate::metrics::Counter;
use crate::serving::serve_http;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Media type of OpenMetrics, which Prometheus requests.
const CONTENT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves the text of `render` at `/metrics`, and nothing else, until `stop`.
pub async fn serve_metrics(
    listener: TcpListener,
    limits: ConnectionLimits,
    render: impl Fn() -> String + Send + Sync + 'static,
    stop: CancellationToken,
) {
    let render = Arc::new(render);
    let show = move || async move { ([(CONTENT_TYPE, CONTENT)], render()) };
    let router = Router::new().route("/metrics", get(show));
    let connections = Connections::new(limits, Counter::default());
    // Stops without waiting for open connections, because a scraper keeps its connection open.
    let serving = serve_http(listener, connections, limits.first_request, router, stop.clone());
    tokio::select! {
        () = serving => {}
        () = stop.cancelled() => {}
    }
}
