//! Dialer worker: leases contacts, asks the service before each dial, dials and reports.
//!
//! Path of a contact: a batch arrives (`session`) and waits (`leases`). When call capacity is free,
//! the service authorises the attempt. The provider dials the contact (`calls`, `dialer`). Facts
//! wait in the outbox (`reports`) until the service acknowledges them as durable. `state` decides;
//! `worker` waits for events and keeps the state across streams.

mod breaker;
pub mod call;
mod calls;
pub mod config;
pub mod dialer;
mod flags;
pub mod http;
mod known_outcomes;
mod leases;
pub mod metrics;
mod pace;
mod provider_status;
mod recorder;
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
pub use state::Summary;
pub use worker::run;

/// Starts the provider that the configuration names.
///
/// # Errors
/// Returns a text that names the setting that does not work.
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
            let replicas = config.worker.replicas();
            let limits = config.health.side.limits();
            Arc::new(HttpDialer::start(&config.http, replicas, limits, metrics).await?)
        }
    })
}

/// Returns the number of inputs that property tests generate of each kind.
#[cfg(test)]
fn fuzz_inputs() -> proptest::test_runner::Config {
    let inputs = std::env::var("FUZZ_INPUTS").ok().and_then(|text| text.parse().ok());
    let cases = inputs.unwrap_or(2_000);
    proptest::test_runner::Config { cases, failure_persistence: None, ..Default::default() }
}
