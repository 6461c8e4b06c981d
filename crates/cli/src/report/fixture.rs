//! A small run with one of each: measured, failed, broken, cancelled, predicted.

use store::{AttemptRow, PredictedRow, ResultRow, RunSummary};

/// The run.
pub(super) fn run() -> RunSummary {
    RunSummary {
        run_id: "0193a1b2-0000-7000-8000-000000000001".to_owned(),
        suite: "nightly <main>".to_owned(),
        origin: "client".to_owned(),
        submitted_at: "2026-11-22T09:00:00Z".to_owned(),
        completed_at: Some("2026-11-22T09:03:12Z".to_owned()),
        duration_s: Some(192.0),
        jobs_total: 7,
        done: 7,
        passed: 4,
        failed: 1,
        error: 1,
        cancelled: 1,
        dead: 0,
        retried: 0,
        due_at: None,
        cancelled_at: None,
        git_commit: Some("4f2c1d9e8b7a6053".to_owned()),
        git_branch: Some("main".to_owned()),
        regressions: 0,
    }
}

/// A job that used up its attempts.
pub(super) fn dead() -> Vec<AttemptRow> {
    vec![AttemptRow {
        job_id: "job-poison".to_owned(),
        run_id: run().run_id,
        case: Some("poison".to_owned()),
        attempt: 3,
        replays: 0,
        worker_id: "worker-1".to_owned(),
        started_at: "2026-11-22T09:00:02Z".to_owned(),
        finished_at: "2026-11-22T09:00:03.5Z".to_owned(),
        status: "error".to_owned(),
        next: Some("dead-letter".to_owned()),
        failure_type: Some("crashed".to_owned()),
        failure_message: Some("killed by SIGSEGV".to_owned()),
        output_tail: Some("FATAL\n".to_owned()),
    }]
}

/// Its results.
pub(super) fn results() -> Vec<ResultRow> {
    vec![
        ResultRow {
            memory_peak_mb: Some(640.25),
            predictions: vec![
                predicted("latency_ms", 111.65, (90.0, 130.0), Some(101.5)),
                predicted("throughput_items_per_second", 8.865, (7.0, 11.0), Some(9.85)),
            ],
            ..benchmark("bert-b1", "bert-base-uncased", 1, 101.5, 9.85)
        },
        ResultRow {
            predictions: vec![
                predicted("latency_ms", 310.0, (280.0, 340.0), Some(390.0)),
                predicted("memory_peak_mb", 700.0, (500.0, 900.0), None),
            ],
            accepted: Some(false),
            rejection: Some("too few iterations".to_owned()),
            ..benchmark("bert-b4", "bert-base-uncased", 4, 390.0, 10.26)
        },
        ResultRow {
            sequence_length: None,
            image_size: Some(224),
            memory_peak_mb: Some(210.0),
            ..benchmark("resnet-b1", "resnet50", 1, 45.125, 22.16)
        },
        ResultRow {
            status: "error".to_owned(),
            latency_mean_ms: None,
            latency_p50_ms: None,
            latency_p90_ms: None,
            latency_p99_ms: None,
            throughput_items_per_second: None,
            failure_type: Some("model-missing".to_owned()),
            failure_message: Some("no model `broken` | with that hash".to_owned()),
            suggestion: Some("run `augur model build broken`".to_owned()),
            ..benchmark("broken-model", "broken", 1, 0.0, 0.0)
        },
        ResultRow { exit_code: Some(0), tests_total: Some(12), tests_failed: Some(0), ..test("checks", "passed") },
        ResultRow {
            exit_code: Some(1),
            tests_total: Some(3),
            tests_failed: Some(1),
            failure_type: Some("test-failed".to_owned()),
            failure_message: Some("1 of 3 tests failed".to_owned()),
            output_tail: Some(
                "\u{1b}[31mE  assert 1 < \"2\" & ```\u{1b}[0m\n</pre><script>alert(1)</script>\n".to_owned(),
            ),
            ..test("unit", "failed")
        },
        test("late", "cancelled"),
    ]
}

fn predicted(metric: &str, value: f64, (lower, upper): (f64, f64), measured: Option<f64>) -> PredictedRow {
    PredictedRow {
        release_id: "r1".to_owned(),
        metric: metric.to_owned(),
        value: Some(value),
        lower: Some(lower),
        upper: Some(upper),
        measured,
        error_pct: measured.map(|measured| (100.0 * (value - measured) / measured).round()),
        inside: measured.map(|measured| (lower..=upper).contains(&measured)),
    }
}

/// A benchmark that passed with 128 tokens on 2 threads, its memory unknown.
pub(crate) fn benchmark(case: &str, model: &str, batch_size: u32, latency_ms: f64, throughput: f64) -> ResultRow {
    ResultRow {
        kind: "benchmark".to_owned(),
        device: Some("EPYC, 2 cores".to_owned()),
        model: Some(model.to_owned()),
        backend: Some("onnxruntime".to_owned()),
        backend_version: Some("1.31.1".to_owned()),
        precision: Some("fp32".to_owned()),
        batch_size: Some(batch_size),
        sequence_length: Some(128),
        threads: Some(2),
        latency_mean_ms: Some(latency_ms * 1.01),
        latency_p50_ms: Some(latency_ms),
        latency_p90_ms: Some(latency_ms * 1.1),
        latency_p99_ms: Some(latency_ms * 1.25),
        throughput_items_per_second: Some(throughput),
        load_ms: Some(812.0),
        iterations: Some(30),
        stop_reason: Some("converged".to_owned()),
        accepted: Some(true),
        ..test(case, "passed")
    }
}

fn test(case: &str, status: &str) -> ResultRow {
    ResultRow {
        job_id: format!("job-{case}"),
        run_id: run().run_id,
        case: case.to_owned(),
        kind: "test".to_owned(),
        status: status.to_owned(),
        platform: "cpu".to_owned(),
        priority: "normal".to_owned(),
        attempt: 1,
        worker_id: "worker-1".to_owned(),
        device: None,
        submitted_at: "2026-11-22T09:00:00Z".to_owned(),
        started_at: "2026-11-22T09:00:02Z".to_owned(),
        finished_at: "2026-11-22T09:00:03.5Z".to_owned(),
        queue_wait_s: 2.0,
        duration_s: 1.5,
        model: None,
        model_sha256: None,
        backend: None,
        precision: None,
        batch_size: None,
        sequence_length: None,
        image_size: None,
        threads: None,
        browser: None,
        latency_mean_ms: None,
        latency_p50_ms: None,
        latency_p90_ms: None,
        latency_p99_ms: None,
        throughput_items_per_second: None,
        memory_peak_mb: None,
        power_w: None,
        load_ms: None,
        iterations: None,
        stop_reason: None,
        backend_version: None,
        accepted: None,
        rejection: None,
        standing: None,
        conditions: None,
        exit_code: None,
        tests_total: None,
        tests_failed: None,
        failure_type: None,
        failure_message: None,
        suggestion: None,
        output_tail: None,
        web: None,
        predictions: Vec::new(),
    }
}
