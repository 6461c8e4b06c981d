//! One valid sample of every domain type, the same at every call: fixed ids, times and numbers.
//!
//! Tests change the field that they are about and leave the rest: `Job { case: …, ..builders::benchmark_job() }`.

use messages::{
    AcceptedMeasurement, Adapter, Backend, BenchmarkOutcome, BenchmarkSpec, Cancel, CancelTarget, Configuration,
    ContentHash, Device, Dispatch, Failure, FailureKind, GraphCosts, Heartbeat, Job, JobId, JobResult, JobSpec,
    LatencySummary, Metric, MetricEvaluation, ModelRef, Offer, OperatorCost, OperatorKind, Origin, Outcome, PeakSource,
    Platform, Precision, PredictedMetric, Prediction, Priority, ReleaseId, ReleasePublished, RunId, RunRef,
    RunSubmitted, RunningJob, StopReason, TestCase, TestCaseStatus, TestOutcome, TestSpec, Timestamp, Warmth,
    WebOutcome, WebPhases, WebSpec, WorkerId,
};
use uuid::Uuid;

/// 2026-11-01T12:00:00Z, when everything in the samples begins.
const BEGIN_MICROS: i64 = 1_793_534_400_000_000;

/// A moment: this many seconds after 2026-11-01T12:00:00Z.
pub fn time(seconds: i64) -> Timestamp {
    Timestamp::from_micros(BEGIN_MICROS + seconds * 1_000_000)
}

/// The job id with this number; ids of larger numbers sort later.
pub fn job_id(number: u64) -> JobId {
    JobId::from(uuid(0x10b, number))
}

/// The run id with this number; ids of larger numbers sort later.
pub fn run_id(number: u64) -> RunId {
    RunId::from(uuid(0x42, number))
}

/// A valid version 7 UUID (RFC 9562): milliseconds, version, kind, variant, number.
fn uuid(kind: u16, number: u64) -> Uuid {
    let millis = u128::from(BEGIN_MICROS.unsigned_abs() / 1_000);
    Uuid::from_u128(
        millis << 80 | 7 << 76 | u128::from(kind & 0xfff) << 64 | 0b10 << 62 | u128::from(number & (u64::MAX >> 2)),
    )
}

/// The worker id `test-host:100:0`.
///
/// # Panics
///
/// Never: the name is valid.
pub fn worker_id() -> WorkerId {
    WorkerId::parse("test-host:100:0").expect("a valid worker id")
}

/// The release id `r000001-0a1b2c3d`.
///
/// # Panics
///
/// Never: the name is valid.
pub fn release_id() -> ReleaseId {
    ReleaseId::parse("r000001-0a1b2c3d").expect("a valid release id")
}

/// A model by this name whose hash follows from the name.
pub fn model(name: &str) -> ModelRef {
    let mut sha256 = [0x5a_u8; 32];
    for (at, byte) in name.bytes().enumerate() {
        sha256[at % 32] = sha256[at % 32].wrapping_mul(31).wrapping_add(byte);
    }
    ModelRef { name: name.to_owned(), sha256: ContentHash(sha256) }
}

/// `resnet50 cpu fp32 batch 4 image 224 threads 2`.
pub fn configuration() -> Configuration {
    Configuration {
        model: model("resnet50"),
        platform: Platform::Cpu,
        backend: Backend::Onnxruntime,
        precision: Precision::Fp32,
        batch_size: 4,
        sequence_length: None,
        image_size: Some(224),
        threads: 2,
        browser: None,
    }
}

/// An eight-core CPU with measured peaks.
pub fn device() -> Device {
    Device {
        name: "Test CPU 8-Core".to_owned(),
        platform: Platform::Cpu,
        platform_version: Some("Debian GNU/Linux 12".to_owned()),
        driver_version: None,
        memory_mb: Some(32_000.0),
        compute_units: Some(8),
        hardware_threads: Some(16),
        simd: Some("avx2".to_owned()),
        clock_mhz: Some(3_600.0),
        cache_l2_kb: Some(512.0),
        cache_l3_kb: Some(32_768.0),
        peak_fp32_gflops: Some(400.0),
        memory_bandwidth_gb_per_s: Some(40.0),
        peak_source: Some(PeakSource::Measured),
    }
}

