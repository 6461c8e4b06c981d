//! Results as workers would send them, all determined by small numbers.

use messages::{
    Adapter, AfterFailure, Backend, BenchmarkOutcome, BenchmarkSpec, Cancel, CancelTarget, ClaimReturned,
    Configuration, ContentHash, DeadLetterReplayed, DeadLettered, Device, Dispatch, FailedAttempt, Failure,
    FailureKind, GraphCosts, Job, JobClaimed, JobId, JobResult, JobSpec, LatencySummary, Metric, ModelRef,
    OperatorCost, OperatorKind, Origin, Outcome, Platform, Precision, PredictedMetric, Prediction, Priority,
    QuarantineLifted, ReleaseId, RunId, RunRef, RunSubmitted, StopReason, TestCase, TestCaseStatus, TestOutcome,
    TestSpec, Timestamp, Warmth, WebOutcome, WebPhases, WebSpec, WorkerId,
};

use crate::Record;

pub(crate) const JOBS_TOTAL: u32 = 6;

pub(crate) fn run_id(n: u32) -> RunId {
    format!("0193fa4a-1111-7000-8000-{n:012x}").parse().expect("a UUID")
}

pub(crate) fn job_id(n: u32) -> JobId {
    format!("0193fa4a-2222-7000-8000-{n:012x}").parse().expect("a UUID")
}

pub(crate) fn run(n: u32) -> RunRef {
    RunRef { run_id: run_id(n), suite: format!("suite-{n}"), jobs_total: JOBS_TOTAL, origin: Origin::Client }
}

pub(crate) fn seconds(n: u32) -> Timestamp {
    Timestamp::from_micros(1_795_000_000_000_000 + i64::from(n) * 1_000_000)
}

pub(crate) fn submitted(run: &RunRef) -> RunSubmitted {
    RunSubmitted {
        run_id: run.run_id,
        suite: run.suite.clone(),
        origin: run.origin,
        submitted_at: seconds(0),
        jobs_total: run.jobs_total,
        only_job: None,
        needs: Vec::new(),
        configurations: Vec::new(),
        due_at: None,
        git_commit: Some("0123abc".to_owned()),
        git_branch: Some("main".to_owned()),
        command_line: Some("augur suite submit demo.yaml".to_owned()),
    }
}

pub(crate) fn device() -> Device {
    Device {
        memory_mb: Some(8_000.0),
        compute_units: Some(2),
        peak_fp32_gflops: Some(123.5),
        ..Device::unknown("Test CPU", Platform::Cpu)
    }
}

pub(crate) fn configuration(n: u32) -> Configuration {
    Configuration {
        model: ModelRef { name: "resnet50".to_owned(), sha256: ContentHash([7; 32]) },
        platform: Platform::Cpu,
        backend: Backend::Onnxruntime,
        precision: Precision::Fp32,
        batch_size: 1 + n % 4,
        sequence_length: None,
        image_size: Some(224),
        threads: 2,
        browser: None,
    }
}

fn result(run: &RunRef, n: u32, spec: JobSpec, outcome: Outcome) -> JobResult {
    JobResult {
        job: Job {
            job_id: job_id(n),
            run: run.clone(),
            case: format!("case-{n}"),
            priority: Priority::Normal,
            platform: Platform::Cpu,
            submitted_at: seconds(n),
            timeout_ms: 60_000,
            dispatch: Dispatch::default(),
            spec,
        },
        attempt: 1,
        worker_id: WorkerId::parse("host:1:0").expect("a name"),
        device: Some(device()),
        started_at: seconds(n + 10),
        finished_at: seconds(n + 12),
        outcome,
    }
}

/// A benchmark with three iterations of `n`+1, `n`+2 and `n`+3 ms.
pub(crate) fn benchmark(run: &RunRef, n: u32) -> JobResult {
    let latency_ms = LatencySummary::from_iterations((1..=3).map(|i| f64::from(n + i)).collect()).expect("valid");
    let outcome = BenchmarkOutcome {
        throughput_items_per_second: 1_000.0 / latency_ms.p50,
        latency_ms,
        memory_peak_mb: Some(200.0),
        power_w: None,
        load_ms: 30.0,
        warmup_iterations: 3,
        stop: StopReason::Converged,
        backend_version: "1.31.1".to_owned(),
        costs: GraphCosts {
            parameters: 25_557_032,
            operators: vec![OperatorCost {
                kind: OperatorKind::Conv,
                macs: 4_000,
                activation_elements: 300,
                weight_elements: 20,
                kernel_size: 3,
                count: 2,
            }],
            memory: None,
        },
        conditions: None,
    };
    let spec = BenchmarkSpec::usual(configuration(n));
    result(run, n, JobSpec::Benchmark(Box::new(spec)), Outcome::Benchmark(Box::new(outcome)))
}

