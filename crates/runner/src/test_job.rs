//! Runs a test job: looks its profile up, runs the profile's command and reads the report.

use std::{fs, io, os::unix::process::ExitStatusExt, path::Path, process::ExitStatus, time::Duration};

use hardware::LeaseMode;
use messages::{Failure, FailureKind, Job, TestCase, TestOutcome, TestSpec};
use tokio_util::sync::CancellationToken;

use crate::{
    Profile, ProfileRunner, RunnerSettings,
    device_wait::device_lease,
    failure::{FailureExt, failure},
    junit,
    process::{self, Dialogue, Ending, Finished, Limits, ProcessError, signal_name},
    selectors::Selectors,
    test_command::{self, TestCommand},
};

/// Runs the test to its end.
pub(crate) async fn run(
    settings: &RunnerSettings,
    job: &Job,
    spec: &TestSpec,
    cancel: &CancellationToken,
) -> Result<TestOutcome, Failure> {
    let profile = profile(settings, &spec.profile)?;
    let selectors = Selectors::of(spec)?;
    if profile.runner == ProfileRunner::Noop {
        return Ok(TestOutcome { exit_code: Some(0), cases: Vec::new(), output_tail: String::new() });
    }
    let scratch = tempfile::tempdir()
        .map_err(|error| failure(FailureKind::Machine, format!("failed to make a temporary directory: {error}")))?;
    let TestCommand { command, report } = test_command::build(profile, &selectors, scratch.path())?;
    let program = command.get_program().to_string_lossy().into_owned();
    let _lease = device_lease(&settings.lease_directory, job.platform, LeaseMode::Shared, cancel).await?;
    let timeout_ms = profile.timeout_ms_max.map_or(job.timeout_ms, |max| max.min(job.timeout_ms));
    let limits = Limits {
        timeout: Duration::from_millis(timeout_ms),
        cancel,
        output_tail_bytes_max: settings.output_tail_bytes_max,
        memory_bytes_max: settings.child_memory_mb_max.map(|mb| mb.saturating_mul(1_000_000)),
        progress: &|_| {},
    };
    let finished = process::run(command, Dialogue::None, &limits)
        .await
        .map_err(|error| not_run(profile.runner, &program, error))?;
    match finished.ending {
        Ending::Exited(status) => outcome(profile.runner, status, finished, report.as_deref()),
        Ending::TimedOut => {
            let message = format!("the test ran longer than {timeout_ms} ms and was ended with all it had started");
            Err(failure(FailureKind::TimedOut, message).with_output(finished.output_tail))
        }
        Ending::Cancelled => {
            Err(failure(FailureKind::Cancelled, "cancelled while the test ran").with_output(finished.output_tail))
        }
    }
}

/// The profile of that name, if jobs may use it.
fn profile<'a>(settings: &'a RunnerSettings, name: &str) -> Result<&'a Profile, Failure> {
    let Some(profile) = settings.profiles.get(name) else {
        let known = settings.profiles.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let name = crate::tail::beginning_of(name, 100);
        let message = format!("profile `{name}` is unknown to this worker; it knows {known}");
        return Err(failure(FailureKind::InvalidJob, message));
    };
    if profile.enabled {
        return Ok(profile);
    }
    let failed = failure(FailureKind::Unavailable, format!("profile `{name}` is switched off on this worker"));
    Err(failed.suggest(format!("set `profiles.{name}.enabled = true` in the worker's settings to allow it")))
}

fn not_run(runner: ProfileRunner, program: &str, error: ProcessError) -> Failure {
    match error {
        ProcessError::Start(error) if error.kind() == io::ErrorKind::NotFound => {
            failure(FailureKind::Unavailable, format!("program `{program}` is not installed here"))
                .suggest(test_command::how_to_install(runner))
        }
        ProcessError::Start(error) => failure(FailureKind::Machine, format!("failed to start `{program}`: {error}")),
        ProcessError::Lost(error) => failure(FailureKind::Machine, format!("lost sight of `{program}`: {error}")),
    }
}

/// The outcome of a process that ended by itself; a test runner that turns out not to be installed is a failure, and so
/// is one that dies of a signal before it has reported.
fn outcome(
    runner: ProfileRunner,
    status: ExitStatus,
    finished: Finished,
    report: Option<&Path>,
) -> Result<TestOutcome, Failure> {
    let reported = report.filter(|path| path.exists());
    let missing = match runner {
        ProfileRunner::Pytest => "No module named pytest",
        ProfileRunner::CargoNextest => "no such command: `nextest`",
        ProfileRunner::Command | ProfileRunner::Noop => "",
    };
    if reported.is_none() && !status.success() && !missing.is_empty() && finished.output_tail.contains(missing) {
        let failed = failure(FailureKind::Unavailable, "the profile's test runner is not installed here");
        return Err(failed.suggest(test_command::how_to_install(runner)).with_output(finished.output_tail));
    }
    if let (None, Some(signal)) = (reported, status.signal()) {
        let failed = failure(FailureKind::Crashed, format!("the test's process died of {}", signal_name(signal)));
        return Err(failed.with_output(finished.output_tail));
    }
    Ok(TestOutcome {
        exit_code: status.code(),
        cases: reported.map(cases).unwrap_or_default(),
        output_tail: finished.output_tail,
    })
}

/// The report's cases; none if it is too long or broken, for then the exit code must do.
fn cases(report: &Path) -> Vec<TestCase> {
    let skipped = |reason: &dyn std::fmt::Display| {
        tracing::warn!(report = %report.display(), %reason, "ignored a test report");
        Vec::new()
    };
    match fs::metadata(report) {
        Ok(metadata) if metadata.len() > junit::REPORT_BYTES_MAX => {
            return skipped(&format!("it is {} bytes long", metadata.len()));
        }
        Ok(_) => {}
        Err(error) => return skipped(&error),
    }
    match fs::read_to_string(report) {
        Ok(text) => junit::cases(&text).unwrap_or_else(|error| skipped(&error)),
        Err(error) => skipped(&error),
    }
}
