//! Waits for a device's lease without blocking a thread.

use std::{path::Path, time::Duration};

use hardware::{DeviceLease, HardwareError, LeaseMode, LeaseRequest};
use messages::{Failure, FailureKind, Platform};
use tokio::time;
use tokio_util::sync::CancellationToken;

use crate::failure::{FailureExt, chain, failure};

/// Longest wait for other jobs on the same device, which counts toward no job's timeout: below the broker's
/// usual acknowledgement timeout of 30 minutes.
const DEVICE_WAIT_MAX: Duration = Duration::from_mins(20);

/// Waits in line for a platform's device, for as long as it takes.
///
/// # Errors
///
/// [`HardwareError::File`] if the lock files cannot be opened, or the operating system refuses to lock.
pub async fn device_turn(directory: &Path, platform: Platform, mode: LeaseMode) -> Result<DeviceLease, HardwareError> {
    let mut request = LeaseRequest::new(directory, platform, mode)?;
    loop {
        if let Some(lease) = request.poll()? {
            return Ok(lease);
        }
        time::sleep(LeaseRequest::POLL_INTERVAL).await;
    }
}

/// Gets the lease, or says why not: cancelled, too long, or no lock to be had.
pub(crate) async fn device_lease(
    directory: &Path,
    platform: Platform,
    mode: LeaseMode,
    cancel: &CancellationToken,
) -> Result<DeviceLease, Failure> {
    let turn = cancel.run_until_cancelled(device_turn(directory, platform, mode));
    match time::timeout(DEVICE_WAIT_MAX, turn).await {
        Ok(Some(Ok(lease))) => Ok(lease),
        Ok(Some(Err(error))) => Err(failure(FailureKind::Machine, chain(&error))),
        Ok(None) => Err(failure(FailureKind::Cancelled, format!("cancelled while waiting for the {platform} device"))),
        Err(_) => {
            let message =
                format!("other jobs kept the {platform} device for more than {} s", DEVICE_WAIT_MAX.as_secs());
            Err(failure(FailureKind::Unavailable, message).suggest("look for a job that hangs on this machine"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_until_the_device_is_free() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let held = DeviceLease::try_now(directory.path(), Platform::Cpu, LeaseMode::Exclusive).expect("locking works");
        let cancel = CancellationToken::new();
        let waiting = device_lease(directory.path(), Platform::Cpu, LeaseMode::Exclusive, &cancel);
        let mut waiting = std::pin::pin!(waiting);
        assert!(futures_are_pending(waiting.as_mut()).await, "it is held");
        drop(held);
        waiting.await.expect("free now");
    }

    #[tokio::test]
    async fn cancelling_ends_the_wait() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let _held = DeviceLease::try_now(directory.path(), Platform::Cpu, LeaseMode::Exclusive).expect("locking works");
        let cancel = CancellationToken::new();
        cancel.cancel();
        let failed = device_lease(directory.path(), Platform::Cpu, LeaseMode::Exclusive, &cancel).await;
        assert_eq!(failed.expect_err("cancelled").kind, FailureKind::Cancelled);
    }

    /// Polls once; says whether the future still waits.
    async fn futures_are_pending(mut future: std::pin::Pin<&mut impl Future>) -> bool {
        std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_pending())).await
    }
}
