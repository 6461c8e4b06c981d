//! Builds runners and jobs for the tests.

#![allow(dead_code, reason = "each test file is a crate of its own and uses its part of this")]

use std::{collections::BTreeMap, path::PathBuf};

use messages::{
    Device, Dispatch, Failure, Job, JobId, JobSpec, Origin, Outcome, Platform, Priority, RunId, RunRef, TestSpec,
    Timestamp,
};
use runner::{Execution, Profile, ProfileRunner, RunnerSettings};
use tempfile::TempDir;

/// A directory with all that a runner writes.
pub(crate) struct Workplace {
    pub(crate) directory: TempDir,
}

impl Workplace {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("temporary directory") }
    }

    pub(crate) fn settings(&self) -> RunnerSettings {
        let pytest = Profile::usual(ProfileRunner::Pytest);
        RunnerSettings {
            executable: child(),
            onnxruntime_library: std::env::var_os("AUGUR_ONNXRUNTIME_LIBRARY").map(PathBuf::from),
            models: graphs::ModelCache::open(&self.directory.path().join("models")).expect("a model cache"),
            lease_directory: self.directory.path().join("leases"),
            profiles: BTreeMap::from([
                ("command".to_owned(), Profile::usual(ProfileRunner::Command)),
                ("noop".to_owned(), Profile::usual(ProfileRunner::Noop)),
                ("pytest".to_owned(), pytest),
            ]),
            output_tail_bytes_max: RunnerSettings::OUTPUT_TAIL_BYTES_MAX,
            child_memory_mb_max: None,
            waited_pct_max: RunnerSettings::WAITED_PCT_MAX,
            arithmetic_pct_min: 0.0,
            handoff_ns: None,
        }
    }

    /// Settings whose profile `script` runs a shell script in the directory.
    pub(crate) fn settings_with_script(&self, script: &str) -> RunnerSettings {
        let profile = Profile {
            enabled: true,
            program: Some("sh".into()),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            working_directory: Some(self.directory.path().to_owned()),
            ..Profile::usual(ProfileRunner::Command)
        };
        let mut settings = self.settings();
        settings.profiles.insert("script".to_owned(), profile);
        settings
    }
}

/// The example that stands for `augur`, which `cargo test` builds beside the tests.
pub(crate) fn child() -> PathBuf {
    let test = std::env::current_exe().expect("own path");
    let profile_directory = test.parent().and_then(|deps| deps.parent()).expect("target directory");
    let child = profile_directory.join("examples/benchmark_child");
    assert!(child.exists(), "`{}` is missing: run `cargo test -p runner` without naming targets", child.display());
    child
}

pub(crate) fn processor() -> Vec<Device> {
    vec![Device::unknown("test processor", Platform::Cpu)]
}

pub(crate) fn job(spec: JobSpec) -> Job {
    Job {
        job_id: JobId::new(),
        run: RunRef { run_id: RunId::new(), suite: "test".to_owned(), jobs_total: 1, origin: Origin::Client },
        case: "case".to_owned(),
        priority: Priority::Normal,
        platform: Platform::Cpu,
        submitted_at: Timestamp::now(),
        timeout_ms: 300_000,
        dispatch: Dispatch::default(),
        spec,
    }
}

pub(crate) fn test_job(profile: &str) -> Job {
    job(JobSpec::Test(TestSpec { profile: profile.to_owned(), ..TestSpec::default() }))
}

/// The failure of an execution that must have failed.
pub(crate) fn failed(execution: Execution) -> Failure {
    match execution.outcome {
        Outcome::Failed(failure) => failure,
        other => panic!("expected a failure, got {other:?}"),
    }
}
