//! What queries answer.

use messages::{
    Heartbeat, Metric, MetricEvaluation, Offer, Platform, Progress, ReleaseId, ReleasePublished, RunningJob, Timestamp,
    WorkerId,
};

use super::builders::{configuration, job_id, run_id, seconds, stream};
use crate::{OutboxMode, Store};

fn filled() -> Store {
    let store = Store::in_memory().expect("a store");
    store.commit(&stream(), None, OutboxMode::Skip).expect("stored");
    store
}

#[test]
fn runs_are_counted_and_listed_newest_first() {
    let runs = filled().runs(10).expect("read");
    let counts: Vec<_> =
        runs.iter().map(|run| (run.suite.as_str(), run.done, run.passed, run.failed, run.error)).collect();
    assert_eq!(counts, [("suite-2", 2, 1, 0, 1), ("suite-1", 6, 4, 1, 1)]);
    assert_eq!(runs[1].run_id, run_id(1).to_string());
    assert_eq!(runs[1].git_branch.as_deref(), Some("main"));
    assert_eq!(runs[1].duration_s, Some(18.0));
    assert!(filled().run(run_id(99)).expect("read").is_none());
}

#[test]
fn results_carry_configuration_metrics_failure_and_prediction() {
    let results = filled().run_results(run_id(1)).expect("read");
    let cases: Vec<_> = results.iter().map(|row| (row.case.as_str(), row.status.as_str())).collect();
    assert_eq!(
        cases,
        [
            ("case-1", "passed"),
            ("case-2", "passed"),
            ("case-3", "failed"),
            ("case-4", "error"),
            ("case-5", "passed"),
            ("case-6", "passed")
        ]
    );
    let predicted = &results[1];
    assert_eq!((predicted.batch_size, predicted.image_size, predicted.iterations), (Some(3), Some(224), Some(3)));
    assert_eq!((predicted.latency_p50_ms, predicted.memory_peak_mb), (Some(4.0), Some(200.0)));
    assert!((predicted.queue_wait_s - 10.0).abs() < 1e-9 && (predicted.duration_s - 2.0).abs() < 1e-9);
    let latency = &predicted.predictions[0];
    assert_eq!((latency.metric.as_str(), latency.measured, latency.inside), ("latency_ms", Some(4.0), Some(true)));
    assert!((latency.error_pct.expect("measured") - 5.0).abs() < 1e-9);
    let power = &predicted.predictions[1];
    assert_eq!((power.metric.as_str(), power.value, power.measured), ("power_w", Some(5.0), None));
    let failed = &results[3];
    assert_eq!(failed.failure_type.as_deref(), Some("backend-error"));
    assert_eq!((failed.suggestion.as_deref(), failed.output_tail.as_deref()), (Some("use fp32"), Some("last words")));
    assert_eq!((results[2].tests_total, results[2].tests_failed, results[2].exit_code), (Some(2), Some(1), Some(1)));
}

#[test]
fn single_jobs_and_their_iterations_are_found() {
    let store = filled();
    assert_eq!(store.job(job_id(11)).expect("read").expect("there").run_id, run_id(2).to_string());
    assert!(store.job(job_id(99)).expect("read").is_none());
    assert_eq!(store.iterations_ms(job_id(11)).expect("read"), [12.0, 13.0, 14.0]);
    let latest: Vec<_> = store.latest_results(2).expect("read").into_iter().map(|row| row.case).collect();
    assert_eq!(latest, ["case-12", "case-11"]);
}

#[test]
fn measured_configurations_give_back_what_was_submitted() {
    let measured = filled().measured().expect("read");
    let medians: Vec<_> = measured.iter().map(|row| (row.batch_size, row.measurements, row.latency_ms)).collect();
    assert_eq!(medians, [(2, 2, 5.0), (3, 1, 4.0), (4, 1, 13.0)]);
    assert_eq!(measured[0].configuration().expect("known words"), configuration(1));
}

#[test]
fn prediction_errors_are_those_of_the_run() {
    let store = filled();
    let errors = store.prediction_errors(Some(run_id(1))).expect("read");
    assert_eq!(errors.len(), 1);
    assert_eq!((errors[0].metric.as_str(), errors[0].model.as_deref()), ("latency_ms", Some("resnet50")));
    assert_eq!(store.prediction_errors(None).expect("read"), errors);
    assert!(store.prediction_errors(Some(run_id(2))).expect("read").is_empty());
}