/// Two kinds of operators, in the magnitude of `resnet50` at batch 4.
pub fn graph_costs() -> GraphCosts {
    let conv = OperatorCost {
        kind: OperatorKind::Conv,
        macs: 462_422_016,
        activation_elements: 1_605_632,
        weight_elements: 147_456,
        kernel_size: 3,
        count: 33,
    };
    let linear = OperatorCost {
        kind: OperatorKind::Linear,
        macs: 8_192_000,
        activation_elements: 12_192,
        weight_elements: 2_048_000,
        kernel_size: 0,
        count: 1,
    };
    GraphCosts { parameters: 25_557_032, operators: vec![conv, linear], memory: None }
}

/// The run that the sample jobs belong to: number 1, suite `sample`, two jobs.
pub fn run_ref() -> RunRef {
    RunRef { run_id: run_id(1), suite: "sample".to_owned(), jobs_total: 2, origin: Origin::Client }
}

/// The message that announces [`run_ref`].
pub fn run_submitted() -> RunSubmitted {
    RunSubmitted {
        run_id: run_id(1),
        suite: "sample".to_owned(),
        origin: Origin::Client,
        submitted_at: time(0),
        jobs_total: 2,
        only_job: None,
        needs: Vec::new(),
        configurations: Vec::new(),
        due_at: None,
        git_commit: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
        git_branch: Some("main".to_owned()),
        command_line: Some("augur run submit sample.yaml".to_owned()),
    }
}

/// Job 1: measures [`configuration`] with the usual settings, one minute at most.
pub fn benchmark_job() -> Job {
    Job {
        job_id: job_id(1),
        run: run_ref(),
        case: "resnet50-b4".to_owned(),
        priority: Priority::Normal,
        platform: Platform::Cpu,
        submitted_at: time(1),
        timeout_ms: 60_000,
        dispatch: Dispatch::default(),
        spec: JobSpec::Benchmark(Box::new(BenchmarkSpec::usual(configuration()))),
    }
}

/// Job 2: runs one test through the profile `pytest`, one minute at most.
pub fn test_job() -> Job {
    let test = TestSpec {
        profile: "pytest".to_owned(),
        module: Some("tests.test_sample".to_owned()),
        class: Some("TestSample".to_owned()),
        method: Some("test_adds".to_owned()),
    };
    Job {
        job_id: job_id(2),
        case: "sample-test".to_owned(),
        priority: Priority::High,
        submitted_at: time(2),
        spec: JobSpec::Test(test),
        ..benchmark_job()
    }
}

/// Job 3: measures [`configuration`] on WebGPU in Firefox.
pub fn web_job() -> Job {
    let configuration =
        Configuration { platform: Platform::Webgpu, backend: Backend::OrtWeb, threads: 1, ..configuration() };
    let spec = WebSpec::new(BenchmarkSpec::usual(configuration), vec!["firefox".to_owned()]);
    Job {
        job_id: job_id(3),
        case: "resnet50-firefox".to_owned(),
        platform: Platform::Webgpu,
        submitted_at: time(2),
        spec: JobSpec::Web(Box::new(spec)),
        ..benchmark_job()
    }
}

/// What [`web_job`] gave, on an adapter that computes on the processor.
pub fn web_outcome() -> WebOutcome {
    WebOutcome {
        benchmark: BenchmarkOutcome { backend_version: "1.30.0".to_owned(), ..benchmark_outcome() },
        platform: Platform::Webgpu,
        browser: "firefox".to_owned(),
        browser_version: "153.0".to_owned(),
        adapter: Some(Adapter {
            vendor: "mesa".to_owned(),
            description: "llvmpipe (LLVM 15.0.6, 256 bits)".to_owned(),
            is_fallback: true,
            ..Adapter::default()
        }),
        nodes: [("WebGpuExecutionProvider".to_owned(), 122)].into(),
        phases: WebPhases { fetch_ms: 40.0, session_ms: 380.0, first_run_ms: 150.0, total_ms: 1_400.0 },
        warmth: Warmth::WarmSession,
        threads: 1,
        recoveries: Vec::new(),
    }
}

