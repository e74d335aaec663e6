//! What every process of ours needs: logs on standard error, one provider of
//! cryptography for TLS, and an orderly shutdown.

mod shutdown;
mod telemetry;
mod tls;

pub use shutdown::shutdown_signal;
pub use telemetry::{LogArgs, LogFormat, init_logs};
pub use tls::install_tls_provider;
