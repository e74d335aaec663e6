//! What every process of ours needs: logs on standard error, metrics, health for probes, files of keys, secrets,
//! listeners, the way into the service, one provider of cryptography for TLS, and an orderly shutdown.

pub mod client;
mod files;
pub mod health;
mod listening;
pub mod metrics;
mod secret;
mod shutdown;
mod telemetry;
mod tls;

pub use files::read_key_file;
pub use health::{Health, HealthArgs};
pub use listening::listen;
pub use secret::Secret;
pub use shutdown::shutdown_signal;
pub use telemetry::{LogArgs, LogFormat, init_logs};
pub use tls::{authorities, certificates, install_tls_provider};
