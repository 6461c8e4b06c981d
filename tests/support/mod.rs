//! One Augur of a test's own: virtual host, state directory, settings, daemons and commands of the real binary.
//!
//! Nothing here sleeps. Whatever is waited for announces itself (a line on stderr, a line in a pipe, the end of a
//! process), and every wait ends after [`LIMIT`].

#![allow(dead_code, reason = "each test binary uses its own part of this")]

mod holds;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, Once},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use testkit::{AugurProcess, PrivateNode, Vhost, shared_vhost};

pub(crate) use holds::Holds;

/// How long anything that a test waits for may take; reached only by a failing test.
pub(crate) const LIMIT: Duration = Duration::from_mins(2);
/// The same for a command, as `timeout` spells it.
const COMMAND_MAX: &str = "360s";

/// The program under test.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_augur"))
}

/// An Augur of a test's own. Daemons started from it must be dropped before it, as local variables are.
#[derive(Debug)]
pub(crate) struct World {
    directory: TempDir,
    url: String,
    environment: Mutex<Vec<(String, String)>>,
    holds: Holds,
    vhost: Option<Vhost>,
}

/// How a command ended and what it said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Answer {
    /// Standard output of a command that must have ended with this exit code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self.stdout
    }

    /// The JSON on standard output of a command that must have ended with exit code 0.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        let text = self.expect(0);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in\n{text}"))
    }
}

impl World {
    /// In a virtual host of its own on the shared node, with the topology applied.
    pub(crate) fn new() -> Self {
        let vhost = shared_vhost().expect("a virtual host");
        let world = Self::bare(&vhost.url(), Some(vhost));
        world.augur(&["topology", "apply"]).expect(0);
        world
    }

    /// With this broker, on which nothing is declared yet.
    pub(crate) fn bare(url: &str, vhost: Option<Vhost>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let (holds, profile) = Holds::new(&directory.path().join("hold"));
        let settings = directory.path().join("test.toml");
        std::fs::write(&settings, profile).expect("settings");
        let world = Self { url: url.to_owned(), environment: Mutex::default(), holds, vhost, directory };
        world.set("AUGUR_SETTINGS", &settings.display().to_string());
        world.set("AUGUR_AMQP_URL", url);
        world.make_cache();
        world.set("AUGUR_STATE_DIRECTORY", &world.path("state").display().to_string());
        world.set("AUGUR_UPDATER__QUIET_S", "1");
        // Tests run beside each other: what they measure is disturbed, and must count all the same.
        world.set("AUGUR_WORKER__WAITED_PCT_MAX", "100");
        world.set("AUGUR_WORKER__ARITHMETIC_PCT_MIN", "0");
        world.set("NO_COLOR", "1");
        world
    }

    /// Its cache: this machine's measured peaks and library, but models and device leases of its own, so that tests
    /// neither wait for each other's benchmarks nor for those of an Augur at work.
    pub(crate) fn cache(&self) -> PathBuf {
        self.path("cache")
    }

    fn make_cache(&self) {
        let machine = machine_cache();
        std::fs::create_dir_all(self.cache()).expect("a directory");
        std::fs::copy(measured_peaks(), self.cache().join("hardware.json")).expect("copied");
        self.set("AUGUR_CACHE_DIRECTORY", &self.cache().display().to_string());
        if std::env::var_os("AUGUR_ONNXRUNTIME_LIBRARY").is_none() {
            let library = machine.join("lib/libonnxruntime.so");
            self.set("AUGUR_ONNXRUNTIME_LIBRARY", &library.display().to_string());
        }
    }

    /// Sets an environment variable of all later commands and daemons.
    pub(crate) fn set(&self, variable: &str, value: &str) {
        let mut environment = self.environment.lock().expect("not poisoned");
        environment.retain(|(name, _)| name != variable);
        environment.push((variable.to_owned(), value.to_owned()));
    }

    /// The shared node that its virtual host is on, and the virtual host's name.
    #[track_caller]
    pub(crate) fn node(&self) -> (&'static PrivateNode, &str) {
        let vhost = self.vhost.as_ref().expect("a virtual host of the shared node");
        (vhost.node(), vhost.name())
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A path in its directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file into its directory.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    }