fn heartbeat(sent_at: Timestamp, jobs_done: u64) -> Heartbeat {
    Heartbeat {
        worker_id: WorkerId::parse("host:1:0").expect("a name"),
        host: "host".to_owned(),
        pid: 1,
        version: "0.1.0".to_owned(),
        started_at: seconds(0),
        sent_at,
        platforms: vec![Platform::Cpu, Platform::Cuda],
        offer: Offer { memory_mb: Some(16_000), tags: vec!["lab".to_owned()], ..Offer::default() },
        concurrency: 2,
        draining: false,
        running: vec![RunningJob {
            job_id: job_id(1),
            run_id: run_id(1),
            case: "case-1".to_owned(),
            attempt: 2,
            started_at: seconds(1),
            progress: Some(Progress { done: 7, total: 100 }),
            leased: true,
        }],
        jobs_done,
    }
}

#[test]
fn a_worker_is_known_by_its_latest_heartbeat() {
    let store = Store::in_memory().expect("a store");
    for (second, jobs_done) in [(1, 1), (3, 3), (2, 2)] {
        store.upsert_worker(&heartbeat(seconds(second), jobs_done)).expect("stored");
    }
    let workers = store.workers().expect("read");
    assert_eq!(workers.len(), 1);
    assert_eq!((workers[0].jobs_done, workers[0].last_seen_at.as_str()), (3, "2026-11-18T11:06:43.000Z"));
    assert_eq!(workers[0].platforms, ["cpu", "cuda"]);
    assert_eq!((workers[0].memory_mb, workers[0].device_memory_mb), (Some(16_000), None));
    assert_eq!(workers[0].offer().tags, ["lab"]);
    let running = &workers[0].running[0];
    assert_eq!(running.started_at, "2026-11-18T11:06:41.000Z");
    assert_eq!((running.attempt, running.progress_done, running.progress_total), (2, Some(7), Some(100)));
    assert!(running.leased);
}

#[test]
fn a_worker_that_an_earlier_version_stored_is_still_read() {
    let store = Store::in_memory().expect("a store");
    store.upsert_worker(&heartbeat(seconds(1), 1)).expect("stored");
    let earlier = r#"UPDATE workers SET offer = NULL,
        running = '[{"job_id":"j","run_id":"r","case":"c","started_at":1795000001000000}]'"#;
    store.writer().connection().execute_batch(earlier).expect("changed");
    let workers = store.workers().expect("read");
    assert_eq!(workers[0].offer(), Offer::default());
    assert_eq!((workers[0].running[0].attempt, workers[0].running[0].leased), (1, false));
}

#[test]
fn a_release_is_stored_once() {
    let store = Store::in_memory().expect("a store");
    let release = ReleasePublished {
        release_id: ReleaseId::parse("r000001-0a1b2c3d").expect("a name"),
        parent: None,
        created_at: seconds(5),
        training_rows: 70,
        evaluation: vec![MetricEvaluation {
            metric: Metric::LatencyMs,
            rows: 70,
            mape_pct: 12.5,
            interval_90_coverage_pct: f64::NAN,
        }],
    };
    store.insert_release(&release).expect("stored");
    store.insert_release(&release).expect("known");
    let releases = store.releases().expect("read");
    assert_eq!(releases.len(), 1);
    assert_eq!((releases[0].training_rows, releases[0].parent.as_deref()), (70, None));
    assert_eq!(releases[0].evaluation[0].mape_pct, Some(12.5));
    assert_eq!(releases[0].evaluation[0].interval_90_coverage_pct, None);
}

#[test]
fn accepted_measurements_come_back_as_they_were_accepted() {
    let store = filled();
    let found = store.accepted_measurements().expect("read");
    let expected: Vec<_> = stream().iter().filter_map(accepted_of).collect();
    assert!(!expected.is_empty());
    for expected in expected {
        let found = found.iter().find(|found| found.job_id == expected.job_id).expect("stored");
        // The graph's memory is in no table.
        let costs = messages::GraphCosts { memory: None, ..expected.costs.clone() };
        assert_eq!(*found, messages::AcceptedMeasurement { costs, ..expected });
    }
}

/// What is learned from a record, if it is a result that is accepted.
fn accepted_of(record: &crate::Record) -> Option<messages::AcceptedMeasurement> {
    let crate::Record::Result(result) = record else { return None };
    crate::accept(result).ok()
}
