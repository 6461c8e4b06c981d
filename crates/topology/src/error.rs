//! What can be wrong with a topology or a plan.

use std::fmt::{self, Display};

use thiserror::Error;

use crate::{QueueKind, ServerVersion};

/// Why a topology could not be read.
#[derive(Debug, Error)]
pub enum TopologyError {
    /// The text is not YAML, or not of this shape.
    #[error("failed to read the topology at line {line}, column {column}")]
    Yaml {
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: u64,
        /// What the parser says.
        source: Box<serde_saphyr::Error>,
    },
    /// The file is of a version that this program does not know.
    #[error("the topology has version {found}; only version {expected} is known")]
    Version {
        /// What it says.
        found: u32,
        /// What is known.
        expected: u32,
    },
    /// It declares what cannot be right.
    #[error("the topology is invalid:{}", listed(problems))]
    Invalid {
        /// Everything that is wrong, in the file's order.
        problems: Vec<Problem>,
    },
}

/// One thing wrong with a topology.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The line of the entry at fault, from 1; 0 if something is missing altogether.
    pub line: u64,
    /// What is wrong.
    pub message: String,
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.message),
            line => write!(f, "line {line}: {}", self.message),
        }
    }
}

/// Why there is no plan.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    /// The text that the server gives as its version is none.
    #[error("`{text}` is not a version of RabbitMQ")]
    Version {
        /// The text.
        text: String,
    },
    /// The server is older than anything that Augur was tried with.
    #[error("RabbitMQ {version} is too old; {oldest} or later is needed")]
    TooOld {
        /// What the server is.
        version: ServerVersion,
        /// What it has to be.
        oldest: ServerVersion,
    },
    /// The server would ignore or reject arguments.
    #[error("RabbitMQ {version} does not know what the topology asks for:{}", listed(problems))]
    Arguments {
        /// What the server is.
        version: ServerVersion,
        /// All of them, in the topology's order.
        problems: Vec<ArgumentProblem>,
    },
    /// Nobody looked whether an object exists.
    #[error("`{name}` was not looked up on the server")]
    NotObserved {
        /// The object.
        name: String,
    },
}

/// An argument that a server would ignore or reject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgumentProblem {
    /// The queues that ask for it: the first, and how many more.
    pub queue: String,
    /// How many queues more have the same problem.
    pub more: usize,
    /// Their kind.
    pub kind: QueueKind,
    /// The argument, and its value where that is at fault.
    pub argument: String,
    /// Why, with the version that learns or loses it.
    pub reason: String,
}

impl Display for ArgumentProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} queue `{}`", self.kind.as_str(), self.queue)?;
        if self.more > 0 {
            write!(f, " and {} more", self.more)?;
        }
        write!(f, ": `{}` {}", self.argument, self.reason)
    }
}

fn listed(problems: &[impl Display]) -> String {
    problems.iter().fold(String::new(), |list, problem| format!("{list}\n  {problem}"))
}
