//! One message of each kind, whose bytes are the golden files.

use crate::{
    AcceptedMeasurement, Backend, BenchmarkOutcome, BenchmarkSpec, Configuration, ContentHash, Device, Dispatch,
    Failure, FailureKind, GraphCosts, GraphMemory, Heartbeat, Job, JobId, JobResult, JobSpec, LatencySummary, Metric,
    MetricEvaluation, ModelRef, Offer, OperatorCost, OperatorKind, Origin, Outcome, PastAttempt, PeakSource, Platform,
    Precision, PredictedMetric, Prediction, Priority, Progress, ReleaseId, ReleasePublished, Requirements, RunId,
    RunRef, RunSubmitted, RunningJob, StopReason, TestCase, TestCaseStatus, TestOutcome, Timestamp, WorkerId,
};

pub(super) fn job_id() -> JobId {
    "0190b5a0-0000-7000-8000-000000000001".parse().unwrap()
}

pub(super) fn run_id() -> RunId {
    "0190b5a0-0000-7000-8000-000000000002".parse().unwrap()
}

pub(super) fn configuration() -> Configuration {
    Configuration {
        model: ModelRef { name: "bert-base-uncased".to_owned(), sha256: ContentHash([7; 32]) },
        platform: Platform::Cpu,
        backend: Backend::Onnxruntime,
        precision: Precision::Fp32,
        batch_size: 4,
        sequence_length: Some(128),
        image_size: None,
        threads: 2,
        browser: None,
    }
}

pub(super) fn device() -> Device {
    Device {
        memory_mb: Some(25_769.8),
        compute_units: Some(2),
        peak_fp32_gflops: Some(150.5),
        memory_bandwidth_gb_per_s: Some(12.25),
        peak_source: Some(PeakSource::Measured),
        ..Device::unknown("Example CPU", Platform::Cpu)
    }
}

fn costs() -> GraphCosts {
    GraphCosts {
        parameters: 109_482_240,
        operators: vec![OperatorCost {
            kind: OperatorKind::Linear,
            macs: 301_989_888,
            activation_elements: 786_432,
            weight_elements: 589_824,
            kernel_size: 0,
            count: 48,
        }],
        memory: None,
    }
}

pub(super) fn job(spec: JobSpec) -> Job {
    Job {
        job_id: job_id(),
        run: RunRef { run_id: run_id(), suite: "demo".to_owned(), jobs_total: 61, origin: Origin::Client },
        case: "bert/batch=4".to_owned(),
        priority: Priority::Normal,
        platform: Platform::Cpu,
        submitted_at: Timestamp::from_micros(1_763_000_000_123_456),
        timeout_ms: 120_000,
        dispatch: Dispatch::default(),
        spec,
    }
}

pub(super) fn benchmark_job() -> Job {
    let prediction = Prediction {
        release_id: ReleaseId::parse("r000001-abcd").unwrap(),
        device: None,
        metrics: vec![PredictedMetric { metric: Metric::LatencyMs, value: 20.0, lower: 15.0, upper: 30.0 }],
    };
    let spec = BenchmarkSpec { prediction: Some(prediction), ..BenchmarkSpec::usual(configuration()) };
    job(JobSpec::Benchmark(Box::new(spec)))
}

/// A job whose prediction says of which device it is, which the first ones did not.
pub(super) fn job_predicted_on_a_device() -> Job {
    let mut job = benchmark_job();
    if let JobSpec::Benchmark(spec) = &mut job.spec
        && let Some(prediction) = &mut spec.prediction
    {
        prediction.device = Some(device().name);
    }
    job
}

pub(super) fn result(outcome: Outcome) -> JobResult {
    JobResult {
        job: benchmark_job(),
        attempt: 1,
        worker_id: WorkerId::parse("host:42:0").unwrap(),
        device: Some(device()),
        started_at: Timestamp::from_micros(1_763_000_001_000_000),
        finished_at: Timestamp::from_micros(1_763_000_002_000_000),
        outcome,
    }
}

pub(super) fn benchmark_result() -> JobResult {
    result(Outcome::Benchmark(Box::new(BenchmarkOutcome {
        latency_ms: LatencySummary::from_iterations(vec![21.5, 20.25, 22.0]).unwrap(),
        throughput_items_per_second: 186.0,
        memory_peak_mb: Some(612.5),
        power_w: None,
        load_ms: 840.0,
        warmup_iterations: 3,
        stop: StopReason::Converged,
        backend_version: "1.31.1".to_owned(),
        costs: costs(),
        conditions: None,
    })))
}

/// A result whose costs say what the graph holds in memory, which the first results did not.
pub(super) fn benchmark_result_with_memory() -> JobResult {
    let memory =
        GraphMemory { weight_bytes: 437_928_960, activation_peak_bytes: 9_437_184, activation_max_bytes: 6_291_456 };
    let mut result = benchmark_result();
    if let Outcome::Benchmark(outcome) = &mut result.outcome {
        outcome.costs.memory = Some(memory);
    }
    result
}