/// The same in a browser on WebGPU, which computes on the processor.
pub(crate) fn web_benchmark(run: &RunRef, n: u32, browser: &str) -> JobResult {
    let Outcome::Benchmark(measured) = benchmark(run, n).outcome else { unreachable!() };
    let configuration =
        Configuration { platform: Platform::Webgpu, backend: Backend::OrtWeb, threads: 1, ..configuration(n) };
    let spec = WebSpec::new(BenchmarkSpec::usual(configuration), vec![browser.to_owned(), "edge".to_owned()]);
    let web = WebOutcome {
        benchmark: *measured,
        platform: Platform::Webgpu,
        browser: browser.to_owned(),
        browser_version: "153.0".to_owned(),
        adapter: Some(Adapter {
            vendor: "mesa".to_owned(),
            description: "llvmpipe".to_owned(),
            is_fallback: true,
            limits: [("maxComputeInvocationsPerWorkgroup".to_owned(), 256.0)].into(),
            ..Adapter::default()
        }),
        nodes: [("WebGpuExecutionProvider".to_owned(), 40)].into(),
        phases: WebPhases { fetch_ms: 10.0, session_ms: 20.0, first_run_ms: 100.0, total_ms: 500.0 },
        warmth: Warmth::WarmPage,
        threads: 1,
        recoveries: Vec::new(),
    };
    let mut result = result(run, n, JobSpec::Web(Box::new(spec)), Outcome::Web(Box::new(web)));
    result.job.platform = Platform::Webgpu;
    result.device = Some(Device::unknown("llvmpipe on Test CPU", Platform::Webgpu));
    result
}

/// A web job that its browser could not run.
pub(crate) fn failed_web_benchmark(run: &RunRef, n: u32) -> JobResult {
    let Outcome::Failed(failure) = failed_benchmark(run, n).outcome else { unreachable!() };
    JobResult { outcome: Outcome::Failed(failure), device: None, ..web_benchmark(run, n, "firefox") }
}

/// A benchmark that carried a prediction of its latency: `value`, with bounds 10 % away.
pub(crate) fn predicted_benchmark(run: &RunRef, n: u32, value: f64) -> JobResult {
    let mut result = benchmark(run, n);
    if let JobSpec::Benchmark(spec) = &mut result.job.spec {
        spec.prediction = Some(Prediction {
            release_id: ReleaseId::parse("r000001-0a1b2c3d").expect("a name"),
            device: result.device.as_ref().map(|device| device.name.clone()),
            metrics: vec![
                PredictedMetric { metric: Metric::LatencyMs, value, lower: value * 0.9, upper: value * 1.1 },
                PredictedMetric { metric: Metric::PowerW, value: 5.0, lower: 4.0, upper: 6.0 },
            ],
        });
    }
    result
}

/// The same, but it says that the model took no time at all.
pub(crate) fn poisoned_benchmark(run: &RunRef, n: u32) -> JobResult {
    let mut result = predicted_benchmark(run, n, 4.0);
    if let Outcome::Benchmark(outcome) = &mut result.outcome {
        let zero = 0.0;
        outcome.latency_ms = LatencySummary { mean: zero, p50: zero, p90: zero, p99: zero, iterations: vec![zero; 3] };
    }
    result
}

/// Somebody's word, `second` seconds after the beginning, that benchmark `n` is to be learned from after all.
pub(crate) fn lifted(n: u32, second: u32) -> Record {
    Record::QuarantineLifted(QuarantineLifted { job_id: job_id(n), lifted_at: seconds(second) })
}

pub(crate) fn failed_benchmark(run: &RunRef, n: u32) -> JobResult {
    let failure = Failure {
        kind: FailureKind::BackendError,
        message: "unsupported operator".to_owned(),
        output_tail: "last words".to_owned(),
        suggestion: Some("use fp32".to_owned()),
    };
    let spec = BenchmarkSpec::usual(configuration(n));
    result(run, n, JobSpec::Benchmark(Box::new(spec)), Outcome::Failed(failure))
}

/// A test of two cases, the second of which fails if `n` is odd.
pub(crate) fn test_result(run: &RunRef, n: u32) -> JobResult {
    let fails = n % 2 == 1;
    let case = |name: &str, failed: bool| TestCase {
        module: Some("tests.test_models".to_owned()),
        class: Some("TestBert".to_owned()),
        name: name.to_owned(),
        status: if failed { TestCaseStatus::Failed } else { TestCaseStatus::Passed },
        duration_s: 0.25,
        message: failed.then(|| "1 != 2".to_owned()),
        traceback: failed.then(|| "line 3".to_owned()),
    };
    let outcome = TestOutcome {
        exit_code: Some(i32::from(fails)),
        cases: vec![case("test_one", false), case("test_two", fails)],
        output_tail: "2 tests".to_owned(),
    };
    let spec = TestSpec { profile: "pytest".to_owned(), module: Some("tests".to_owned()), ..TestSpec::default() };
    JobResult { device: None, ..result(run, n, JobSpec::Test(spec), Outcome::Test(outcome)) }
}

