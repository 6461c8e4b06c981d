//! One unit of work on a queue.

use crate::{Configuration, Dispatch, JobId, Origin, Platform, Prediction, Priority, RunId, Timestamp, WebSpec};

/// The run that a job belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRef {
    /// The run.
    pub run_id: RunId,
    /// Name of the suite.
    pub suite: String,
    /// Jobs in the run, so that its end is known from results alone.
    pub jobs_total: u32,
    /// Who asked for it.
    pub origin: Origin,
}

/// A job as it travels and as it is stored beside its result.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Names the job.
    pub job_id: JobId,
    /// The run that it belongs to.
    pub run: RunRef,
    /// Name of the case in the suite.
    pub case: String,
    /// The lane.
    pub priority: Priority,
    /// The kind of execution target that must run it.
    pub platform: Platform,
    /// When the producer published it.
    pub submitted_at: Timestamp,
    /// How long one attempt may take, in milliseconds (ours; not RabbitMQ's acknowledgement timeout).
    pub timeout_ms: u64,
    /// To whom, when and how often it is handed out.
    pub dispatch: Dispatch,
    /// What to do.
    pub spec: JobSpec,
}

/// What a job does.
#[derive(Debug, Clone, PartialEq)]
pub enum JobSpec {
    /// Runs a test through a profile that the worker's settings define.
    Test(TestSpec),
    /// Measures one configuration.
    Benchmark(Box<BenchmarkSpec>),
    /// Measures one configuration in a browser.
    Web(Box<WebSpec>),
}

impl JobSpec {
    /// What is to be measured, natively or in a browser; `None` for a test.
    pub fn benchmark(&self) -> Option<&BenchmarkSpec> {
        match self {
            Self::Test(_) => None,
            Self::Benchmark(benchmark) => Some(benchmark),
            Self::Web(web) => Some(&web.benchmark),
        }
    }

    /// As [`Self::benchmark`], to be changed.
    pub fn benchmark_mut(&mut self) -> Option<&mut BenchmarkSpec> {
        match self {
            Self::Test(_) => None,
            Self::Benchmark(benchmark) => Some(benchmark),
            Self::Web(web) => Some(&mut web.benchmark),
        }
    }
}

/// The kinds of jobs, as routing keys and tables write them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobKind {
    /// See [`JobSpec::Test`].
    Test,
    /// See [`JobSpec::Benchmark`].
    Benchmark,
    /// See [`JobSpec::Web`].
    Web,
}

impl JobKind {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Benchmark => "benchmark",
            Self::Web => "web",
        }
    }
}

/// A test, named and never spelt out: no command line, no path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TestSpec {
    /// A runner profile of the worker's settings, e.g. `pytest`.
    pub profile: String,
    /// Test module, where the profile takes one.
    pub module: Option<String>,
    /// Test class, where the profile takes one.
    pub class: Option<String>,
    /// Test method or function, where the profile takes one.
    pub method: Option<String>,
}

/// How to measure a configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct BenchmarkSpec {
    /// What to measure.
    pub configuration: Configuration,
    /// Untimed iterations before the first timed one.
    pub warmup_iterations: u32,
    /// Fewest timed iterations.
    pub iterations_min: u32,
    /// Most timed iterations; they stop earlier once the median is known well enough.
    pub iterations_max: u32,
    /// Stop once the 95 % confidence interval of the median is narrower than this share of it, in percent.
    pub median_interval_pct: f64,
    /// Start no new iteration after this long, in milliseconds.
    pub duration_ms_max: u64,
    /// What was predicted before measuring, to be held against the result.
    pub prediction: Option<Prediction>,
}

impl BenchmarkSpec {
    /// Most timed iterations that any job may ask for; raw iterations travel with the result.
    pub const ITERATIONS_LIMIT: u32 = 10_000;

    /// Usual settings for `configuration`: 3 warm-ups, 5 to 100 iterations, ±2.5 % of the median, 5 s.
    pub fn usual(configuration: Configuration) -> Self {
        Self {
            configuration,
            warmup_iterations: 3,
            iterations_min: 5,
            iterations_max: 100,
            median_interval_pct: 5.0,
            duration_ms_max: 5_000,
            prediction: None,
        }
    }
}

impl Job {
    /// Longest attempt that a job may ask for, in milliseconds: one day.
    pub const TIMEOUT_MS_LIMIT: u64 = 24 * 60 * 60 * 1_000;

    /// Which kind of job this is.
    pub fn kind(&self) -> JobKind {
        match self.spec {
            JobSpec::Test(_) => JobKind::Test,
            JobSpec::Benchmark(_) => JobKind::Benchmark,
            JobSpec::Web(_) => JobKind::Web,
        }
    }

    /// The routing key on the `jobs` exchange: `<platform>.<priority>`, one lane each.
    pub fn routing_key(&self) -> String {
        format!("{}.{}", self.platform, self.priority)
    }
}