pub(super) fn test_result() -> JobResult {
    result(Outcome::Test(TestOutcome {
        exit_code: Some(1),
        cases: vec![TestCase {
            module: Some("test_math".to_owned()),
            class: None,
            name: "test_add".to_owned(),
            status: TestCaseStatus::Failed,
            duration_s: 0.25,
            message: Some("1 != 2".to_owned()),
            traceback: None,
        }],
        output_tail: "1 failed".to_owned(),
    }))
}

pub(super) fn failed_result() -> JobResult {
    result(Outcome::Failed(Failure {
        kind: FailureKind::Crashed,
        message: "the benchmark process ended by SIGSEGV".to_owned(),
        output_tail: String::new(),
        suggestion: None,
    }))
}

pub(super) fn heartbeat() -> Heartbeat {
    Heartbeat {
        worker_id: WorkerId::parse("host:42:0").unwrap(),
        host: "host".to_owned(),
        pid: 42,
        version: "0.1.0".to_owned(),
        started_at: Timestamp::from_micros(1),
        sent_at: Timestamp::from_micros(2),
        platforms: vec![Platform::Cpu, Platform::Cuda],
        concurrency: 2,
        draining: false,
        offer: Offer::default(),
        running: vec![RunningJob {
            job_id: job_id(),
            run_id: run_id(),
            case: "c".to_owned(),
            attempt: 1,
            started_at: Timestamp::from_micros(3),
            progress: None,
            leased: false,
        }],
        jobs_done: 9,
    }
}

pub(super) fn accepted() -> AcceptedMeasurement {
    AcceptedMeasurement {
        job_id: job_id(),
        run_id: run_id(),
        measured_at: Timestamp::from_micros(5),
        configuration: configuration(),
        device: device(),
        costs: costs(),
        backend_version: "1.31.1".to_owned(),
        iterations: 3,
        latency_ms: 21.5,
        throughput_items_per_second: 186.0,
        memory_peak_mb: Some(612.5),
        power_w: None,
        load_ms: 840.0,
    }
}

pub(super) fn release() -> ReleasePublished {
    ReleasePublished {
        release_id: ReleaseId::parse("r000002-beef").unwrap(),
        parent: Some(ReleaseId::parse("r000001-abcd").unwrap()),
        created_at: Timestamp::from_micros(6),
        training_rows: 60,
        evaluation: vec![MetricEvaluation {
            metric: Metric::LatencyMs,
            rows: 60,
            mape_pct: 12.5,
            interval_90_coverage_pct: 91.0,
        }],
    }
}

pub(super) fn run() -> RunSubmitted {
    RunSubmitted {
        run_id: run_id(),
        suite: "demo".to_owned(),
        origin: Origin::Client,
        submitted_at: Timestamp::from_micros(7),
        jobs_total: 61,
        only_job: None,
        needs: Vec::new(),
        configurations: Vec::new(),
        due_at: None,
        git_commit: Some("0123abc".to_owned()),
        git_branch: Some("main".to_owned()),
        command_line: Some("augur suite submit demo.yaml".to_owned()),
    }
}

/// A job with everything about its way to a worker that is not usual.
pub(super) fn dispatched_job() -> Job {
    let Outcome::Failed(failure) = failed_result().outcome else { unreachable!() };
    let dispatch = Dispatch {
        attempts_max: 5,
        due_at: Some(Timestamp::from_micros(11)),
        requirements: requirements(),
        history: vec![PastAttempt {
            attempt: 1,
            worker_id: WorkerId::parse("host:42:0").unwrap(),
            started_at: Timestamp::from_micros(9),
            finished_at: Timestamp::from_micros(10),
            failure,
        }],
        replays: 2,
    };
    Job { dispatch, ..benchmark_job() }
}

pub(super) fn requirements() -> Requirements {
    Requirements {
        memory_mb_min: Some(4_000),
        device_memory_mb_min: Some(16_000),
        browser: Some("firefox".to_owned()),
        tags: vec!["lab".to_owned()],
    }
}

/// A heartbeat of a worker that says all it can.
pub(super) fn full_heartbeat() -> Heartbeat {
    let offer = Offer {
        memory_mb: Some(64_000),
        device_memory_mb: Some(24_000),
        browsers: vec!["firefox".to_owned()],
        tags: vec!["lab".to_owned()],
    };
    let mut heartbeat = Heartbeat { offer, ..heartbeat() };
    heartbeat.running[0].attempt = 2;
    heartbeat.running[0].progress = Some(Progress { done: 7, total: 100 });
    heartbeat.running[0].leased = true;
    heartbeat
}
