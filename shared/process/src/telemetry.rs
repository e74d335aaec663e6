//! Logs: one line per event, on standard error, as text or as JSON.

use clap::{Args, ValueEnum};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// Default log filter.
pub const DEFAULT_LOG: &str = "info";

/// Format of log lines.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum LogFormat {
    /// Text for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Flags for the logs.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// Log filter: error, warn, info, debug, trace, or per module in the syntax of `RUST_LOG`
    #[arg(long, global = true, env = "CAMPAIGN_LOG", default_value = DEFAULT_LOG)]
    pub log: String,
    /// Format of log lines
    #[arg(long, global = true, env = "CAMPAIGN_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
}

/// Log filter that can change while the program runs.
pub struct LogFilter(Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>);

impl std::fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogFilter").finish_non_exhaustive()
    }
}

impl LogFilter {
    /// Applies a log filter from now on.
    ///
    /// # Errors
    /// Returns an error if the filter cannot be parsed.
    pub fn set(&self, log: &str) -> Result<(), String> {
        (self.0)(filter(log)?)
    }
}

/// Parses a log filter. The SIP library logs whole messages with people's numbers, so it is off
/// unless the filter names it.
fn filter(log: &str) -> Result<EnvFilter, String> {
    let quiet = if log.contains("rsipstack") { "" } else { ",rsipstack=off" };
    EnvFilter::try_new(format!("{log}{quiet}"))
        .map_err(|error| format!("log {log:?} cannot be read: {error}"))
}

/// Starts logging. Must be called once, first in `main`.
///
/// # Errors
/// Returns an error if `args.log` cannot be parsed, or if logging was started before.
pub fn init_logs(args: &LogArgs) -> Result<LogFilter, String> {
    let is_terminal = std::io::stderr().is_terminal();
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter(&args.log)?)
        .with_ansi(is_terminal)
        .with_writer(std::io::stderr);
    macro_rules! start {
        ($logs:expr) => {{
            let logs = $logs.with_filter_reloading();
            let handle = logs.reload_handle();
            let set = move |filter| handle.reload(filter).map_err(|error| error.to_string());
            (logs.finish().try_init(), LogFilter(Box::new(set)))
        }};
    }
    // Each format has a type of its own.
    let (started, logs) = match args.log_format {
        LogFormat::Text => start!(logs.with_target(false)),
        LogFormat::Json => start!(logs.json().flatten_event(true).with_span_list(false)),
    };
    started.map_err(|error| format!("logging could not start: {error}"))?;
    Ok(logs)
}
