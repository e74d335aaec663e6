//! Observation of every call: its count, duration, code and trace, and the request id that its logs share.

use super::around::{Calling, Middleware};
use super::methods::{Kind, Method};
use crate::metrics::Metrics;
use campaign_process::traces::{self, SpanKind, TraceContext};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tower::Service;
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};
use uuid::Uuid;

/// Header with the request id, in the request and in the answer.
const REQUEST_ID: &str = "x-request-id";
/// Lengths of a caller's request id, longer than any phone number. Phone numbers must not get into logs.
const REQUEST_ID_LENGTHS: std::ops::RangeInclusive<usize> = 16..=64;
/// Names of gRPC codes, indexed by number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Codes of failures of the service, not of the caller.
const FAILURES: [&str; 6] =
    ["UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"];

/// Returns the labels of a method in metrics.
fn labels(method: &Method) -> [(&'static str, &'static str); 2] {
    let (service, name) = method.names();
    [("service", service), ("method", name)]
}

/// Call that is counted when it ends. Its span in the trace ends at the same time.
struct Counting {
    metrics: Arc<Metrics>,
    method: &'static Method,
    started: Instant,
    /// gRPC code; `None`: the caller left before the answer.
    code: Option<&'static str>,
    trace: traces::Span,
}

impl Counting {
    fn begin(metrics: &Arc<Metrics>, method: &'static Method, headers: &HeaderMap) -> Self {
        metrics.requests.in_progress.get_or_create(&labels(method)).inc();
        let trace = match method.kind {
            Kind::Request | Kind::Stream => traces::begin(
                method.full_name(),
                SpanKind::Server,
                &TraceContext::of_headers(headers),
            ),
            Kind::Exempt => traces::Span::default(),
        };
        let metrics = Arc::clone(metrics);
        Self { metrics, method, started: Instant::now(), code: None, trace }
    }

    /// Takes the code from `headers`, if they have one.
    fn look_at(&mut self, headers: &HeaderMap) {
        let Some(number) = headers.get("grpc-status") else { return };
        let number = number.to_str().ok().and_then(|text| text.parse::<usize>().ok());
        self.code = Some(number.and_then(|number| CODES.get(number)).unwrap_or(&"UNKNOWN"));
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        let labels = labels(self.method);
        let code = self.code.unwrap_or("CANCELLED");
        self.trace.set("rpc.system.name", "grpc");
        self.trace.set("rpc.response.status_code", code);
        if FAILURES.contains(&code) {
            self.trace.fail();
        }
        let code = ("code", code);
        self.metrics.requests.in_progress.get_or_create(&labels).dec();
        self.metrics.requests.ended.get_or_create(&[labels[0], labels[1], code]).inc();
        // Durations of streams, health checks and reflection are not meaningful.
        if self.method.kind == Kind::Request {
            let taken = self.started.elapsed().as_secs_f64();
            self.metrics.requests.duration.get_or_create(&labels).observe(taken);
        }
    }
}

/// Returns the caller's request id, if it is fit for logs; otherwise a new one.
fn request_id(headers: &HeaderMap) -> String {
    let is_fit = |text: &&str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        REQUEST_ID_LENGTHS.contains(&text.len()) && text.bytes().all(fits)
    };
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(is_fit);
    given.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned)
}

/// Returns the span that the logs of a call share.
fn span(method: &Method, id: &str, trace: &TraceContext) -> Span {
    let span = match method.kind {
        // The campaign is recorded once it is known.
        Kind::Request => {
            let (_, name) = method.names();
            info_span!(
                "request",
                method = name,
                request_id = id,
                campaign = Empty,
                trace_id = Empty
            )
        }
        // A stream may concern many campaigns, one after the other.
        Kind::Stream => {
            info_span!("stream", method = method.names().1, request_id = id, trace_id = Empty)
        }
        Kind::Exempt => Span::none(),
    };
    if let Some(trace_id) = trace.trace_id() {
        span.record("trace_id", trace_id);
    }
    span
}

/// Layer that observes calls. The layer surrounds all other layers, so that it sees rejected calls too.
#[derive(Clone, Debug)]
pub struct Observe(pub Arc<Metrics>);

impl Middleware for Observe {
    fn call<S>(&self, inner: &mut S, mut request: Request<Body>) -> Calling<S::Error>
    where
        S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Send + 'static,
    {
        let method = Method::at(request.uri().path());
        let id = request_id(request.headers());
        let mut counting = Counting::begin(&self.0, method, request.headers());
        let trace = counting.trace.context();
        let span = span(method, &id, trace);
        if trace.is_sampled() {
            request.extensions_mut().insert(trace.clone());
        }
        let answer = span.in_scope(|| inner.call(request));
        let in_span = span.clone();
        async move {
            let mut response = answer.await?;
            counting.look_at(response.headers());
            // An id has only characters that a header permits.
            if let Ok(id) = HeaderValue::from_str(&id) {
                response.headers_mut().insert(REQUEST_ID, id);
            }
            Ok(response.map(|body| Body::new(ObservedBody { body, counting, span })))
        }
        .instrument(in_span)
        .boxed()
    }
}

/// Body of an answer, observed until its end.
struct ObservedBody {
    body: Body,
    counting: Counting,
    span: Span,
}

impl HttpBody for ObservedBody {
    type Data = <Body as HttpBody>::Data;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        let Self { body, counting, span } = &mut *self;
        let frame = span.in_scope(|| Pin::new(body).poll_frame(context));
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            counting.look_at(trailers);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    #[test]
    fn only_known_methods_are_named() {
        let method = Method::at("/campaign.v1.DispatchService/Dispatch");
        assert_eq!(method.names(), ("campaign.v1.DispatchService", "Dispatch"));
        for path in ["", "/", "/campaign.v1.DispatchService/+12015550147", "/a/b/c"] {
            assert_eq!(Method::at(path).names().1, "other", "{path}");
        }
    }

    #[test]
    fn a_callers_id_is_kept_if_it_may_be_shown() {
        let id = |text: &str| {
            let value = HeaderValue::from_str(text).expect("a header");
            request_id(&HeaderMap::from_iter([(HeaderName::from_static(REQUEST_ID), value)]))
        };
        for fit in ["0193c1d2-aaaa-7bbb-8ccc-0123456789ab", "order_17.attempt-2"] {
            assert_eq!(id(fit), fit);
        }
        for unfit in ["12015550147", "+1201555014712345", "Xaverine Quintessa", &"a".repeat(65)] {
            assert_ne!(id(unfit), *unfit);
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
