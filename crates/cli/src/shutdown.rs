//! SIGTERM and Ctrl-C: the first asks for an orderly end, the second ends at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// A token that fires on the first SIGTERM or SIGINT; the second exits with code 130.
///
/// # Errors
///
/// If the signals cannot be caught.
pub(crate) fn token() -> anyhow::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let fired = stop.clone();
    tokio::spawn(async move {
        for again in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if again {
                warn!("second signal: ending at once");
                std::process::exit(130);
            }
            info!("signal received: finishing");
            fired.cancel();
        }
    });
    Ok(stop)
}