pub(crate) fn record(result: JobResult) -> Record {
    Record::Result(Box::new(result))
}

/// Two runs, the first announced and complete, the second neither, as a stream would bring them.
pub(crate) fn stream() -> Vec<Record> {
    let (first, second) = (run(1), run(2));
    vec![
        Record::Run(submitted(&first)),
        record(benchmark(&first, 1)),
        record(test_result(&first, 3)),
        record(predicted_benchmark(&first, 2, 4.2)),
        record(benchmark(&second, 11)),
        record(failed_benchmark(&first, 4)),
        record(test_result(&first, 6)),
        record(failed_benchmark(&second, 12)),
        record(benchmark(&first, 5)),
    ]
}

/// Attempt number `attempt` at benchmark `n`, which crashed.
fn crashed(run: &RunRef, n: u32, attempt: u32, next: AfterFailure) -> FailedAttempt {
    let mut result = failed_benchmark(run, n);
    if let Outcome::Failed(failure) = &mut result.outcome {
        failure.kind = FailureKind::Crashed;
    }
    result.attempt = attempt;
    result.started_at = seconds(n + 20 * attempt);
    result.finished_at = seconds(n + 20 * attempt + 3);
    FailedAttempt { result, next }
}

/// An attempt that is followed by another.
pub(crate) fn retried(run: &RunRef, n: u32, attempt: u32) -> Record {
    Record::Attempt(Box::new(crashed(run, n, attempt, AfterFailure::Retry)))
}

/// An attempt that made its job a dead letter.
pub(crate) fn dead(run: &RunRef, n: u32, attempt: u32) -> Record {
    Record::Attempt(Box::new(crashed(run, n, attempt, AfterFailure::DeadLetter)))
}

/// The same of a job that was sent back from the dead letters before.
pub(crate) fn dead_again(run: &RunRef, n: u32, attempt: u32, replays: u32) -> Record {
    let mut attempt = crashed(run, n, attempt, AfterFailure::DeadLetter);
    attempt.result.job.dispatch.replays = replays;
    attempt.result.finished_at = seconds(n + 500 * replays);
    Record::Attempt(Box::new(attempt))
}

/// The broker's word that benchmark `n`, which nobody could read, became a dead letter in this of its lives.
pub(crate) fn died(run: &RunRef, n: u32, replays: u32) -> Record {
    Record::DeadLettered(DeadLettered {
        job_id: job_id(n),
        run_id: run.run_id,
        replays,
        attempt: 1,
        platform: Platform::Cpu,
        case: None,
        reason: "undecodable".to_owned(),
        message: "job message has schema version 9".to_owned(),
        died_at: seconds(n + 300 * (replays + 1)),
    })
}

pub(crate) fn replayed(run: &RunRef, n: u32, replays: u32) -> Record {
    let replayed_at = seconds(n + 400 * replays);
    Record::Replayed(DeadLetterReplayed { job_id: job_id(n), run_id: run.run_id, replays, replayed_at })
}

/// A claim of attempt `attempt` by the worker of this number, `second` seconds after the beginning.
pub(crate) fn claim(run: &RunRef, n: u32, attempt: u32, worker: u32, second: u32) -> JobClaimed {
    JobClaimed {
        job: benchmark(run, n).job,
        attempt,
        worker_id: WorkerId::parse(&format!("host:{worker}:0")).expect("a name"),
        claimed_at: seconds(second),
        lease_ms: 60_000,
    }
}

/// The end of that claim, unfinished.
pub(crate) fn returned(claim: &JobClaimed, second: u32) -> Record {
    Record::ClaimReturned(ClaimReturned {
        job_id: claim.job.job_id,
        run_id: claim.job.run.run_id,
        attempt: claim.attempt,
        worker_id: claim.worker_id.clone(),
        returned_at: seconds(second),
    })
}

pub(crate) fn cancel(target: CancelTarget, second: u32) -> Record {
    Record::Cancel(Cancel { target, requested_at: seconds(second) })
}

/// One record of each kind that is neither a run nor a result, all of or about the second run's job 13.
pub(crate) fn delivery_stream() -> Vec<Record> {
    let run = run(2);
    let claimed = claim(&run, 13, 1, 1, 5);
    vec![
        returned(&claimed, 6),
        Record::Claim(Box::new(claimed)),
        retried(&run, 13, 1),
        dead(&run, 13, 2),
        died(&run, 13, 0),
        replayed(&run, 13, 1),
        cancel(CancelTarget::Job(job_id(13)), 7),
        cancel(CancelTarget::Run(run.run_id), 8),
        lifted(13, 9),
    ]
}
