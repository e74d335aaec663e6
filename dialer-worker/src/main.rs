//! The dialer worker as a program.

use std::process::ExitCode;

use campaign_process::{init_logs, install_tls_provider, shutdown_signal};
use clap::Parser;
use dialer_worker::config::Config;
use tracing::error;

#[tokio::main]
async fn main() -> ExitCode {
    let config = Config::parse();
    if let Err(text) = init_logs(&config.logs()) {
        eprintln!("{text}");
        return ExitCode::FAILURE;
    }
    match work(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            error!("{text}");
            ExitCode::FAILURE
        }
    }
}

async fn work(config: Config) -> Result<(), String> {
    let shutdown = shutdown_signal()
        .map_err(|error| format!("signal handlers could not be installed: {error}"))?;
    install_tls_provider();
    let health = config.health.start().await?;
    let dialer = dialer_worker::dialer(&config).await?;
    let summary = dialer_worker::run(&config.worker(), dialer, health, shutdown).await;
    if summary.unacknowledged == 0 && summary.unfinished_calls == 0 {
        return Ok(());
    }
    Err(format!(
        "{} facts were not acknowledged and {} calls did not end in time: the service will count their \
         attempts as unknown; give it more time with --drain-grace-seconds or look whether it runs",
        summary.unacknowledged, summary.unfinished_calls
    ))
}
