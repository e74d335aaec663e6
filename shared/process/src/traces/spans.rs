//! Spans and their trace context.

use super::TRACER;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{
    Link, Span as _, SpanContext, SpanKind, Status, TraceContextExt, Tracer,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::Span as SdkSpan;
use tonic::codegen::http::HeaderMap;
use tonic::metadata::MetadataValue;

const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";
/// Longest traceparent accepted. The current version has 55 characters.
const MAX_PARENT_LENGTH: usize = 128;
/// Longest tracestate passed on. A longer one is left out.
const MAX_STATE_LENGTH: usize = 512;

/// Trace context: the span that caused something, in this process or another. Empty if nothing is
/// traced.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext(SpanContext);

impl Default for TraceContext {
    fn default() -> Self {
        Self(SpanContext::NONE)
    }
}

/// Trace context as headers carry it.
#[derive(Default)]
struct Told {
    parent: String,
    state: String,
}

impl Extractor for Told {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            PARENT => Some(&self.parent),
            STATE => Some(&self.state),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![PARENT, STATE]
    }
}

impl Injector for Told {
    fn set(&mut self, key: &str, value: String) {
        match key {
            PARENT => self.parent = value,
            STATE => self.state = value,
            _ => {}
        }
    }
}

impl TraceContext {
    /// Returns the context in a caller's headers. It is empty if this process does not trace.
    #[must_use]
    pub fn of_headers(headers: &HeaderMap) -> Self {
        if TRACER.get().is_none() {
            return Self::default();
        }
        let parent = headers.get(PARENT).and_then(|value| value.to_str().ok());
        let Some(parent) = parent else { return Self::default() };
        // All states are passed on.
        let states = headers.get_all(STATE).iter().filter_map(|value| value.to_str().ok());
        Self::parse(parent, states.collect::<Vec<_>>().join(","))
    }

    /// Returns the context in a message. It is empty if this process does not trace.
    #[must_use]
    pub fn of_traceparent(traceparent: &str) -> Self {
        if TRACER.get().is_none() {
            return Self::default();
        }
        Self::parse(traceparent, String::new())
    }

    fn parse(parent: &str, mut state: String) -> Self {
        if parent.is_empty() || parent.len() > MAX_PARENT_LENGTH {
            return Self::default();
        }
        if state.len() > MAX_STATE_LENGTH {
            state.clear();
        }
        let told = Told { parent: parent.to_owned(), state };
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &told);
        Self(context.span().span_context().clone())
    }

    fn told(&self) -> Told {
        let mut told = Told::default();
        if self.0.is_valid() {
            let context = Context::new().with_remote_span_context(self.0.clone());
            TraceContextPropagator::new().inject_context(&context, &mut told);
        }
        told
    }

    /// Whether the context's trace is recorded.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.0.is_sampled()
    }

    /// Returns the traceparent for a message. It is empty without a context.
    #[must_use]
    pub fn traceparent(&self) -> String {
        self.told().parent
    }

    /// Returns the traceparents for a message about several things: each recorded context, once.
    pub fn traceparents<'a>(contexts: impl IntoIterator<Item = &'a Self>) -> Vec<String> {
        let mut told: Vec<String> =
            contexts.into_iter().filter(|one| one.is_sampled()).map(Self::traceparent).collect();
        told.sort_unstable();
        told.dedup();
        told
    }

    /// Returns the trace id for logs, if the trace is recorded.
    #[must_use]
    pub fn trace_id(&self) -> Option<String> {
        self.is_sampled().then(|| self.0.trace_id().to_string())
    }

    /// Wraps a message in a request that carries the context.
    pub fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        let Told { parent, state } = self.told();
        for (key, value) in [(PARENT, parent), (STATE, state)] {
            if let Some(value) =
                MetadataValue::try_from(value).ok().filter(|value| !value.is_empty())
            {
                request.metadata_mut().insert(key, value);
            }
        }
        request
    }
}

/// Unit of work, traced or not. It ends when dropped.
#[derive(Debug, Default)]
pub struct Span {
    context: TraceContext,
    /// Recorded span, if the work is traced.
    recording: Option<Box<SdkSpan>>,
}

/// Begins a span in the trace of `cause`. Without a cause, a new trace may begin.
#[must_use]
pub fn begin(name: &'static str, kind: SpanKind, cause: &TraceContext) -> Span {
    begin_linked(name, kind, cause, &[])
}

