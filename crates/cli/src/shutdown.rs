//! SIGTERM and Ctrl-C: the first asks for an orderly end, the second ends at once.

use std::sync::{Mutex, PoisonError};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// What even a sudden exit must not leave undone.
static BEFORE_EXIT: Mutex<Vec<Box<dyn Fn() + Send>>> = Mutex::new(Vec::new());

/// Has `action` run before an exit at the second signal, when nothing is dropped any more. It must be quick.
pub(crate) fn before_sudden_exit(action: impl Fn() + Send + 'static) {
    BEFORE_EXIT.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(action));
}

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
                exit_at_once();
            }
            info!("signal received: finishing");
            fired.cancel();
        }
    });
    Ok(stop)
}

fn exit_at_once() -> ! {
    warn!("second signal: ending at once");
    for action in BEFORE_EXIT.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        action();
    }
    std::process::exit(130);
}
