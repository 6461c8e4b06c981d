//! Sole use of a device on this machine while a benchmark measures.
//!
//! Two workers on one machine would distort each other's numbers, so a benchmark takes its device's lease alone and
//! tests share it. A lease is a file lock: it ends when dropped, and the kernel ends it when its process dies.
//! A second file, the gate, is held by whoever is next: without it, tests that keep coming would never leave a
//! moment for the benchmark that waits.

use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use messages::Platform;

use crate::{
    HardwareError,
    lock::{self, POLL_INTERVAL, Sharing},
};

/// The use of a device, alone or shared, until dropped.
#[derive(Debug)]
pub struct DeviceLease {
    /// Keeps the lock; closing it frees it.
    _file: File,
}

/// How a device is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseMode {
    /// Alone: for benchmarks.
    Exclusive,
    /// Beside others who share: for tests.
    Shared,
}

/// A place in the line for a device; dropping it leaves the line.
#[derive(Debug)]
pub struct LeaseRequest {
    sharing: Sharing,
    gate: File,
    gate_held: bool,
    gate_path: PathBuf,
    device: Option<File>,
    device_path: PathBuf,
}

impl LeaseRequest {
    /// How often [`Self::poll`] is worth calling.
    pub const POLL_INTERVAL: Duration = POLL_INTERVAL;

    /// Gets in line for `platform`'s device; `directory` is where every worker of this machine looks.
    ///
    /// # Errors
    ///
    /// [`HardwareError::File`] if the lock files cannot be opened.
    pub fn new(directory: &Path, platform: Platform, mode: LeaseMode) -> Result<Self, HardwareError> {
        let device_path = directory.join(format!("device-{platform}.lock"));
        let gate_path = directory.join(format!("device-{platform}.gate"));
        Ok(Self {
            sharing: match mode {
                LeaseMode::Exclusive => Sharing::Exclusive,
                LeaseMode::Shared => Sharing::Shared,
            },
            gate: lock::open(&gate_path)?,
            gate_held: false,
            gate_path,
            device: Some(lock::open(&device_path)?),
            device_path,
        })
    }

    /// Gives the lease if the device is free now; does not block.
    ///
    /// # Errors
    ///
    /// [`HardwareError::File`] if the operating system refuses to lock.
    pub fn poll(&mut self) -> Result<Option<DeviceLease>, HardwareError> {
        if !self.gate_held {
            self.gate_held = lock::try_lock(&self.gate, Sharing::Exclusive, &self.gate_path)?;
        }
        if !self.gate_held {
            return Ok(None);
        }
        let Some(device) = self.device.take() else { return Ok(None) };
        if lock::try_lock(&device, self.sharing, &self.device_path)? {
            self.gate.unlock().map_err(|source| HardwareError::File {
                action: "unlock",
                path: self.gate_path.clone(),
                source,
            })?;
            self.gate_held = false;
            return Ok(Some(DeviceLease { _file: device }));
        }
        self.device = Some(device);
        Ok(None)
    }
}

impl DeviceLease {
    /// Takes the device if it is free now; `None` if it is not.
    ///
    /// # Errors
    ///
    /// [`HardwareError::File`] if locking fails.
    pub fn try_now(directory: &Path, platform: Platform, mode: LeaseMode) -> Result<Option<Self>, HardwareError> {
        LeaseRequest::new(directory, platform, mode)?.poll()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(directory: &Path, mode: LeaseMode) -> Option<DeviceLease> {
        DeviceLease::try_now(directory, Platform::Cpu, mode).expect("locking works")
    }

    #[test]
    fn a_benchmark_has_the_device_alone_and_frees_it_on_drop() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let lease = held(directory.path(), LeaseMode::Exclusive).expect("free");
        assert!(held(directory.path(), LeaseMode::Exclusive).is_none());
        assert!(held(directory.path(), LeaseMode::Shared).is_none());
        let other =
            DeviceLease::try_now(directory.path(), Platform::Cuda, LeaseMode::Exclusive).expect("locking works");
        assert!(other.is_some(), "another device is another lease");
        drop(lease);
        assert!(held(directory.path(), LeaseMode::Exclusive).is_some());
    }

    #[test]
    fn tests_share_the_device_but_keep_benchmarks_out() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let first = held(directory.path(), LeaseMode::Shared).expect("free");
        let second = held(directory.path(), LeaseMode::Shared).expect("shared");
        assert!(held(directory.path(), LeaseMode::Exclusive).is_none());
        drop((first, second));
        assert!(held(directory.path(), LeaseMode::Exclusive).is_some());
    }

    #[test]
    fn a_waiting_benchmark_keeps_newcomers_out() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let running = held(directory.path(), LeaseMode::Shared).expect("free");
        let mut waiting =
            LeaseRequest::new(directory.path(), Platform::Cpu, LeaseMode::Exclusive).expect("lock files open");
        assert!(waiting.poll().expect("locking works").is_none());
        assert!(held(directory.path(), LeaseMode::Shared).is_none(), "the newcomer queues behind the benchmark");
        drop(running);
        let lease = waiting.poll().expect("locking works").expect("its turn");
        drop(lease);
        assert!(held(directory.path(), LeaseMode::Shared).is_some(), "the gate is open again");
    }

    #[test]
    fn leaving_the_line_opens_the_gate() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let _running = held(directory.path(), LeaseMode::Shared).expect("free");
        let mut waiting =
            LeaseRequest::new(directory.path(), Platform::Cpu, LeaseMode::Exclusive).expect("lock files open");
        assert!(waiting.poll().expect("locking works").is_none());
        drop(waiting);
        assert!(held(directory.path(), LeaseMode::Shared).is_some());
    }
}
