//! How a job ended.

use std::{borrow::Cow, fmt, str::FromStr};

use crate::{Conditions, Configuration, Device, GraphCosts, Job, Timestamp, UnknownWord, Warmth, WebOutcome, WorkerId};

/// The outcome of a job with all that is needed to store it: replaying results needs nothing else.
#[derive(Debug, Clone, PartialEq)]
pub struct JobResult {
    /// The job itself.
    pub job: Job,
    /// Which attempt this was, counted from 1 by us.
    pub attempt: u32,
    /// Who ran it.
    pub worker_id: WorkerId,
    /// On what; `None` where no device took part (a test, a job refused before it ran).
    pub device: Option<Device>,
    /// When the attempt began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Measurements.
    Benchmark(Box<BenchmarkOutcome>),
    /// Measurements of a browser.
    Web(Box<WebOutcome>),
    /// A test ran to its end, passed or not.
    Test(TestOutcome),
    /// There is neither.
    Failed(Failure),
}

impl Outcome {
    /// What was measured, natively or in a browser; `None` if nothing was.
    pub fn benchmark(&self) -> Option<&BenchmarkOutcome> {
        match self {
            Self::Benchmark(benchmark) => Some(benchmark),
            Self::Web(web) => Some(&web.benchmark),
            Self::Test(_) | Self::Failed(_) => None,
        }
    }

    /// What it took to load the model, in milliseconds; `None` if nothing was measured, or a browser had the model's
    /// session already.
    pub fn load_ms(&self) -> Option<f64> {
        match self {
            Self::Web(web) if web.warmth == Warmth::WarmModel => None,
            outcome => Some(outcome.benchmark()?.load_ms),
        }
    }
}

/// How a job ended, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Measured, or every test passed.
    Passed,
    /// The tests ran and some failed.
    Failed,
    /// Neither measured nor tested; the failure says why.
    Error,
    /// Cancelled by someone.
    Cancelled,
}

impl Status {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl JobResult {
    /// The outcome in one word.
    pub fn status(&self) -> Status {
        match &self.outcome {
            Outcome::Benchmark(_) | Outcome::Web(_) => Status::Passed,
            Outcome::Test(test) => test.status(),
            Outcome::Failed(failure) if failure.kind == FailureKind::Cancelled => Status::Cancelled,
            Outcome::Failed(_) => Status::Error,
        }
    }

    /// The configuration that was measured, or that was to be: a browser says which platform, browser and number of
    /// threads it was. `None` for a test.
    pub fn configuration(&self) -> Option<Cow<'_, Configuration>> {
        let asked = &self.job.spec.benchmark()?.configuration;
        Some(match &self.outcome {
            Outcome::Web(web) => Cow::Owned(web.configuration(asked)),
            Outcome::Benchmark(_) | Outcome::Test(_) | Outcome::Failed(_) => Cow::Borrowed(asked),
        })
    }
}

/// Times of the timed iterations, in milliseconds per batch.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencySummary {
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Each iteration, in order.
    pub iterations: Vec<f64>,
}

impl LatencySummary {
    /// Summarises timed iterations; percentiles interpolate linearly between ranks.
    ///
    /// `None` if there are no iterations or one is not a positive number.
    pub fn from_iterations(iterations: Vec<f64>) -> Option<Self> {
        if iterations.is_empty() || !iterations.iter().all(|ms| ms.is_finite() && *ms > 0.0) {
            return None;
        }
        let mut sorted = iterations.clone();
        sorted.sort_by(f64::total_cmp);
        let quantile = |q: f64| {
            let rank = q * (sorted.len() - 1) as f64;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank is within the length")]
            let below = rank.floor() as usize;
            let above = (below + 1).min(sorted.len() - 1);
            sorted[below] + (sorted[above] - sorted[below]) * (rank - below as f64)
        };
        Some(Self {
            mean: sorted.iter().sum::<f64>() / sorted.len() as f64,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            iterations,
        })
    }
}

/// Why the timed iterations stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// The median's confidence interval is narrow enough.
    Converged,
    /// The most iterations allowed were done.
    IterationLimit,
    /// The longest duration allowed was over.
    TimeLimit,
}

impl StopReason {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Converged => "converged",
            Self::IterationLimit => "iteration-limit",
            Self::TimeLimit => "time-limit",
        }
    }
}

