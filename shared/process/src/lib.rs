//! Common parts of all our processes: options, logs on standard error, metrics, traces and health
//! for probes. Further parts are key files, secrets, listeners, the service's client credentials,
//! TLS cryptography and an orderly shutdown.

pub mod client;
pub mod connections;
mod files;
pub mod health;
mod listening;
pub mod metrics;
mod options;
pub mod scraping;
mod secret;
mod seldom;
pub mod serving;
mod shutdown;
mod telemetry;
mod tls;
pub mod traces;

pub use files::read_key_file;
pub use health::{Health, HealthArgs};
pub use listening::listen;
pub use options::{ConfigArgs, Options, OptionsFile, options};
pub use secret::Secret;
pub use seldom::Seldom;
pub use shutdown::shutdown_signal;
pub use telemetry::{LogArgs, LogFilter, LogFormat, init_logs};
pub use tls::{authorities, certificates, install_tls_provider};
pub use traces::TraceArgs;
