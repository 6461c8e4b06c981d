//! Benchmarks of a real model in the real ONNX Runtime, in a child process.

mod support;

use std::{fs, path::Path, process::Command};

use messages::{
    Backend, BenchmarkOutcome, BenchmarkSpec, Configuration, Device, FailureKind, Job, JobSpec, Mark, ModelRef,
    Outcome, Platform, Precision,
};
use runner::{Runner, RunnerError, RunnerSettings};
use support::{Workplace, failed, job};
use tokio_util::sync::CancellationToken;

/// The smallest model of the zoo.
fn model(settings: &RunnerSettings) -> ModelRef {
    settings.models.obtain("mobilenet-v2", Precision::Fp32).expect("the zoo builds it").model
}

fn spec(model: ModelRef, batch_size: u32) -> BenchmarkSpec {
    let configuration = Configuration {
        model,
        platform: Platform::Cpu,
        backend: Backend::Onnxruntime,
        precision: Precision::Fp32,
        batch_size,
        sequence_length: None,
        image_size: Some(224),
        threads: 1,
        browser: None,
    };
    BenchmarkSpec { warmup_iterations: 1, iterations_min: 3, iterations_max: 12, ..BenchmarkSpec::usual(configuration) }
}

fn benchmark(spec: BenchmarkSpec) -> Job {
    job(JobSpec::Benchmark(Box::new(spec)))
}

async fn run(settings: RunnerSettings, job: &Job) -> runner::Execution {
    Runner::new(settings, support::processor()).run(job, &CancellationToken::new()).await
}

