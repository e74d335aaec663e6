//! Logs: one line an event, on standard error, as text or as JSON.

use clap::{Args, ValueEnum};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Flags for the logs.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// What to log: error, warn, info, debug, trace, or per module as `RUST_LOG` has it
    #[arg(long, global = true, env = "CAMPAIGN_LOG", default_value = "info")]
    pub log: String,
    /// How log lines look
    #[arg(long, global = true, env = "CAMPAIGN_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
}

/// Starts logging. Call once, first thing in `main`.
///
/// # Errors
/// When `args.log` cannot be read or logging was started before; the text says which.
pub fn init_logs(args: &LogArgs) -> Result<(), String> {
    let filter = EnvFilter::try_new(&args.log)
        .map_err(|error| format!("--log {:?} cannot be read: {error}", args.log))?;
    let is_terminal = std::io::stderr().is_terminal();
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(is_terminal)
        .with_writer(std::io::stderr);
    let started = match args.log_format {
        LogFormat::Text => logs.with_target(false).try_init(),
        LogFormat::Json => logs.json().flatten_event(true).with_span_list(false).try_init(),
    };
    started.map_err(|error| format!("logging could not start: {error}"))
}
