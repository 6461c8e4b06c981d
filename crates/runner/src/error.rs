//! What can go wrong apart from a job: jobs themselves fail with [`messages::Failure`].

use std::{io, path::PathBuf};

use thiserror::Error;

/// Why ONNX Runtime could not be looked at.
#[derive(Debug, Error)]
pub enum RunnerError {
    /// The process that should load it did not start.
    #[error("failed to start `{}`", executable.display())]
    Start {
        /// What should have started.
        executable: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The library does not load, or loading it killed the process.
    #[error("failed to load ONNX Runtime from `{}`: {reason}", library.display())]
    Library {
        /// The library.
        library: PathBuf,
        /// What the loader, the library or its process said.
        reason: String,
    },
}