    /// Runs a command to its end.
    #[track_caller]
    pub(crate) fn augur(&self, arguments: &[&str]) -> Answer {
        let environment = self.environment.lock().expect("not poisoned").clone();
        let output = Command::new("timeout")
            .args(["--kill-after=5s", COMMAND_MAX])
            .arg(binary())
            .args(arguments)
            .envs(environment)
            .current_dir(self.directory.path())
            .output()
            .expect("timeout of coreutils");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Answer { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Starts a program that goes on; `name` is that of its log files.
    #[track_caller]
    pub(crate) fn spawn(&self, name: &str, arguments: &[&str]) -> AugurProcess {
        let environment = self.environment.lock().expect("not poisoned").clone();
        let environment: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        AugurProcess::spawn(name, binary(), arguments, &environment, self.directory.path()).expect("started")
    }

    /// Starts an aggregator and makes it the one that commands ask.
    #[track_caller]
    pub(crate) fn aggregator(&self) -> AugurProcess {
        let mut aggregator = self.spawn("aggregator", &["aggregator", "start", "--listen", "127.0.0.1:0"]);
        let line = aggregator.wait_for_line("HTTP API at ", LIMIT).expect("it listens");
        let address = line.split("HTTP API at ").nth(1).and_then(|rest| rest.split_whitespace().next());
        self.set("AUGUR_AGGREGATOR_URL", address.expect("an address").trim_end_matches('/'));
        aggregator.wait_for_line("aggregator ready", LIMIT).expect("ready");
        aggregator
    }

    /// Starts an updater.
    #[track_caller]
    pub(crate) fn updater(&self) -> AugurProcess {
        let mut updater = self.spawn("updater", &["updater", "start"]);
        updater.wait_for_line("updater ready", LIMIT).expect("ready");
        updater
    }

    /// Starts a worker with this name; `arguments` come behind `worker start --name NAME`.
    #[track_caller]
    pub(crate) fn worker(&self, name: &str, arguments: &[&str]) -> AugurProcess {
        let mut worker = self.spawn(name, &[&["worker", "start", "--name", name], arguments].concat());
        worker.wait_for_line("worker ready", LIMIT).expect("ready");
        worker
    }

    /// Submits a suite of these benchmarks and tests; returns the run's id.
    #[track_caller]
    pub(crate) fn submit(&self, cases: &str) -> String {
        let file = self.write("suite.yaml", &format!("version: 1\nname: test\n{cases}\n"));
        self.augur(&["suite", "submit", &file]).expect(0).trim().to_owned()
    }

    /// Submits one job of the profile `hold`; returns job and run.
    #[track_caller]
    pub(crate) fn submit_hold(&self, name: &str) -> (String, String) {
        let arguments = ["job", "submit", "--kind", "test", "--profile", "hold", "--method", name, "--format", "json"];
        let answer = self.augur(&arguments).json();
        (text(&answer, "job_id").to_owned(), text(&answer, "run_id").to_owned())
    }

    /// Waits until every job of a run is counted, then returns its summary.
    #[track_caller]
    pub(crate) fn complete(&self, run: &str) -> Value {
        let waited = self.augur(&["run", "wait", run, "--timeout-s", "300"]);
        assert!(matches!(waited.code, Some(0 | 1)), "{waited:?}");
        self.augur(&["run", "show", run, "--format", "json"]).json()
    }

    /// The results of a run.
    #[track_caller]
    pub(crate) fn results(&self, run: &str) -> Vec<Value> {
        match self.augur(&["run", "results", run, "--format", "json"]).json() {
            Value::Array(rows) => rows,
            other => panic!("{other} is no list"),
        }
    }

    /// Jobs that run until the test lets them go.
    pub(crate) fn holds(&self) -> &Holds {
        &self.holds
    }
}

/// Runs what the test itself does with the broker.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(LIMIT, work).await.expect("within the limit") })
}

/// A text field of a JSON object.
#[track_caller]
pub(crate) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no text `{field}` in {value:#}"))
}

/// Asserts that a run has this many jobs, all counted, and this many of each end: passed, failed, error, cancelled.
#[track_caller]
pub(crate) fn assert_counts(summary: &Value, jobs: u64, ends: [u64; 4]) {
    let count = |field: &str| summary[field].as_u64().unwrap_or_else(|| panic!("no number `{field}` in {summary:#}"));
    assert_eq!((count("jobs_total"), count("done")), (jobs, jobs), "{summary:#}");
    assert_eq!(["passed", "failed", "error", "cancelled"].map(count), ends, "{summary:#}");
}

/// The file of this machine's measured peaks; the first caller measures them where nobody has yet, for seconds.
fn measured_peaks() -> PathBuf {
    static MEASURED: Once = Once::new();
    let file = machine_cache().join("hardware.json");
    MEASURED.call_once(|| {
        if !file.is_file() {
            let detected = Command::new(binary()).args(["device", "detect"]).output().expect("started");
            assert!(detected.status.success(), "{}", String::from_utf8_lossy(&detected.stderr));
        }
    });
    file
}

/// Where this machine keeps models, peaks and libraries.
pub(crate) fn machine_cache() -> PathBuf {
    let set = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("AUGUR_CACHE_DIRECTORY").unwrap_or_else(|| {
        let base = set("XDG_CACHE_HOME").unwrap_or_else(|| set("HOME").expect("HOME is set").join(".cache"));
        base.join("augur")
    })
}