fn measured(execution: runner::Execution) -> BenchmarkOutcome {
    match execution.outcome {
        Outcome::Benchmark(outcome) => *outcome,
        other => panic!("expected measurements, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_model_is_measured() {
    let workplace = Workplace::new();
    let settings = workplace.settings();
    let job = benchmark(spec(model(&settings), 2));
    let runner = Runner::new(settings, support::processor());
    let execution = runner.run(&job, &CancellationToken::new()).await;
    assert_eq!(execution.device.as_ref().map(|device| device.platform), Some(Platform::Cpu));
    let outcome = measured(execution);

    let iterations = outcome.latency_ms.iterations.len();
    assert!((3..=12).contains(&iterations), "{iterations}");
    let items_per_second = 2.0 * 1e3 / outcome.latency_ms.p50;
    assert!((outcome.throughput_items_per_second - items_per_second).abs() < 1e-9);
    assert_eq!(outcome.warmup_iterations, 1);
    assert!(outcome.load_ms > 0.0);
    assert!(outcome.backend_version.starts_with("1."), "{}", outcome.backend_version);
    // The weights alone are 14 MB.
    assert!(outcome.memory_peak_mb.expect("Linux tells") > 14.0);
    assert!(outcome.costs.macs() > 500_000_000, "two images of 300 million each: {}", outcome.costs.macs());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lack_of_memory_is_told_from_a_crash() {
    let workplace = Workplace::new();
    let settings = RunnerSettings { child_memory_mb_max: Some(150), ..workplace.settings() };
    let job = benchmark(spec(model(&settings), 512));
    let failure = failed(run(settings, &job).await);
    assert_eq!(failure.kind, FailureKind::OutOfMemory, "{failure:?}");
}

#[tokio::test]
async fn a_child_that_crashes_is_a_result() {
    let workplace = Workplace::new();
    let child = workplace.directory.path().join("child");
    let script = "printf '#!/bin/sh\\necho last words >&2\\nkill -SEGV $$\\n' > \"$0\" && chmod +x \"$0\"";
    assert!(Command::new("sh").args(["-c", script]).arg(&child).status().expect("sh").success());
    let settings = RunnerSettings { executable: child, ..workplace.settings() };
    let job = benchmark(spec(model(&settings), 1));
    let failure = failed(run(settings, &job).await);
    assert_eq!(failure.kind, FailureKind::Crashed);
    assert_eq!(failure.message, "the benchmark's process died of SIGSEGV without an answer");
    assert_eq!(failure.output_tail, "last words\n");
}

#[tokio::test]
async fn a_benchmark_that_takes_too_long_is_ended() {
    let workplace = Workplace::new();
    let child = workplace.directory.path().join("child");
    let script = "printf '#!/bin/sh\\nexec sleep 600\\n' > \"$0\" && chmod +x \"$0\"";
    assert!(Command::new("sh").args(["-c", script]).arg(&child).status().expect("sh").success());
    let settings = RunnerSettings { executable: child, ..workplace.settings() };
    let job = Job { timeout_ms: 200, ..benchmark(spec(model(&settings), 1)) };
    assert_eq!(failed(run(settings, &job).await).kind, FailureKind::TimedOut);
}

#[tokio::test]
async fn missing_and_damaged_models_are_told_apart() {
    let workplace = Workplace::new();
    let settings = workplace.settings();
    let zoo = settings.models.obtain("mobilenet-v2", Precision::Fp32).expect("built");
    let unknown = ModelRef { name: "no-such-model".to_owned(), ..zoo.model.clone() };
    let other = ModelRef { sha256: messages::ContentHash([7; 32]), ..unknown };
    let failure = failed(run(settings.clone(), &benchmark(spec(other, 1))).await);
    assert_eq!(failure.kind, FailureKind::ModelMissing, "{failure:?}");

    let mut bytes = fs::read(&zoo.path).expect("read");
    // Another content than the zoo's model, so that it is a file of its own.
    bytes.extend_from_slice(&[0xA2, 0x06, 0x00]);
    let own = workplace.directory.path().join("own.onnx");
    fs::write(&own, &bytes).expect("written");
    let registered = settings.models.register("own", &own).expect("registered");
    let runner = Runner::new(settings, support::processor());
    damage(&registered.path);
    let job = benchmark(spec(registered.model, 1));
    let failure = failed(runner.run(&job, &CancellationToken::new()).await);
    assert_eq!(failure.kind, FailureKind::ModelCorrupt, "{failure:?}");
    assert!(failure.suggestion.is_some());
}

fn damage(file: &Path) {
    let mut bytes = fs::read(file).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xFF;
    bytes.truncate(bytes.len() - 1);
    fs::remove_file(file).expect("removed");
    fs::write(file, bytes).expect("written");
}

#[tokio::test]
async fn what_the_machine_was_doing_is_recorded_and_marks_what_it_disturbed() {
    let workplace = Workplace::new();
    let job = benchmark(spec(model(&workplace.settings()), 1));
    let conditions = async |waited_pct_max| {
        let settings = RunnerSettings { waited_pct_max, ..workplace.settings() };
        measured(run(settings, &job).await).conditions.expect("somebody looked")
    };
    // Nobody waits for less than nothing, and nobody for more than all of the time.
    let disturbed = conditions(-1.0).await;
    assert!(disturbed.before.load_average.is_some() && disturbed.after.load_average.is_some(), "{disturbed:?}");
    assert!(disturbed.waited_pct.is_some_and(|pct| (0.0..=100.0).contains(&pct)), "{disturbed:?}");
    match &disturbed.mark {
        Some(Mark::Disturbed(reason)) => {
            assert!(reason.starts_with("its threads waited for a processor for "), "{reason}");
        }
        // Where the machine shows them, heat and clock come first among the rules.
        Some(Mark::Throttled(_)) => {}
        None => panic!("no mark: {disturbed:?}"),
    }
    let mark = conditions(100.0).await.mark;
    assert!(!matches!(&mark, Some(Mark::Disturbed(reason)) if reason.contains("waited")), "{mark:?}");
}

#[tokio::test]
async fn a_processor_that_is_slower_than_when_its_peak_was_measured_is_waited_for_and_then_marked() {
    let workplace = Workplace::new();
    let job = Job { timeout_ms: 30_000, ..benchmark(spec(model(&workplace.settings()), 1)) };
    let conditions = async |peak_fp32_gflops| {
        let settings = RunnerSettings { arithmetic_pct_min: 75.0, waited_pct_max: 100.0, ..workplace.settings() };
        let [processor] = support::processor().try_into().expect("one");
        let known = Device { peak_fp32_gflops: Some(peak_fp32_gflops), hardware_threads: Some(2), ..processor };
        let execution = Runner::new(settings, vec![known]).run(&job, &CancellationToken::new()).await;
        measured(execution).conditions.expect("somebody looked")
    };
    let is_marked = |mark: &Option<Mark>| {
        mark.as_ref().is_some_and(|mark| mark.reason().contains("% of its usual arithmetic (limit 75 %)"))
    };
    let slow = conditions(1e9).await;
    assert!(slow.arithmetic_pct.is_some_and(|pct| pct < 1.0), "{slow:?}");
    assert!(is_marked(&slow.mark) || matches!(slow.mark, Some(Mark::Throttled(_))), "{slow:?}");
    let calm = conditions(1e-3).await;
    assert!(calm.arithmetic_pct.is_some_and(|pct| pct > 100.0) && !is_marked(&calm.mark), "{calm:?}");
}

#[tokio::test]
async fn what_this_build_cannot_run_is_unavailable_with_the_reason() {
    let workplace = Workplace::new();
    let settings = workplace.settings();
    let spec = spec(model(&settings), 1);
    let check = async |change: fn(&mut Configuration), message: &str| {
        let mut changed = spec.clone();
        change(&mut changed.configuration);
        let platform = changed.configuration.platform;
        let job = Job { platform, ..benchmark(changed) };
        let failure = failed(run(settings.clone(), &job).await);
        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Unavailable, message));
    };
    check(|c| c.platform = Platform::Rocm, "platform rocm is not supported by this build of the runner").await;
    check(|c| c.platform = Platform::Cuda, "this build has ONNX Runtime's CPU provider only, not CUDA").await;
    check(|c| c.backend = Backend::OrtWeb, "backend ort-web is run by the browser pool, not by this worker").await;

    let without = RunnerSettings { onnxruntime_library: None, ..settings.clone() };
    let failure = failed(run(without, &benchmark(spec.clone())).await);
    assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Unavailable, "this worker has no ONNX Runtime"));
    assert!(failure.suggestion.is_some());

    let wrong = RunnerSettings { onnxruntime_library: Some("/etc/passwd".into()), ..settings.clone() };
    let failure = failed(run(wrong, &benchmark(spec)).await);
    assert_eq!(failure.kind, FailureKind::Unavailable, "{failure:?}");
    assert!(failure.message.starts_with("failed to load ONNX Runtime from `/etc/passwd`"), "{}", failure.message);
}