/// What a benchmark measured.
#[derive(Debug, Clone, PartialEq)]
pub struct BenchmarkOutcome {
    /// Time per batch.
    pub latency_ms: LatencySummary,
    /// Items per second at the median latency.
    pub throughput_items_per_second: f64,
    /// Largest resident memory of the job's own process, in MB (10^6 bytes).
    pub memory_peak_mb: Option<f64>,
    /// Mean power, in watts.
    pub power_w: Option<f64>,
    /// Time to read the model and create its session, in milliseconds; 0 where a browser had the session already.
    pub load_ms: f64,
    /// Untimed iterations done.
    pub warmup_iterations: u32,
    /// Why the iterations stopped.
    pub stop: StopReason,
    /// Version of the backend.
    pub backend_version: String,
    /// The model's costs at this shape.
    pub costs: GraphCosts,
    /// What the machine was doing meanwhile; `None` if nobody looked.
    pub conditions: Option<Conditions>,
}

/// How one test case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TestCaseStatus {
    /// It passed.
    Passed,
    /// An assertion failed.
    Failed,
    /// It broke.
    Error,
    /// It was not run.
    Skipped,
}

impl TestCaseStatus {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Error => "error",
            Self::Skipped => "skipped",
        }
    }
}

/// One test case of a test job.
#[derive(Debug, Clone, PartialEq)]
pub struct TestCase {
    /// Module, as the framework reports it.
    pub module: Option<String>,
    /// Class, as the framework reports it.
    pub class: Option<String>,
    /// Function or method.
    pub name: String,
    /// How it ended.
    pub status: TestCaseStatus,
    /// How long it took, in seconds.
    pub duration_s: f64,
    /// What the framework says of a failure.
    pub message: Option<String>,
    /// The trace of a failure.
    pub traceback: Option<String>,
}

/// What a test job found.
#[derive(Debug, Clone, PartialEq)]
pub struct TestOutcome {
    /// The process's exit code; `None` if a signal ended it.
    pub exit_code: Option<i32>,
    /// The cases, if the profile reports them.
    pub cases: Vec<TestCase>,
    /// The end of what it printed, bounded.
    pub output_tail: String,
}

impl TestOutcome {
    /// Most cases that one result carries.
    pub const CASES_MAX: usize = 2_000;

    /// Passed only if the process said so and no case says otherwise.
    pub fn status(&self) -> Status {
        let broken = |case: &TestCase| matches!(case.status, TestCaseStatus::Failed | TestCaseStatus::Error);
        if self.exit_code == Some(0) && !self.cases.iter().any(broken) { Status::Passed } else { Status::Failed }
    }
}

/// Why an attempt gave neither measurements nor a test's outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// What happened, for people.
    pub message: String,
    /// The end of what the job's process printed, bounded.
    pub output_tail: String,
    /// What would help, where that is known.
    pub suggestion: Option<String>,
}

macro_rules! failure_kinds {
    ($($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)?) => {
        /// Kinds of failure, as tables and messages write them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum FailureKind {
            $($(#[$doc])* $variant),+
        }

        impl FailureKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word for it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl FromStr for FailureKind {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(UnknownWord {
                        kind: "failure kind",
                        found: text.to_owned(),
                        known: [$($word),+].join(", "),
                    }),
                }
            }
        }
    };
}

failure_kinds!(
    /// This machine lacks what the job needs.
    Unavailable = "unavailable",
    /// The job asks for something that cannot be.
    InvalidJob = "invalid-job",
    /// The model is not on this machine and cannot be built.
    ModelMissing = "model-missing",
    /// The model's file is not what its hash says, or not an ONNX model.
    ModelCorrupt = "model-corrupt",
    /// The backend refused or failed.
    BackendError = "backend-error",
    /// The job's process died.
    Crashed = "crashed",
    /// The job's process was killed for want of memory.
    OutOfMemory = "out-of-memory",
    /// The attempt took longer than its timeout.
    TimedOut = "timed-out",
    /// Someone cancelled it.
    Cancelled = "cancelled",
    /// The machine failed (disk, process table).
    Machine = "machine",
    /// The worker was not heard of again.
    WorkerLost = "worker-lost",
);

impl FailureKind {
    /// Whether another attempt may end differently; the others are answers.
    pub const fn is_retryable(self) -> bool {
        match self {
            Self::Crashed | Self::OutOfMemory | Self::TimedOut | Self::Machine | Self::WorkerLost => true,
            Self::Unavailable
            | Self::InvalidJob
            | Self::ModelMissing
            | Self::ModelCorrupt
            | Self::BackendError
            | Self::Cancelled => false,
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_interpolate() {
        let summary = LatencySummary::from_iterations((1..=11).map(f64::from).collect()).expect("valid");
        assert_eq!((summary.mean, summary.p50, summary.p90), (6.0, 6.0, 10.0));
        assert!((summary.p99 - 10.9).abs() < 1e-12);
    }

    #[test]
    fn no_summary_of_nothing_or_nonsense() {
        for bad in [vec![], vec![1.0, f64::NAN], vec![0.0], vec![-1.0]] {
            assert_eq!(LatencySummary::from_iterations(bad), None);
        }
    }
}
