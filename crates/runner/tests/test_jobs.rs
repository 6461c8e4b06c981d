//! Test jobs from the outside: profiles, selectors, endings.

mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::Command,
};

use messages::{FailureKind, JobSpec, Outcome, Status, TestCaseStatus, TestOutcome, TestSpec};
use nix::{sys::stat::Mode, unistd::mkfifo};
use runner::{Profile, ProfileRunner, Runner};
use support::{Workplace, failed, job, test_job};
use tokio_util::sync::CancellationToken;

fn tested(outcome: Outcome) -> TestOutcome {
    match outcome {
        Outcome::Test(test) => test,
        other => panic!("expected a test's outcome, got {other:?}"),
    }
}

async fn run(settings: runner::RunnerSettings, job: &messages::Job) -> runner::Execution {
    Runner::new(settings, support::processor()).run(job, &CancellationToken::new()).await
}

#[tokio::test]
async fn an_unknown_profile_is_an_invalid_job_that_names_the_known_ones() {
    let failure = failed(run(Workplace::new().settings(), &test_job("nose")).await);
    assert_eq!(failure.kind, FailureKind::InvalidJob);
    assert_eq!(failure.message, "profile `nose` is unknown to this worker; it knows command, noop, pytest");
}

#[tokio::test]
async fn a_disabled_profile_says_which_setting_enables_it() {
    let failure = failed(run(Workplace::new().settings(), &test_job("command")).await);
    assert_eq!(failure.kind, FailureKind::Unavailable);
    assert_eq!(failure.message, "profile `command` is switched off on this worker");
    let suggestion = failure.suggestion.expect("a suggestion");
    assert!(suggestion.contains("profiles.command.enabled = true"), "{suggestion}");
}

#[tokio::test]
async fn a_missing_program_is_unavailable() {
    let workplace = Workplace::new();
    let mut settings = workplace.settings();
    let profile = Profile { program: Some("no-such-python".into()), ..Profile::usual(ProfileRunner::Pytest) };
    settings.profiles.insert("pytest".to_owned(), profile);
    let failure = failed(run(settings, &test_job("pytest")).await);
    assert_eq!(failure.kind, FailureKind::Unavailable);
    assert_eq!(failure.message, "program `no-such-python` is not installed here");
    assert!(failure.suggestion.expect("a suggestion").contains("python3-pytest"));
}

#[tokio::test]
async fn a_python_without_pytest_is_unavailable() {
    let workplace = Workplace::new();
    let python = workplace.directory.path().join("python");
    write_script(&python, "#!/bin/sh\necho 'python: No module named pytest' >&2\nexit 1\n");
    let mut settings = workplace.settings();
    let profile = Profile { program: Some(python), ..Profile::usual(ProfileRunner::Pytest) };
    settings.profiles.insert("pytest".to_owned(), profile);
    let failure = failed(run(settings, &test_job("pytest")).await);
    assert_eq!(failure.kind, FailureKind::Unavailable);
    assert_eq!(failure.output_tail, "python: No module named pytest\n");
}

/// Writes through a child process: a script written here could still be open for writing in a sibling test's child
/// between its fork and exec, and then it cannot be executed.
fn write_script(path: &std::path::Path, text: &str) {
    let mut command = Command::new("sh");
    command.args(["-c", "printf '%s' \"$1\" > \"$0\" && chmod +x \"$0\""]).arg(path).arg(text);
    assert!(command.status().expect("sh").success());
}

#[tokio::test]
async fn a_report_gives_the_cases_and_a_broken_one_leaves_the_exit_code() {
    let workplace = Workplace::new();
    let python = workplace.directory.path().join("python");
    let write_report = "#!/bin/sh\nfor a; do case $a in --junitxml=*) cat report > \"${a#--junitxml=}\";; esac; done\n";
    write_script(&python, &format!("{write_report}exit 1\n"));
    let mut settings = workplace.settings();
    let profile = Profile {
        program: Some(python),
        working_directory: Some(workplace.directory.path().to_owned()),
        ..Profile::usual(ProfileRunner::Pytest)
    };
    settings.profiles.insert("pytest".to_owned(), profile);
    let runner = Runner::new(settings, Vec::new());
    let report = workplace.directory.path().join("report");

    let case = "<testcase classname='t.T' name='a'><failure message='no'/></testcase>";
    fs::write(&report, format!("<testsuite>{case}</testsuite>")).expect("written");
    let test = tested(runner.run(&test_job("pytest"), &CancellationToken::new()).await.outcome);
    assert_eq!((test.exit_code, test.status()), (Some(1), Status::Failed));
    assert_eq!((test.cases[0].name.as_str(), test.cases[0].status), ("a", TestCaseStatus::Failed));

    fs::write(&report, "<testsuite><testcase").expect("written");
    let test = tested(runner.run(&test_job("pytest"), &CancellationToken::new()).await.outcome);
    assert_eq!((test.exit_code, test.cases.len(), test.status()), (Some(1), 0, Status::Failed));
}

