//! The dialer worker as a program.

use std::process::ExitCode;
use std::sync::Arc;

use campaign_process::{init_logs, shutdown_signal};
use clap::Parser;
use dialer_worker::config::{Config, Provider};
use dialer_worker::dialer::Dialer;
use dialer_worker::simulated::SimulatedDialer;
use dialer_worker::sip::SipDialer;
use tracing::error;

#[tokio::main]
async fn main() -> ExitCode {
    let config = Config::parse();
    if let Err(text) = init_logs(&config.logs) {
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

async fn dialer(config: &Config) -> Result<Arc<dyn Dialer>, String> {
    match config.provider {
        Provider::Simulated => match SimulatedDialer::new(&config.simulated) {
            Ok(dialer) => Ok(Arc::new(dialer)),
            Err(error) => Err(format!(
                "--dial-log cannot be opened: {error}; name a file that can be written"
            )),
        },
        Provider::Sip => Ok(Arc::new(SipDialer::start(&config.sip).await?)),
    }
}

async fn work(config: Config) -> Result<(), String> {
    let shutdown = shutdown_signal()
        .map_err(|error| format!("signal handlers could not be installed: {error}"))?;
    let dialer = dialer(&config).await?;
    let summary = dialer_worker::run(&config.worker(), dialer, shutdown).await;
    if summary.unacknowledged == 0 && summary.unfinished_calls == 0 {
        return Ok(());
    }
    Err(format!(
        "{} facts were not acknowledged and {} calls did not end in time: the service will count their \
         attempts as unknown; give it more time with --drain-grace-seconds or look whether it runs",
        summary.unacknowledged, summary.unfinished_calls
    ))
}
