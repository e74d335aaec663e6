//! Takes leased contacts, asks before each dial, dials and reports.
//!
//! The path of a contact: a batch arrives (`session`) and waits (`leases`); when a call place is free
//! its attempt is authorised; the provider dials it (`calls`, `dialer`); what happened waits in the
//! outbox (`reports`) until the service says it is durable. `state` decides, `worker` does the
//! waiting and keeps the state while streams come and go.

mod breaker;
mod calls;
pub mod config;
pub mod dialer;
pub mod http;
mod leases;
pub mod metrics;
mod pace;
mod provider_status;
mod reports;
pub mod service;
mod session;
pub mod simulated;
pub mod sip;
mod state;
mod worker;

use std::sync::Arc;

use config::{Config, Provider};
use dialer::Dialer;
use http::HttpDialer;
use metrics::Metrics;
use simulated::SimulatedDialer;
use sip::SipDialer;
pub use worker::{Summary, run};

/// Starts the provider that the configuration names.
///
/// # Errors
/// When something in the configuration does not work; the text says what.
pub async fn dialer(config: &Config, metrics: &Metrics) -> Result<Arc<dyn Dialer>, String> {
    Ok(match config.provider {
        Provider::Simulated => {
            let dialer = SimulatedDialer::new(&config.simulated).map_err(|error| {
                format!("--dial-log cannot be opened: {error}; name a file that can be written")
            })?;
            Arc::new(dialer)
        }
        Provider::Sip => Arc::new(SipDialer::start(&config.sip, &config.worker.replicas()).await?),
        Provider::Http => {
            Arc::new(HttpDialer::start(&config.http, config.health.side.limits(), metrics).await?)
        }
    })
}

/// How many inputs the tests make up of each kind.
#[cfg(test)]
fn fuzz_inputs() -> proptest::test_runner::Config {
    let inputs = std::env::var("FUZZ_INPUTS").ok().and_then(|text| text.parse().ok());
    let cases = inputs.unwrap_or(2_000);
    proptest::test_runner::Config { cases, failure_persistence: None, ..Default::default() }
}