/// [`web_job`] with [`web_outcome`].
pub fn web_result() -> JobResult {
    JobResult {
        job: web_job(),
        device: Some(Device::unknown("llvmpipe on Test CPU 8-Core", Platform::Webgpu)),
        outcome: Outcome::Web(Box::new(web_outcome())),
        ..job_result()
    }
}

/// What measuring [`configuration`] gave: eleven iterations of 50 to 60 ms.
///
/// # Panics
///
/// Never: the iterations are valid.
pub fn benchmark_outcome() -> BenchmarkOutcome {
    let iterations = (50..=60).map(f64::from).collect();
    let latency_ms = LatencySummary::from_iterations(iterations).expect("positive times");
    BenchmarkOutcome {
        throughput_items_per_second: 4.0 * 1_000.0 / latency_ms.p50,
        latency_ms,
        memory_peak_mb: Some(310.0),
        power_w: None,
        load_ms: 420.0,
        warmup_iterations: 3,
        stop: StopReason::Converged,
        backend_version: "1.31.1".to_owned(),
        costs: graph_costs(),
        conditions: None,
    }
}

/// What [`test_job`] found: one test, passed.
pub fn test_outcome() -> TestOutcome {
    let case = TestCase {
        module: Some("tests.test_sample".to_owned()),
        class: Some("TestSample".to_owned()),
        name: "test_adds".to_owned(),
        status: TestCaseStatus::Passed,
        duration_s: 0.25,
        message: None,
        traceback: None,
    };
    TestOutcome { exit_code: Some(0), cases: vec![case], output_tail: "1 passed in 0.25s\n".to_owned() }
}

/// A failure of this kind.
pub fn failure(kind: FailureKind) -> Failure {
    Failure {
        kind,
        message: format!("the attempt ended as {kind}"),
        output_tail: "last line of output\n".to_owned(),
        suggestion: None,
    }
}

/// [`benchmark_job`] with [`benchmark_outcome`] at the first attempt, started two seconds after its submission.
pub fn job_result() -> JobResult {
    JobResult {
        job: benchmark_job(),
        attempt: 1,
        worker_id: worker_id(),
        device: Some(device()),
        started_at: time(3),
        finished_at: time(5),
        outcome: Outcome::Benchmark(Box::new(benchmark_outcome())),
    }
}

/// [`test_job`] with [`test_outcome`].
pub fn test_result() -> JobResult {
    JobResult { job: test_job(), device: None, outcome: Outcome::Test(test_outcome()), ..job_result() }
}

/// [`benchmark_job`], failed.
pub fn failed_result(kind: FailureKind) -> JobResult {
    JobResult { outcome: Outcome::Failed(failure(kind)), ..job_result() }
}

/// The measurement that follows from [`job_result`].
pub fn accepted_measurement() -> AcceptedMeasurement {
    let outcome = benchmark_outcome();
    AcceptedMeasurement {
        job_id: job_id(1),
        run_id: run_id(1),
        measured_at: time(5),
        configuration: configuration(),
        device: device(),
        costs: graph_costs(),
        backend_version: outcome.backend_version,
        iterations: 11,
        latency_ms: outcome.latency_ms.p50,
        throughput_items_per_second: outcome.throughput_items_per_second,
        memory_peak_mb: outcome.memory_peak_mb,
        power_w: outcome.power_w,
        load_ms: outcome.load_ms,
    }
}

/// Measurements of one model at these batch sizes with 1 to 4 threads each, on a machine that is `slower` times as slow as
/// usual, with noise of up to 8 % that is a configuration's own; each call gives new jobs.
pub fn batch_grid(batch_sizes: impl IntoIterator<Item = u32>, slower: f64) -> Vec<AcceptedMeasurement> {
    let of_size = |size| [1, 2, 3, 4].map(|threads| batch_measurement(size, threads, slower));
    batch_sizes.into_iter().flat_map(of_size).collect()
}

