//! What can go wrong with a private node.

use std::{io, path::PathBuf};

use thiserror::Error;

/// Why a private node could not be had, or did not do as told.
#[derive(Debug, Error)]
pub enum PrivateNodeError {
    /// There is no RabbitMQ on this machine.
    #[error("no RabbitMQ at {path}; install the package rabbitmq-server")]
    NotInstalled {
        /// The script that is missing.
        path: PathBuf,
    },
    /// Its directory could not be prepared.
    #[error("failed to write {path}")]
    Directory {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A program could not be started or talked to.
    #[error("failed to run {program}")]
    Run {
        /// The program.
        program: String,
        /// What the system says.
        source: io::Error,
    },
    /// The node ended while it started.
    #[error("the RabbitMQ node ended while it started; its log ends with:\n{log}")]
    Ended {
        /// The end of its log.
        log: String,
    },
    /// The node took too long.
    #[error("the RabbitMQ node was not ready after {waited_s} s; its log ends with:\n{log}")]
    TooSlow {
        /// How long was waited, in seconds.
        waited_s: u64,
        /// The end of its log.
        log: String,
    },
    /// A tool of RabbitMQ failed.
    #[error("{command} failed:\n{output}")]
    Tool {
        /// What was run.
        command: String,
        /// What it printed.
        output: String,
    },
    /// An alarm did not come or go.
    #[error("the {resource} alarm of the RabbitMQ node is not as wanted after {waited_ms} ms")]
    Alarm {
        /// `memory` or `disk`.
        resource: &'static str,
        /// How long was waited, in milliseconds.
        waited_ms: u64,
    },
    /// A node answered something else than what was asked.
    #[error("the RabbitMQ node answered `{answer}`; a number was expected")]
    Answer {
        /// What it answered.
        answer: String,
    },
    /// The node is stopped.
    #[error("the RabbitMQ node is not running")]
    NotRunning,
}

pub(super) fn failed_to_run(program: &str, source: io::Error) -> PrivateNodeError {
    PrivateNodeError::Run { program: program.to_owned(), source }
}