#[tokio::test]
async fn impossible_specs_are_invalid_jobs() {
    let workplace = Workplace::new();
    let settings = workplace.settings();
    let spec = spec(model(&settings), 1);
    let check = async |change: fn(&mut BenchmarkSpec), message: &str| {
        let mut changed = spec.clone();
        change(&mut changed);
        let failure = failed(run(settings.clone(), &benchmark(changed)).await);
        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::InvalidJob, message));
    };
    check(|s| s.configuration.batch_size = 0, "batch_size is 0; 1 to 65536 is possible").await;
    check(|s| s.iterations_min = 13, "13 to 12 iterations are asked for; 1 to 10000 are possible").await;
    check(|s| s.median_interval_pct = f64::NAN, "median_interval_pct is NaN; a positive number is possible").await;
    check(|s| s.configuration.platform = Platform::Cuda, "a job for cpu measures on cuda").await;
}

#[tokio::test]
async fn a_probe_tells_the_version_and_survives_a_bad_library() {
    let library = Workplace::new().settings().onnxruntime_library.expect("AUGUR_ONNXRUNTIME_LIBRARY is set");
    let version = runner::onnxruntime_version(&support::child(), &library).await.expect("it loads");
    assert!(version.starts_with("1."), "{version}");
    let error = runner::onnxruntime_version(&support::child(), Path::new("/etc/passwd")).await.expect_err("no library");
    assert!(matches!(error, RunnerError::Library { .. }), "{error}");
    let error = runner::onnxruntime_version(Path::new("/no/augur"), &library).await.expect_err("no executable");
    assert!(matches!(error, RunnerError::Start { .. }), "{error}");
}
