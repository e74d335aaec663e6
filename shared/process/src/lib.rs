//! What every process of ours needs: options, logs on standard error, metrics, traces, health for probes, files of keys,
//! secrets, listeners, the way into the service, one provider of cryptography for TLS, and an orderly shutdown.

pub mod client;
pub mod connections;
mod files;
pub mod health;
mod listening;
pub mod metrics;
mod options;
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
