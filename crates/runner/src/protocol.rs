//! What a worker and its benchmark child say to each other: one JSON line there, one back, and between them lines
//! that say how far it is.
//!
//! Both ends are the same executable, so there are no versions here.

use std::path::PathBuf;

use messages::{Failure, FailureKind, StopReason};
use serde::{Deserialize, Serialize};

use crate::failure::failure;

/// Iterations that take less than this together, in milliseconds, may all fall into one moment in which something else
/// ran: many time slices of the kernel's scheduler, which has 3 ms.
const DURATION_MS_MIN: u64 = 100;

/// Longest request that a child reads, in bytes.
pub(crate) const REQUEST_BYTES_MAX: u64 = 1 << 20;

/// What the child is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Load ONNX Runtime and say its version.
    Probe {
        /// The shared library.
        library: PathBuf,
    },
    /// Measure.
    Benchmark(BenchmarkRequest),
}

/// How to measure one model at one shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct BenchmarkRequest {
    pub(crate) library: PathBuf,
    pub(crate) model: PathBuf,
    pub(crate) threads: usize,
    pub(crate) inputs: Vec<Input>,
    pub(crate) warmup_iterations: u32,
    pub(crate) stopping: StoppingRule,
    /// `None` where nobody knows it, or nobody wants it looked at.
    pub(crate) usual: Option<Usual>,
}

/// What the benchmark's threads do on a calm machine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Usual {
    /// Arithmetic of all its threads, in GFLOP/s.
    pub(crate) gflops: f64,
    /// Below this, in percent of it, the machine is not calm.
    pub(crate) pct_min: f64,
    /// Nor above this time, in ns, until one of its threads sees what another has written.
    pub(crate) handoff_ns_max: Option<f64>,
    /// Longest wait until it is calm, in milliseconds.
    pub(crate) wait_ms_max: u64,
}

/// One input tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) element: Element,
    pub(crate) dims: Vec<usize>,
    /// Exclusive upper bound of an integer input's values.
    pub(crate) value_max: u64,
}

/// Element types of inputs that we can fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Element {
    Float32,
    Float64,
    Int32,
    Int64,
    Uint8,
    Bool,
}

/// [`messages::StoppingRule`] as it travels here.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoppingRule {
    pub(crate) iterations_min: u32,
    pub(crate) iterations_max: u32,
    pub(crate) median_interval_pct: f64,
    pub(crate) duration_ms_max: u64,
}

impl From<StoppingRule> for messages::StoppingRule {
    fn from(rule: StoppingRule) -> Self {
        let StoppingRule { iterations_min, iterations_max, median_interval_pct, duration_ms_max } = rule;
        let duration_ms_min = DURATION_MS_MIN;
        Self { iterations_min, iterations_max, median_interval_pct, duration_ms_max, duration_ms_min }
    }
}

/// A line before the answer: how far the child is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Report {
    pub(crate) iterations_done: u32,
    pub(crate) iterations_max: u32,
}

/// What the child found.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// ONNX Runtime loads.
    Probe {
        /// Its version.
        version: String,
    },
    /// Measurements.
    Benchmark(Box<Measured>),
    /// There are none.
    Failed {
        /// A [`FailureKind`]'s word.
        kind: String,
        /// What happened.
        message: String,
        /// What would help.
        suggestion: Option<String>,
    },
}

impl Answer {
    /// A failure as the child sends it.
    pub(crate) fn failed(failure: Failure) -> Self {
        let Failure { kind, message, suggestion, .. } = failure;
        Self::Failed { kind: kind.as_str().to_owned(), message, suggestion }
    }

    /// A failure as the worker reports it.
    pub(crate) fn into_failure(kind: &str, message: String, suggestion: Option<String>) -> Failure {
        Failure { suggestion, ..failure(kind.parse().unwrap_or(FailureKind::BackendError), message) }
    }
}

/// Raw measurements of one benchmark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) iterations_ms: Vec<f64>,
    pub(crate) stop: Stop,
    pub(crate) load_ms: f64,
    pub(crate) memory_peak_mb: Option<f64>,
    pub(crate) power_w: Option<f64>,
    pub(crate) backend_version: String,
    pub(crate) seen: Seen,
}

/// What the machine was doing around and during the timed iterations; [`messages::Conditions`] says what each is.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) before: SeenState,
    pub(crate) after: SeenState,
    pub(crate) busy_elsewhere_cpus: Option<f64>,
    pub(crate) waited_pct: Option<f64>,
    pub(crate) stolen_pct: Option<f64>,
    pub(crate) arithmetic_pct: Option<f64>,
    pub(crate) handoff_ns: Option<f64>,
    pub(crate) throttle_events: Option<u64>,
}

/// [`messages::MachineState`] as it travels here.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct SeenState {
    pub(crate) clock_mhz: Option<f64>,
    pub(crate) temperature_c: Option<f64>,
    pub(crate) load_average: Option<f64>,
}

/// [`messages::StopReason`] as it travels here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stop {
    Converged,
    IterationLimit,
    TimeLimit,
}

impl From<StopReason> for Stop {
    fn from(reason: StopReason) -> Self {
        match reason {
            StopReason::Converged => Self::Converged,
            StopReason::IterationLimit => Self::IterationLimit,
            StopReason::TimeLimit => Self::TimeLimit,
        }
    }
}