/// Begins a span as [`begin`] does, with links to related work in other traces.
#[must_use]
pub fn begin_linked(
    name: &'static str,
    kind: SpanKind,
    cause: &TraceContext,
    links: &[TraceContext],
) -> Span {
    let Some(tracer) = TRACER.get() else { return Span::default() };
    let links = links.iter().filter(|link| link.is_sampled());
    let links: Vec<Link> = links.map(|link| Link::with_context(link.0.clone())).collect();
    let mut builder = tracer.span_builder(name).with_kind(kind);
    if !links.is_empty() {
        builder = builder.with_links(links);
    }
    let mut parent = Context::new();
    if cause.0.is_valid() {
        parent = parent.with_remote_span_context(cause.0.clone());
    }
    let span = builder.start_with_context(tracer, &parent);
    let context = TraceContext(span.span_context().clone());
    Span { context, recording: span.is_recording().then(|| Box::new(span)) }
}

/// Begins the span of work done for several things. It joins the first recorded trace among the
/// first `most` traceparents and links to the others. If none is recorded, neither is the span.
#[must_use]
pub fn begin_for(name: &'static str, kind: SpanKind, traceparents: &[String], most: usize) -> Span {
    let causes: Vec<TraceContext> = traceparents
        .iter()
        .take(most)
        .map(|told| TraceContext::of_traceparent(told))
        .filter(TraceContext::is_sampled)
        .collect();
    match causes.split_first() {
        Some((first, others)) => begin_linked(name, kind, first, others),
        None => Span::default(),
    }
}

impl Span {
    /// Returns the context for work that this span causes.
    #[must_use]
    pub fn context(&self) -> &TraceContext {
        &self.context
    }

    /// Records a number, or a word of the program.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.recording {
            span.set_attribute(KeyValue::new(key, value));
        }
    }

    /// Records a count.
    pub fn set_count(&mut self, key: &'static str, count: usize) {
        self.set(key, i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Records the name of a campaign or an attempt.
    pub fn set_name(&mut self, key: &'static str, name: &str) {
        if self.recording.is_some() {
            self.set(key, name.to_owned());
        }
    }

    /// Marks the work as failed.
    pub fn fail(&mut self) {
        if let Some(span) = &mut self.recording {
            span.set_status(Status::error(""));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_was_told_goes_on_as_it_was() {
        let context = TraceContext::parse(GIVEN, "vendor=opaque".to_owned());
        assert!(context.is_sampled());
        assert_eq!(context.trace_id().as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
        let request = context.request(());
        assert_eq!(request.metadata().get(PARENT).expect("a parent"), GIVEN);
        assert_eq!(request.metadata().get(STATE).expect("a state"), "vendor=opaque");
        let long = TraceContext::parse(GIVEN, format!("vendor={}", "x".repeat(MAX_STATE_LENGTH)));
        assert_eq!(long, TraceContext::parse(GIVEN, String::new()));
    }

    #[test]
    fn what_is_no_context_is_none_and_goes_nowhere() {
        let zeros = format!("00-{}-b7ad6b7169203331-01", "0".repeat(32));
        let long = format!("{GIVEN}{}", "-00".repeat(40));
        for wrong in ["", "no context", &GIVEN.to_uppercase(), &zeros, &long] {
            let context = TraceContext::parse(wrong, String::new());
            assert_eq!(context, TraceContext::default(), "{wrong}");
            assert!(context.request(()).metadata().is_empty(), "{wrong}");
            assert!(context.traceparent().is_empty(), "{wrong}");
        }
    }

    #[test]
    fn of_several_only_those_that_are_traced_are_told_each_once() {
        let traced = TraceContext::parse(GIVEN, String::new());
        let untraced = TraceContext::parse(&GIVEN.replace("-01", "-00"), String::new());
        let all = [&traced, &untraced, &TraceContext::default(), &traced];
        assert_eq!(TraceContext::traceparents(all), [GIVEN]);
    }

    #[test]
    fn without_a_collector_nothing_is_traced() {
        let cause = TraceContext::parse(GIVEN, String::new());
        let mut span = begin("work", SpanKind::Internal, &cause);
        span.set_count("things", 3);
        assert_eq!(span.context(), &TraceContext::default());
        assert_eq!(TraceContext::of_traceparent(GIVEN), TraceContext::default());
    }
}
