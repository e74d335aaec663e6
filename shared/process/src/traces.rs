//! Traces: the effects of one piece of work in several processes, sent to an OpenTelemetry
//! collector (OTLP over gRPC). Processes pass trace context to each other in the W3C format.
//! Without a collector nothing is traced. Spans that a collector does not accept in time are
//! dropped and counted; no work waits for them.
//!
//! Spans contain the program's own words, numbers, and the names of campaigns and attempts. They
//! never contain the person called.

mod exporting;
mod spans;

pub use exporting::Traces;
pub use opentelemetry::trace::SpanKind;
pub use spans::{Span, TraceContext, begin, begin_for, begin_linked};

use crate::client::{client_tls, endpoint, is_https};
use clap::Args;
use opentelemetry_sdk::trace::SdkTracer;
use std::sync::OnceLock;
use tonic::transport::Endpoint;

/// Tracer of this process; unset without a collector.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Destination of traces.
#[derive(Args, Clone, Debug)]
pub struct TraceArgs {
    /// OpenTelemetry collector for traces, OTLP over gRPC, as in http://127.0.0.1:4317 [default: no
    /// traces]
    #[arg(long, env = "CAMPAIGN_OTLP_ENDPOINT", value_name = "URL", value_parser = endpoint)]
    pub otlp_endpoint: Option<Endpoint>,
    /// Share of requests and calls to trace that no traced request caused, 0 to 1
    #[arg(long, env = "CAMPAIGN_TRACE_RATIO", value_name = "RATIO", value_parser = ratio, default_value_t = 0.01)]
    pub trace_ratio: f64,
}

impl TraceArgs {
    /// Starts tracing under the name of the program. Must be called within a runtime.
    ///
    /// # Errors
    /// Returns an error if TLS to the collector cannot be set up. An unreachable collector is no
    /// error.
    pub fn start(&self, program: &'static str) -> Result<Traces, String> {
        let Some(endpoint) = &self.otlp_endpoint else { return Ok(Traces::default()) };
        let mut endpoint = endpoint.clone();
        if is_https(&endpoint) {
            let wrong = |error: &dyn std::fmt::Display| format!("--otlp-endpoint: {error}");
            let tls = client_tls(None, None).map_err(|error| wrong(&error))?;
            endpoint = endpoint.tls_config(tls).map_err(|error| wrong(&error))?;
        }
        let (traces, tracer) = exporting::start(endpoint, self.trace_ratio, program)
            .map_err(|error| format!("--otlp-endpoint: {error}"))?;
        // A process sets the tracer once. The first one stays.
        let _ = TRACER.set(tracer);
        Ok(traces)
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| "give a number from 0 to 1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        traces: TraceArgs,
    }

    #[test]
    fn what_is_no_part_and_no_address_is_refused() {
        let read = |args: &[&str]| Program::try_parse_from([&["program"], args].concat());
        for wrong in ["-0.1", "1.01", "NaN", "half"] {
            assert!(read(&[&format!("--trace-ratio={wrong}")]).is_err(), "{wrong}");
        }
        for wrong in ["collector:4317", "ftp://collector", "http://"] {
            assert!(read(&["--otlp-endpoint", wrong]).is_err(), "{wrong}");
        }
        let args = ["--trace-ratio", "1", "--otlp-endpoint", "http://127.0.0.1:4317"];
        let traces = read(&args).expect("both are right").traces;
        assert!(traces.otlp_endpoint.is_some() && traces.trace_ratio == 1.0);
        assert!(read(&[]).expect("none is needed").traces.otlp_endpoint.is_none());
    }
}
