//! Serves the connections of a listener, gRPC or HTTP, within limits of size and time.

use crate::connections::{ConnectionLimits, Connections, Peer};
use clap::Args;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::body::Body;
use tower::{Service, ServiceExt};
use tracing::debug;

/// Largest headers of one request, including tokens.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Headers of gRPC, of this project, and of traces.
const KEPT_HEADERS: [&str; 9] = [
    "authorization",
    "content-type",
    "grpc-accept-encoding",
    "grpc-encoding",
    "grpc-timeout",
    "te",
    "traceparent",
    "tracestate",
    "x-request-id",
];
/// Bytes that one connection may send before they are read.
const WINDOW_BYTES: u32 = 256 * 1024;
/// Interval between keep-alive pings, and the time for their answers.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Time for an idle connection to close.
const END_LIMIT: Duration = Duration::from_secs(2);
/// Limits of an HTTP/1 connection: buffered bytes and headers.
const HTTP1_BUFFER_BYTES: usize = 16 * 1024;
const HTTP1_MAX_HEADERS: usize = 64;

/// Limits of listeners beside the API: health, metrics, links, callbacks
#[derive(Args, Clone, Copy, Debug)]
pub struct SideArgs {
    /// Most simultaneous connections to each of the listeners for health, metrics, links and
    /// callbacks; at the limit the oldest gives way, 8 to 10,000
    #[arg(long, env = "CAMPAIGN_SIDE_MAX_CONNECTIONS", default_value_t = 128,
          value_parser = clap::value_parser!(u16).range(8..=10_000))]
    pub side_max_connections: u16,
    /// Seconds that a request to one of these listeners may take, and that a connection may idle,
    /// 1 to 300
    #[arg(long, env = "CAMPAIGN_SIDE_REQUEST_SECONDS", default_value_t = 15,
          value_parser = clap::value_parser!(u16).range(1..=300))]
    pub side_request_seconds: u16,
}

impl SideArgs {
    /// Returns the limits of one listener.
    #[must_use]
    pub fn limits(&self) -> ConnectionLimits {
        let most = usize::from(self.side_max_connections);
        let time = Duration::from_secs(self.side_request_seconds.into());
        ConnectionLimits {
            max_connections: most,
            max_connections_per_address: most,
            max_strangers: most,
            max_streams_per_connection: most,
            max_streams_per_address: most,
            first_request: time,
            idle: time,
        }
    }
}

/// Serves gRPC until `stop`, then finishes open requests. `greet` prepares a connection, for
/// example by a TLS handshake. Methods find the [`Peer`] among a request's extensions. An answer
/// begins within `answer_limit`.
pub async fn serve_grpc<G, F, I, S>(
    listener: TcpListener,
    connections: Arc<Connections>,
    max_requests_per_connection: u32,
    answer_limit: Option<Duration>,
    greet: G,
    service: S,
    stop: CancellationToken,
) where
    G: Fn(TcpStream) -> F,
    F: Future<Output = io::Result<I>> + Send + 'static,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    http2
        .timer(TokioTimer::new())
        .max_concurrent_streams(max_requests_per_connection)
        .max_header_list_size(MAX_HEADER_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    let tasks = TaskTracker::new();
    loop {
        let (stream, guest) = tokio::select! {
            accepted = connections.accept(&listener) => accepted,
            () = stop.cancelled() => break,
        };
        let (greeting, http2, service, stop) =
            (greet(stream), http2.clone(), service.clone(), stop.clone());
        tasks.spawn(async move {
            let peer = guest.peer();
            let greeted = tokio::select! {
                greeted = greeting => greeted,
                () = peer.gives_way() => return,
                () = peer.is_overdue() => return,
            };
            let stream = match greeted {
                Ok(stream) => stream,
                Err(error) => return debug!(%error, "a connection ended before it began"),
            };
            let asks = Arc::clone(peer);
            let answer = service_fn(move |request: Request<Incoming>| {
                answer(Arc::clone(&asks), service.clone(), answer_limit, request)
            });
            drive(http2.serve_connection(TokioIo::new(stream), answer), peer, &stop).await;
        });
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

/// Answers one request. The request counts as open at its peer until the last of the answer was
/// sent.
async fn answer<S>(
    peer: Arc<Peer>,
    service: S,
    limit: Option<Duration>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let mut open = peer.begin();
    let mut request = request.map(Body::new);
    let headers = kept(request.headers());
    *request.headers_mut() = headers;
    open.turn().await;
    request.extensions_mut().insert(Arc::clone(&peer));
    let answering = service.oneshot(request);
    let response = match limit {
        None => answering.await?,
        Some(limit) => match timeout(limit, answering).await {
            Ok(response) => response?,
            Err(_) => Status::deadline_exceeded("the request was not whole in time").into_http(),
        },
    };
    open.answered();
    Ok(response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _held = &open;
            frame
        }))
    }))
}

/// Returns the headers that the project reads. The headers of a waiting request cost memory.
fn kept(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(KEPT_HEADERS.len());
    for name in KEPT_HEADERS {
        for value in headers.get_all(name) {
            kept.append(HeaderName::from_static(name), value.clone());
        }
    }
    kept
}

/// Serves HTTP/1 until `stop`, then finishes open requests. A request, including its body, takes at
/// most `request_limit`.
pub async fn serve_http(
    listener: TcpListener,
    connections: Arc<Connections>,
    request_limit: Duration,
    router: axum::Router,
    stop: CancellationToken,
) {
    let mut http1 = http1::Builder::new();
    http1
        .timer(TokioTimer::new())
        .header_read_timeout(request_limit)
        .max_buf_size(HTTP1_BUFFER_BYTES)
        .max_headers(HTTP1_MAX_HEADERS);
    let tasks = TaskTracker::new();
    loop {
        let (stream, guest) = tokio::select! {
            accepted = connections.accept(&listener) => accepted,
            () = stop.cancelled() => break,
        };
        let (http1, router, stop) = (http1.clone(), router.clone(), stop.clone());
        tasks.spawn(async move {
            let peer = guest.peer();
            let asks = Arc::clone(peer);
            let answer = service_fn(move |request: Request<Incoming>| {
                let (router, mut open) = (router.clone(), asks.begin());
                let mut request = request.map(axum::body::Body::new);
                request.extensions_mut().insert(Arc::clone(&asks));
                async move {
                    let answered = timeout(request_limit, router.oneshot(request)).await;
                    open.answered();
                    match answered {
                        Ok(response) => response,
                        Err(_) => {
                            let mut late = Response::new(axum::body::Body::empty());
                            *late.status_mut() = StatusCode::REQUEST_TIMEOUT;
                            Ok(late)
                        }
                    }
                }
            });
            drive(http1.serve_connection(TokioIo::new(stream), answer), peer, &stop).await;
        });
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

/// Serves a connection until it ends, gives way, is overdue, or the process stops.
async fn drive<C: GracefulConnection>(connection: C, peer: &Peer, stop: &CancellationToken) {
    let mut connection = pin!(connection);
    let is_overdue = tokio::select! {
        _ = connection.as_mut() => return,
        () = peer.gives_way() => return,
        () = peer.is_overdue() => true,
        () = stop.cancelled() => false,
    };
    connection.as_mut().graceful_shutdown();
    let late = async {
        match is_overdue {
            true => sleep(END_LIMIT).await,
            // No limit: the process cuts all connections when it ends.
            false => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = connection => {}
        () = peer.gives_way() => {}
        () = late => {}
    }
}
