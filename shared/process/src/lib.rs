//! What every process of ours needs: logs on standard error and an orderly shutdown.

mod shutdown;
mod telemetry;

pub use shutdown::shutdown_signal;
pub use telemetry::{LogArgs, LogFormat, init_logs};
