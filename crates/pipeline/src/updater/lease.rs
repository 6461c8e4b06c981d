//! Training's turn on this machine: it would distort benchmarks that run beside it.

use std::{path::Path, time::Duration};

use hardware::{DeviceLease, HardwareError, LeaseMode};
use messages::Platform;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::worker::chain;

/// How long training may wait for the benchmarks of this machine to let it in.
const LEASE_WAIT_MAX: Duration = Duration::from_mins(10);

/// Waits until nobody benchmarks on this machine; nobody does while the lease is held. `None` after `stop`, and where
/// training had better go on beside a benchmark: after 10 minutes, or if there is no lock to be had.
pub(super) async fn turn(directory: &Path, stop: &CancellationToken) -> Option<DeviceLease> {
    match tokio::time::timeout(LEASE_WAIT_MAX, stop.run_until_cancelled(lease(directory))).await {
        Ok(None) => None,
        Ok(Some(Ok(lease))) => Some(lease),
        Ok(Some(Err(error))) => {
            warn!(error = %chain(&error), "training beside a benchmark");
            None
        }
        Err(_) => {
            warn!(
                waited_s = LEASE_WAIT_MAX.as_secs(),
                "benchmarks leave no moment for training; it goes on beside one"
            );
            None
        }
    }
}

async fn lease(directory: &Path) -> Result<DeviceLease, HardwareError> {
    if let Some(lease) = DeviceLease::try_now(directory, Platform::Cpu, LeaseMode::Shared)? {
        return Ok(lease);
    }
    info!("training waits for the benchmarks of this machine");
    runner::device_turn(directory, Platform::Cpu, LeaseMode::Shared).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn training_waits_for_a_benchmark_and_no_longer_than_until_the_stop() {
        let directory = tempfile::tempdir().expect("a directory");
        let benchmark = DeviceLease::try_now(directory.path(), Platform::Cpu, LeaseMode::Exclusive).expect("locking");
        let stop = CancellationToken::new();
        let mut waiting = Box::pin(turn(directory.path(), &stop));
        let is_waiting =
            std::future::poll_fn(|context| std::task::Poll::Ready(waiting.as_mut().poll(context).is_pending()));
        assert!(is_waiting.await, "it is held");
        drop(benchmark);
        assert!(waiting.await.is_some(), "its turn");
        let _benchmark = DeviceLease::try_now(directory.path(), Platform::Cpu, LeaseMode::Exclusive).expect("locking");
        stop.cancel();
        assert!(turn(directory.path(), &stop).await.is_none());
    }
}
