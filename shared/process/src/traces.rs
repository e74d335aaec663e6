//! Traces: what one piece of work caused in several processes, told to a collector of OpenTelemetry (OTLP over gRPC).
//! Processes tell each other where something belongs as W3C trace context has it. Without a collector nothing is
//! done, and what a collector does not take in time is dropped and counted: no work waits for it.
//!
//! Spans say words of the program, numbers, and the names of campaigns and attempts: never who is called.

mod exporting;
mod spans;

pub(crate) use exporting::LOST_SPANS;
pub use exporting::Traces;
pub use opentelemetry::trace::SpanKind;
pub use spans::{Span, TraceContext, begin, begin_for, begin_linked};

use crate::client::{client_tls, endpoint, is_https};
use clap::Args;
use opentelemetry_sdk::trace::SdkTracer;
use std::sync::OnceLock;
use tonic::transport::Endpoint;

/// Makes the spans of this process; not there without a collector.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Where traces go.
#[derive(Args, Clone, Debug)]
pub struct TraceArgs {
    /// Collector of OpenTelemetry to send traces to, OTLP over gRPC, as in http://127.0.0.1:4317 [default: no traces]
    #[arg(long, env = "CAMPAIGN_OTLP_ENDPOINT", value_name = "URL", value_parser = endpoint)]
    pub otlp_endpoint: Option<Endpoint>,
    /// Which part of the requests and calls is traced that no traced request caused, 0 to 1
    #[arg(long, env = "CAMPAIGN_TRACE_RATIO", value_name = "RATIO", value_parser = ratio, default_value_t = 0.01)]
    pub trace_ratio: f64,
}

impl TraceArgs {
    /// Traces from now on, under the name of the program; within a runtime.
    ///
    /// # Errors
    /// When TLS to the collector cannot be set up. A collector that is away is no error.
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
        // The first one stays; there is one.
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
