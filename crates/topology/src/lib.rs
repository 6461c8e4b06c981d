//! `queues.yaml` as checked types, and the plan of what to declare on a broker.
//!
//! [`Topology`] is the file expanded and checked; [`plan`] holds it against what a server of a known version has.
//! Nothing here talks to a broker: the crate `broker` observes, and applies the steps of a [`Plan`] in their order.

mod arguments;
mod check;
mod error;
mod expand;
mod file;
pub mod names;
mod plan;
mod version;

use std::collections::BTreeMap;

pub use error::{ArgumentProblem, PlanError, Problem, TopologyError};
pub use plan::{Action, Observed, ObservedState, Plan, Step, StepObject, plan};
pub use version::ServerVersion;

/// The longest name of an exchange or a queue, in bytes (an AMQP short string).
pub const NAME_BYTES_MAX: usize = 255;

/// Everything that Augur declares, expanded and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// The exchanges, in the file's order.
    pub exchanges: Vec<Exchange>,
    /// The queues, in the file's order.
    pub queues: Vec<Queue>,
    /// The bindings, in the order of their queues.
    pub bindings: Vec<Binding>,
}

/// A durable exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Its name.
    pub name: String,
    /// How it routes.
    pub kind: ExchangeKind,
    /// Where messages go that it cannot route.
    pub alternate_exchange: Option<String>,
}

/// How an exchange routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExchangeKind {
    /// By pattern.
    Topic,
    /// By equal routing key.
    Direct,
    /// To every bound queue.
    Fanout,
    /// By headers.
    Headers,
}

impl ExchangeKind {
    /// The word as AMQP spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Headers => "headers",
        }
    }
}

/// A durable queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// How it stores messages.
    pub kind: QueueKind,
    /// Its arguments, `x-queue-type` among them; durations in milliseconds, sizes in bytes.
    pub arguments: BTreeMap<String, ArgumentValue>,
}

/// How a queue stores messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueKind {
    /// Replicated, for jobs.
    Quorum,
    /// On one node.
    Classic,
    /// Append-only and replayable.
    Stream,
}

impl QueueKind {
    /// The word as `x-queue-type` spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Classic => "classic",
            Self::Stream => "stream",
        }
    }
}

/// The value of a queue's argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArgumentValue {
    /// A signed 64-bit integer.
    Int(i64),
    /// A long string.
    Text(String),
    /// A boolean.
    Bool(bool),
}

impl std::fmt::Display for ArgumentValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Int(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
            Self::Bool(value) => value.fmt(f),
        }
    }
}

/// What an exchange sends to a queue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    /// From here.
    pub exchange: String,
    /// To here.
    pub queue: String,
    /// The key or the pattern; empty where the exchange ignores it.
    pub routing_key: String,
}

/// A queue in which a job waits before it is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelayLane {
    /// Publish here, under the job's own routing key.
    pub exchange: String,
    /// Where the job waits.
    pub queue: String,
    /// How long it waits, in milliseconds.
    pub delay_ms: u64,
}

impl Topology {
    /// Reads, expands and checks a topology.
    ///
    /// # Errors
    ///
    /// [`TopologyError::Yaml`] if the text is not YAML of this shape (the line is named),
    /// [`TopologyError::Version`] if it is of another version, and [`TopologyError::Invalid`] with everything that is
    /// wrong with what it declares.
    pub fn from_yaml(text: &str) -> Result<Self, TopologyError> {
        let file = file::read(text)?;
        let (topology, lines) = expand::expand(&file)?;
        check::check(&topology, &lines)?;
        Ok(topology)
    }

    /// The `queues.yaml` that this program was built with.
    ///
    /// # Errors
    ///
    /// As [`Topology::from_yaml`]; a test keeps the embedded file correct.
    pub fn embedded() -> Result<Self, TopologyError> {
        Self::from_yaml(Self::EMBEDDED_YAML)
    }

    /// The text of the embedded `queues.yaml`.
    pub const EMBEDDED_YAML: &str = include_str!("../../../queues.yaml");

    /// The delay lanes, shortest delay first.
    pub fn delay_lanes(&self) -> Vec<DelayLane> {
        let mut lanes: Vec<_> = self.queues.iter().filter_map(|queue| self.delay_lane(queue)).collect();
        lanes.sort_by_key(|lane| lane.delay_ms);
        lanes
    }

    fn delay_lane(&self, queue: &Queue) -> Option<DelayLane> {
        let due = ArgumentValue::Text(names::JOBS_DUE.to_owned());
        if queue.arguments.get("x-dead-letter-exchange") != Some(&due) {
            return None;
        }
        let Some(ArgumentValue::Int(delay_ms)) = queue.arguments.get("x-message-ttl") else { return None };
        let binding = self.bindings.iter().find(|binding| binding.queue == queue.name)?;
        Some(DelayLane {
            exchange: binding.exchange.clone(),
            queue: queue.name.clone(),
            delay_ms: u64::try_from(*delay_ms).ok()?,
        })
    }
}

#[cfg(test)]
mod tests;
