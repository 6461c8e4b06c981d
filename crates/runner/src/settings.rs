//! What the worker's settings decide about jobs: a job names a profile and never a command or a path.

use std::{collections::BTreeMap, path::PathBuf};

/// What a runner needs to know about its machine.
#[derive(Debug, Clone)]
pub struct RunnerSettings {
    /// The executable whose subcommand [`BENCHMARK_SUBCOMMAND`](crate::BENCHMARK_SUBCOMMAND) is
    /// [`benchmark_child`](crate::benchmark_child): augur itself.
    pub executable: PathBuf,
    /// ONNX Runtime's shared library, an absolute path; without it benchmarks are unavailable.
    pub onnxruntime_library: Option<PathBuf>,
    /// Where model files are.
    pub models: graphs::ModelCache,
    /// Where every worker of this machine locks its devices.
    pub lease_directory: PathBuf,
    /// Profiles of test jobs by name.
    pub profiles: BTreeMap<String, Profile>,
    /// Most bytes of a process's output that a result carries.
    pub output_tail_bytes_max: usize,
    /// Most memory that a job's process may allocate, in MB (10^6 bytes); unlimited if `None`.
    pub child_memory_mb_max: Option<u64>,
    /// Share of its time, in percent, that a benchmark may wait for a processor; beyond it the measurement is marked as
    /// disturbed.
    pub waited_pct_max: f64,
    /// Share of the device's peak, in percent, that a benchmark's threads have to reach in arithmetic of their own around
    /// it; the benchmark waits for that a while, and is marked as disturbed below it. 0 never looks.
    pub arithmetic_pct_min: f64,
    /// Time until the next of all the processor's threads sees what one has written, in ns, as a rule; `None` if unknown.
    pub handoff_ns: Option<f64>,
}

impl RunnerSettings {
    /// Usual value of [`Self::output_tail_bytes_max`].
    pub const OUTPUT_TAIL_BYTES_MAX: usize = 16 * 1024;
    /// Usual value of [`Self::waited_pct_max`]: half, by which the mean doubles. Of a single thread
    /// that waited 31 % of its time the median was the same to 2 %; of two threads that waited 80 % it was 1.8 times as
    /// large as at 52 %.
    pub const WAITED_PCT_MAX: f64 = 50.0;
    /// Usual value of [`Self::arithmetic_pct_min`]: two threads that share a core do half, which makes models with two
    /// threads take 1.5 to 1.7 times as long, and a processor that nothing disturbed did 95 to 101 %.
    pub const ARITHMETIC_PCT_MIN: f64 = 75.0;
}

/// How the test jobs that name this profile are run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The kind of test runner.
    pub runner: ProfileRunner,
    /// Whether jobs may use it.
    pub enabled: bool,
    /// The program, if not the runner's usual one; [`ProfileRunner::Command`] has no usual one.
    pub program: Option<PathBuf>,
    /// Arguments put before those that the runner adds for the job's selectors.
    pub arguments: Vec<String>,
    /// Where it runs; the worker's own directory if `None`.
    pub working_directory: Option<PathBuf>,
    /// Variables added to the worker's environment (without its `AUGUR_…` variables, which may hold secrets).
    pub environment: BTreeMap<String, String>,
    /// Ends the test earlier than the job's own timeout would, in milliseconds.
    pub timeout_ms_max: Option<u64>,
}

impl Profile {
    /// A profile of this kind with nothing else set: enabled unless it is [`ProfileRunner::Command`].
    pub fn usual(runner: ProfileRunner) -> Self {
        Self {
            runner,
            enabled: runner != ProfileRunner::Command,
            program: None,
            arguments: Vec::new(),
            working_directory: None,
            environment: BTreeMap::new(),
            timeout_ms_max: None,
        }
    }
}

/// Kinds of test runners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProfileRunner {
    /// `python3 -m pytest`; module, class and method become a node id.
    Pytest,
    /// `cargo nextest run`; module is the package, class the path of the test module, method the test.
    CargoNextest,
    /// The profile's own command; selectors arrive as `AUGUR_TEST_MODULE`, `AUGUR_TEST_CLASS`, `AUGUR_TEST_METHOD`.
    Command,
    /// Passes at once without a process: measures the pipeline itself, not any code under test.
    Noop,
}
