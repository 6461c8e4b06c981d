//! File locks with a bounded wait; the kernel frees them when a process dies.

use std::{
    fs::{self, File, TryLockError},
    path::Path,
    time::Duration,
};

use crate::HardwareError;

/// Time between two tries of a lock that someone else holds: short against a benchmark, long against a system call.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How a file is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Nobody else holds it.
    Exclusive,
    /// Others may hold it in the same way.
    Shared,
}

/// Opens a lock file, creating it and its directory where they are missing.
pub(crate) fn open(path: &Path) -> Result<File, HardwareError> {
    let failed = |action, source| HardwareError::File { action, path: path.to_owned(), source };
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(|source| failed("create the directory of", source))?;
    }
    // Never truncated: a lock file has no content, and another process may hold it.
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path).map_err(|source| failed("open the lock file", source))
}

/// Takes the lock if it is free; says whether it did.
pub(crate) fn try_lock(file: &File, sharing: Sharing, path: &Path) -> Result<bool, HardwareError> {
    let tried = match sharing {
        Sharing::Exclusive => file.try_lock(),
        Sharing::Shared => file.try_lock_shared(),
    };
    match tried {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(source)) => Err(HardwareError::File { action: "lock", path: path.to_owned(), source }),
    }
}
