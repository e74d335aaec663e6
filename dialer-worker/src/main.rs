//! Program of the dialer worker.

use std::process::ExitCode;
use std::sync::Arc;

use campaign_process::scraping::serve_metrics;
use campaign_process::{
    Options, init_logs, install_tls_provider, listen, options, shutdown_signal,
};
use dialer_worker::config::Config;
use dialer_worker::metrics::Metrics;
use tracing::error;

#[tokio::main]
async fn main() -> ExitCode {
    let Options { options: config, file } = options::<Config>("DIALER_CONFIG_FILE");
    match init_logs(&config.logs) {
        Ok(logs) => {
            file.map(|file| tokio::spawn(file.follow(logs)));
        }
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::FAILURE;
        }
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
    let traces = config.traces.start("dialer-worker")?;
    let health = config.health.start().await?;
    let metrics = Arc::new(Metrics::default());
    if let Some(address) = config.metrics_listen {
        let shown = Arc::clone(&metrics);
        let listener = listen(address).await?;
        let limits = config.health.side.limits();
        tokio::spawn(serve_metrics(listener, limits, move || shown.render(), shutdown.clone()));
    }
    let dialer = dialer_worker::dialer(&config, &metrics).await?;
    let summary = dialer_worker::run(&config.worker(), dialer, health, metrics, shutdown).await;
    traces.finish().await;
    if summary.unacknowledged == 0 && summary.unfinished_calls == 0 {
        return Ok(());
    }
    Err(format!(
        "{} facts were not acknowledged and {} calls did not end in time: the service will count their \
         attempts as unknown; give it more time with --drain-grace-seconds or look whether it runs",
        summary.unacknowledged, summary.unfinished_calls
    ))
}
