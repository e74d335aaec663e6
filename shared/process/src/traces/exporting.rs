//! Export of spans to the collector.

use crate::metrics::LOST_SPANS;
use opentelemetry::trace::TracerProvider;
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{
    ExporterBuildError, SpanExporter as OtlpExporter, WithExportConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, Span, SpanData,
    SpanExporter, SpanProcessor,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tonic::transport::Endpoint;
use tracing::{info, warn};

/// Most spans that wait for the collector. Further spans are dropped.
const MAX_WAITING_SPANS: usize = 8_192;
/// Spans in one message to the collector.
const BATCH_SPANS: usize = 512;
/// Longest wait of a span for others to share its message.
const BATCH_DELAY: Duration = Duration::from_secs(1);
/// Time for the collector to accept a message.
const EXPORT_LIMIT: Duration = Duration::from_secs(5);
/// Time to send the remaining spans when the process stops.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);
/// Most links of one span. Further links are left out.
const MAX_LINKS: u32 = 1_000;

/// Export of traces to the collector, if there is one.
#[derive(Debug, Default)]
pub struct Traces(Option<SdkTracerProvider>);

impl Traces {
    /// Sends the remaining spans within `FLUSH_LIMIT`, then stops tracing.
    pub async fn finish(self) {
        let Some(provider) = self.0 else { return };
        let flushing = tokio::task::spawn_blocking(move || {
            // A failure was logged when it occurred.
            let _ = provider.shutdown_with_timeout(FLUSH_LIMIT);
        });
        let _ = flushing.await;
    }
}

pub(super) fn start(
    endpoint: Endpoint,
    ratio: f64,
    program: &'static str,
) -> Result<(Traces, SdkTracer), ExporterBuildError> {
    let channel = endpoint.connect_timeout(EXPORT_LIMIT).timeout(EXPORT_LIMIT).connect_lazy();
    let exporter =
        OtlpExporter::builder().with_tonic().with_timeout(EXPORT_LIMIT).with_channel(channel);
    let waiting = Arc::new(AtomicUsize::new(0));
    let exporter = TellingExporter {
        exporter: exporter.build()?,
        waiting: Arc::clone(&waiting),
        is_failing: AtomicBool::new(false),
    };
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(MAX_WAITING_SPANS)
        .with_max_export_batch_size(BATCH_SPANS)
        .with_scheduled_delay(BATCH_DELAY)
        .build();
    let batching = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))))
        .with_max_links_per_span(MAX_LINKS)
        .with_resource(
            Resource::builder().with_service_name(program).with_attribute(version).build(),
        )
        .with_span_processor(Bounded { batching, waiting })
        .build();
    let tracer = provider.tracer(program);
    Ok((Traces(Some(provider)), tracer))
}

/// Span processor that bounds the waiting spans and counts dropped ones.
#[derive(Debug)]
struct Bounded {
    batching: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batching.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITING_SPANS {
            self.batching.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            LOST_SPANS.inc();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batching.force_flush()
    }

    fn shutdown_with_timeout(&self, limit: Duration) -> OTelSdkResult {
        self.batching.shutdown_with_timeout(limit)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batching.set_resource(resource);
    }
}

/// Exporter that logs once when the collector fails, and once when it accepts spans again.
#[derive(Debug)]
struct TellingExporter {
    exporter: OtlpExporter,
    waiting: Arc<AtomicUsize>,
    is_failing: AtomicBool,
}

impl SpanExporter for TellingExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let exported = self.exporter.export(batch).await;
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        let was_failing = self.is_failing.swap(exported.is_err(), Ordering::Relaxed);
        match &exported {
            Ok(()) if was_failing => info!("the collector takes traces again"),
            Ok(()) => {}
            Err(error) => {
                LOST_SPANS.inc_by(spans as u64);
                if !was_failing {
                    warn!(%error, "the collector of --otlp-endpoint takes no traces; they are dropped until it does");
                }
            }
        }
        exported
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
