//! What can go wrong while a device is detected or lent.

use std::{io, path::PathBuf};

use thiserror::Error;

/// Why this machine could not be described or a device not be lent.
#[derive(Debug, Error)]
pub enum HardwareError {
    /// The operating system does not tell about its processor or memory.
    #[error("failed to read what this machine has: {reason}")]
    Undetected {
        /// What the operating system says.
        reason: String,
    },
    /// A file or directory of ours cannot be used.
    #[error("failed to {action} `{}`", path.display())]
    File {
        /// What was tried, e.g. `create`.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another process measures the peaks and does not come to an end.
    #[error("waited {waited_ms} ms for another process to measure this machine, which holds `{}`", path.display())]
    MeasuringElsewhere {
        /// The lock file.
        path: PathBuf,
        /// How long, in milliseconds.
        waited_ms: u64,
    },
    /// A thread could not be started or died while peaks were measured.
    #[error("failed to measure the processor: {reason}")]
    Measuring {
        /// What happened.
        reason: String,
    },
}