#[tokio::test]
async fn a_path_as_module_is_an_invalid_job() {
    let spec =
        TestSpec { profile: "pytest".to_owned(), module: Some("/etc/passwd".to_owned()), class: None, method: None };
    let failure = failed(run(Workplace::new().settings(), &job(JobSpec::Test(spec))).await);
    assert_eq!(failure.kind, FailureKind::InvalidJob);
}

#[tokio::test]
async fn noop_passes_without_a_process() {
    let execution = run(Workplace::new().settings(), &test_job("noop")).await;
    assert_eq!(execution.device, None);
    assert_eq!(tested(execution.outcome).status(), Status::Passed);
}

#[tokio::test]
async fn a_command_reports_exit_code_and_output_and_inherits_no_secret() {
    let workplace = Workplace::new();
    let script = "env | grep -c ^AUGUR_; echo \"method $AUGUR_TEST_METHOD\"; exit 7";
    let spec = TestSpec { profile: "script".to_owned(), method: Some("m".to_owned()), ..TestSpec::default() };
    let execution = run(workplace.settings_with_script(script), &job(JobSpec::Test(spec))).await;
    let test = tested(execution.outcome);
    assert_eq!(test.exit_code, Some(7));
    assert!(std::env::var_os("AUGUR_ONNXRUNTIME_LIBRARY").is_some(), "there is a variable to hide");
    assert_eq!(test.output_tail, "1\nmethod m\n", "only the selector's variable is there");
}

#[tokio::test]
async fn a_process_that_dies_of_a_signal_is_a_crash_and_no_verdict() {
    let workplace = Workplace::new();
    let settings = workplace.settings_with_script("echo before; kill -SEGV $$");
    let failure = failed(run(settings, &test_job("script")).await);
    assert_eq!((failure.kind, failure.output_tail.as_str()), (FailureKind::Crashed, "before\n"));
    assert!(failure.message.contains("SIGSEGV"), "{}", failure.message);
}

#[tokio::test]
async fn a_timeout_and_a_cancellation_are_told_apart() {
    let workplace = Workplace::new();
    let settings = workplace.settings_with_script("echo before; mkdir ready; sleep 600");
    let job = messages::Job { timeout_ms: 3_000, ..test_job("script") };
    let failure = failed(run(settings.clone(), &job).await);
    assert_eq!((failure.kind, failure.output_tail.as_str()), (FailureKind::TimedOut, "before\n"));

    let cancel = CancellationToken::new();
    cancel.cancel();
    let runner = Runner::new(settings, Vec::new());
    let failure = failed(runner.run(&test_job("script"), &cancel).await);
    assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Cancelled, "cancelled before it started"));
}

#[tokio::test]
async fn the_profile_may_shorten_the_timeout() {
    let workplace = Workplace::new();
    let mut settings = workplace.settings_with_script("sleep 600");
    let profile = settings.profiles.get_mut("script").expect("there");
    profile.timeout_ms_max = Some(200);
    let failure = failed(run(settings, &test_job("script")).await);
    assert_eq!(failure.message, "the test ran longer than 200 ms and was ended with all it had started");
}

#[tokio::test]
async fn nonsense_timeouts_are_invalid() {
    for timeout_ms in [0, u64::MAX] {
        let job = messages::Job { timeout_ms, ..test_job("noop") };
        assert_eq!(failed(run(Workplace::new().settings(), &job).await).kind, FailureKind::InvalidJob);
    }
}

#[test]
fn a_job_ends_when_its_worker_is_killed() {
    let workplace = Workplace::new();
    let life = workplace.directory.path().join("life");
    mkfifo(&life, Mode::S_IRWXU).expect("fifo");
    let mut worker =
        Command::new(support::child()).arg("hold").arg(workplace.directory.path()).spawn().expect("the example starts");
    let mut fifo = BufReader::new(fs::File::open(&life).expect("opened"));
    let mut first = String::new();
    fifo.read_line(&mut first).expect("read");
    assert_eq!(first, "started\n");
    worker.kill().expect("SIGKILL");
    worker.wait().expect("reaped");
    // The read ends when the job's process, which holds the other end, is gone.
    fifo.read_to_end(&mut Vec::new()).expect("read");
}
