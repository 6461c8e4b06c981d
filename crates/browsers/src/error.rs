//! What can go wrong: with the pool, and with one job in it.

use std::{io, path::PathBuf};

use messages::{FailureKind, Platform};
use thiserror::Error;

/// Why the pool, or a browser of it, does not start.
#[derive(Debug, Error)]
pub enum BrowserError {
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
    /// Another pool uses the state directory.
    #[error("another pool uses `{}`", path.display())]
    StateInUse {
        /// The lock that it holds.
        path: PathBuf,
    },
    /// The page has nothing to run models with.
    #[error("ONNX Runtime Web is unavailable, because {reason}")]
    RuntimeMissing {
        /// Why.
        reason: String,
    },
    /// The pool's own server does not start.
    #[error("failed to serve the page on 127.0.0.1")]
    Serve {
        /// The cause.
        source: io::Error,
    },
    /// A browser is not there.
    #[error("{browser} is unavailable, because {reason}")]
    NotInstalled {
        /// Its name.
        browser: String,
        /// Why.
        reason: String,
    },
    /// A process does not start.
    #[error("failed to start `{}`", program.display())]
    Start {
        /// What.
        program: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A driver or browser ended, or stayed silent, before it could be used.
    #[error("`{}` did not get ready: {reason}; it printed: {output_tail}", program.display())]
    NotReady {
        /// What.
        program: PathBuf,
        /// Why.
        reason: String,
        /// The end of what it printed.
        output_tail: String,
    },
    /// A driver refuses.
    #[error("failed to {action}: {reason}")]
    Driver {
        /// What was asked for, e.g. `open a tab`.
        action: &'static str,
        /// What the driver says, or that it says nothing.
        reason: String,
    },
    /// A page does not come up.
    #[error("a tab of {browser} did not get ready: {reason}")]
    Page {
        /// The browser.
        browser: String,
        /// Why.
        reason: String,
    },
}

/// Why a job gave no measurements.
#[derive(Debug, Error)]
pub enum WebError {
    /// Nothing here can run it.
    #[error("unavailable, because {reason}")]
    Unavailable {
        /// Why, for each browser and platform that it accepts.
        reason: String,
    },
    /// It needs more memory than all browsers may take.
    #[error("it needs {needed_mb} MB of memory and all browsers together may take {budget_mb} MB")]
    MemoryBudget {
        /// With the browser itself.
        needed_mb: u64,
        /// What the settings allow.
        budget_mb: u64,
    },
    /// Too many jobs wait already.
    #[error("{waiting} jobs wait for a browser already")]
    Full {
        /// How many.
        waiting: usize,
    },
    /// The request cannot be.
    #[error("invalid request: {reason}")]
    Invalid {
        /// Why.
        reason: String,
    },
    /// ONNX Runtime Web does not take the model.
    #[error("{browser} cannot load the model on {platform}: {message}")]
    Load {
        /// The browser.
        browser: String,
        /// The platform.
        platform: Platform,
        /// What ONNX Runtime says.
        message: String,
    },
    /// ONNX Runtime Web fails at running the model.
    #[error("{browser} failed on {platform} in phase {phase}: {message}")]
    Run {
        /// The browser.
        browser: String,
        /// The platform.
        platform: Platform,
        /// In which phase.
        phase: String,
        /// What it says.
        message: String,
    },
    /// The page ran out of memory.
    #[error("{browser} ran out of memory on {platform} in phase {phase}: {message}")]
    OutOfMemory {
        /// The browser.
        browser: String,
        /// The platform.
        platform: Platform,
        /// In which phase.
        phase: String,
        /// What it says.
        message: String,
    },
    /// Nodes ran, but none where the job wanted them.
    #[error("{browser} ran no node on {platform}: {nodes}")]
    NotOnPlatform {
        /// The browser.
        browser: String,
        /// The platform.
        platform: Platform,
        /// Where they ran.
        nodes: String,
    },
    /// It took too long.
    #[error("ended after {timeout_ms} ms in {browser} on {platform}, in phase {phase}")]
    TimedOut {
        /// The browser.
        browser: String,
        /// The platform.
        platform: Platform,
        /// The job's timeout.
        timeout_ms: u64,
        /// In which phase.
        phase: String,
    },
    /// The page did not report for too long.
    #[error("ended, because {browser} said nothing for {silence_ms} ms in phase {phase}")]
    Silent {
        /// The browser.
        browser: String,
        /// How long.
        silence_ms: u64,
        /// In which phase.
        phase: String,
    },
    /// Someone cancelled it.
    #[error("cancelled in phase {phase}")]
    Cancelled {
        /// In which phase.
        phase: String,
    },
    /// It killed as many browsers as a job may.
    #[error("poison: {}", deaths.join("; "))]
    Poison {
        /// What died, in order.
        deaths: Vec<String>,
    },
    /// No browser could be brought up for it, or kept.
    #[error("no browser to run it in: {}", reasons.join("; "))]
    NoBrowser {
        /// What was tried.
        reasons: Vec<String>,
    },
    /// The pool stops.
    #[error("the browser pool stops")]
    Stopping,
}

impl WebError {
    /// The kind under which the result is filed.
    pub fn failure_kind(&self) -> FailureKind {
        match self {
            // Chromium's and Firefox's runtime are the same code, so its words are too.
            Self::Load { message, .. } if message.contains("protobuf parsing failed") => FailureKind::ModelCorrupt,
            Self::Unavailable { .. } | Self::MemoryBudget { .. } => FailureKind::Unavailable,
            Self::Invalid { .. } => FailureKind::InvalidJob,
            // A job that kills browsers will kill more: an answer, not another try.
            Self::Load { .. } | Self::Run { .. } | Self::NotOnPlatform { .. } | Self::Poison { .. } => {
                FailureKind::BackendError
            }
            Self::OutOfMemory { .. } => FailureKind::OutOfMemory,
            Self::TimedOut { .. } | Self::Silent { .. } => FailureKind::TimedOut,
            Self::Cancelled { .. } => FailureKind::Cancelled,
            Self::Full { .. } | Self::NoBrowser { .. } | Self::Stopping => FailureKind::Machine,
        }
    }

    /// Whether the attempt counts against the job; if not, this machine's browsers are to blame.
    pub const fn is_charged(&self) -> bool {
        !matches!(self, Self::Full { .. } | Self::NoBrowser { .. } | Self::Stopping)
    }

    /// Whether the job is known to kill browsers: a dead letter at once, whatever attempts are left.
    pub const fn is_poison(&self) -> bool {
        matches!(self, Self::Poison { .. })
    }
}
