//! Shutdown token that every task of a process watches.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Returns a token that is cancelled at the first SIGINT or SIGTERM. A second signal ends the
/// process at once, for people who cannot wait.
///
/// # Errors
/// Returns an error if the signal handlers cannot be installed.
pub fn shutdown_signal() -> std::io::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        let mut asked = false;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if asked {
                std::process::exit(130);
            }
            asked = true;
            info!("stopping; a second signal stops at once");
            cancelled.cancel();
        }
    });
    Ok(token)
}