fn batch_measurement(batch_size: u32, threads: u32, slower: f64) -> AcceptedMeasurement {
    let mut row = AcceptedMeasurement { job_id: JobId::new(), ..accepted_measurement() };
    row.configuration.batch_size = batch_size;
    row.configuration.threads = threads;
    for operator in &mut row.costs.operators {
        operator.macs = 1_000_000 * u64::from(batch_size);
        operator.activation_elements = 10_000 * u64::from(batch_size);
    }
    // The golden ratio's multiples lie evenly, modulo 1 (Knuth, The Art of Computer Programming, section 6.4).
    let noise = 0.92 + 0.16 * (f64::from(batch_size * 31 + threads) * 0.618_033_988_749_894_9).fract();
    row.latency_ms = slower * noise * 10.0 * f64::from(batch_size).powf(0.9) / f64::from(threads).sqrt();
    row.throughput_items_per_second = f64::from(batch_size) * 1e3 / row.latency_ms;
    row.memory_peak_mb = None;
    row.power_w = None;
    row
}

/// What [`release_id`] said about [`configuration`].
pub fn prediction() -> Prediction {
    let metric = |metric, value: f64| PredictedMetric { metric, value, lower: value * 0.8, upper: value * 1.25 };
    Prediction {
        release_id: release_id(),
        device: Some(device().name),
        metrics: vec![
            metric(Metric::LatencyMs, 52.0),
            metric(Metric::ThroughputItemsPerSecond, 76.0),
            metric(Metric::MemoryPeakMb, 300.0),
        ],
    }
}

/// The announcement of [`release_id`].
pub fn release_published() -> ReleasePublished {
    let evaluation = |metric, mape_pct| MetricEvaluation { metric, rows: 60, mape_pct, interval_90_coverage_pct: 91.0 };
    ReleasePublished {
        release_id: release_id(),
        parent: None,
        created_at: time(60),
        training_rows: 60,
        evaluation: vec![evaluation(Metric::LatencyMs, 12.5), evaluation(Metric::MemoryPeakMb, 8.0)],
    }
}

/// [`worker_id`], running [`benchmark_job`].
pub fn heartbeat() -> Heartbeat {
    let running = RunningJob {
        job_id: job_id(1),
        run_id: run_id(1),
        case: "resnet50-b4".to_owned(),
        attempt: 1,
        started_at: time(3),
        progress: None,
        leased: false,
    };
    Heartbeat {
        worker_id: worker_id(),
        host: "test-host".to_owned(),
        pid: 100,
        version: "0.1.0".to_owned(),
        started_at: time(0),
        sent_at: time(4),
        platforms: vec![Platform::Cpu],
        offer: Offer::default(),
        concurrency: 1,
        draining: false,
        running: vec![running],
        jobs_done: 7,
    }
}

/// The order to cancel [`run_ref`].
pub fn cancel() -> Cancel {
    Cancel { target: CancelTarget::Run(run_id(1)), requested_at: time(4) }
}

#[cfg(test)]
mod tests {
    use messages::Status;

    use super::*;

    #[test]
    fn samples_are_valid_and_the_same_every_time() {
        configuration().validate().expect("a valid configuration");
        assert_eq!(job_result(), job_result());
        assert_eq!(job_result().status(), Status::Passed);
        assert_eq!(test_result().status(), Status::Passed);
        assert_eq!(failed_result(FailureKind::Cancelled).status(), Status::Cancelled);
        assert_eq!(time(0).to_string(), "2026-11-01T12:00:00.000Z");
    }

    #[test]
    fn ids_are_version_7_distinct_and_sorted() {
        assert_eq!(Uuid::from(job_id(1)).get_version_num(), 7);
        assert_ne!(Uuid::from(job_id(1)), Uuid::from(run_id(1)));
        assert!(job_id(1) < job_id(2) && job_id(255) < job_id(256));
        assert_ne!(model("resnet50").sha256, model("resnet18").sha256);
    }
}
