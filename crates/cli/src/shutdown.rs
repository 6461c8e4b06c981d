//! SIGTERM and Ctrl-C: the first asks for an orderly end, the second ends at once.

use std::{
    io,
    sync::{Mutex, PoisonError, mpsc},
    thread,
};

use anyhow::Context as _;
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
};
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
    let stop = CancellationToken::new();
    let fired = stop.clone();
    let (sender, caught) = mpsc::channel();
    // The program's own runtime ends its tasks first and then waits for what blocks, a hanging file system or a long
    // query, for as long as that takes: on it, nobody would hear the second signal by then.
    thread::Builder::new().name("signals".to_owned()).spawn(move || listen(&fired, &sender))?;
    caught.recv().context("the thread that hears signals has ended")??;
    Ok(stop)
}

/// Says whether the signals can be caught, then waits for them.
fn listen(fired: &CancellationToken, caught: &mpsc::Sender<io::Result<()>>) {
    let say = |result| caught.send(result).expect("whoever started this waits for it");
    let (runtime, [mut terminate, mut interrupt]) = match catch() {
        Ok(catching) => catching,
        Err(error) => return say(Err(error)),
    };
    say(Ok(()));
    runtime.block_on(async {
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
}

/// SIGTERM and SIGINT, and what they are heard on.
fn catch() -> io::Result<(Runtime, [Signal; 2])> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let signals = {
        let _inside = runtime.enter();
        [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?]
    };
    Ok((runtime, signals))
}

fn exit_at_once() -> ! {
    warn!("second signal: ending at once");
    for action in BEFORE_EXIT.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        action();
    }
    std::process::exit(130);
}
