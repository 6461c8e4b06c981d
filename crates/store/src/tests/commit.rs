//! One batch, one transaction, every job once.

use messages::{Message as _, Outcome};

use super::builders::{benchmark, device, record, run, run_id, stream, submitted, test_result};
use crate::{OutboxMode, Record, Store, StoredPosition, StreamPosition};

const RESULTS: &str = "results";

#[expect(clippy::unnecessary_wraps, reason = "commit takes an option, and so do most calls here")]
fn at(next_offset: u64) -> Option<StreamPosition<'static>> {
    Some(StreamPosition { stream: RESULTS, next_offset, last_message: None })
}

pub(super) fn count(store: &Store, sql: &str) -> i64 {
    store.reader().expect("a connection").query_row(sql, [], |row| row.get(0)).expect(sql)
}

fn next_offset(store: &Store) -> Option<u64> {
    store.stream_position(RESULTS).expect("read").map(|stored| stored.next_offset)
}

#[test]
fn a_position_is_stored_with_the_message_before_it() {
    let store = Store::in_memory().expect("a store");
    assert_eq!(store.stream_position(RESULTS).expect("read"), None);
    for (next_offset, last_message) in [(3, None), (9, Some("id-8")), (7, Some("other-6"))] {
        let position = StreamPosition { stream: RESULTS, next_offset, last_message };
        store.commit(&[], Some(position), OutboxMode::Feed).expect("stored");
        let stored = StoredPosition { next_offset, last_message: last_message.map(str::to_owned) };
        assert_eq!(store.stream_position(RESULTS).expect("read"), Some(stored));
    }
}

#[test]
fn a_batch_fills_every_table() {
    let store = Store::in_memory().expect("a store");
    let summary = store.commit(&stream(), at(17), OutboxMode::Feed).expect("stored");
    assert_eq!((summary.results_new, summary.results_duplicate, summary.runs_new), (8, 0, 2));
    assert_eq!((summary.measurements_accepted, summary.runs_touched), (4, vec![run_id(1), run_id(2)]));
    assert_eq!(next_offset(&store), Some(17));
    for (table, rows) in [
        ("jobs", 8),
        ("attempts", 8),
        ("runs", 2),
        ("test_runs", 2),
        ("models", 1),
        ("hardware_platforms", 1),
        ("performance_results", 4),
        ("performance_batch_results", 12),
        ("measurements", 4),
        ("graph_costs", 1),
        ("hardware_compatibility", 6),
        ("integration_test_results", 4),
        ("integration_test_assertions", 1),
        ("predictions", 2),
        ("prediction_errors", 1),
        ("outbox", 4),
    ] {
        assert_eq!(count(&store, &format!("SELECT count(*) FROM {table}")), rows, "rows of {table}");
    }
}

#[test]
fn keys_join_the_benchmark_tables() {
    let store = Store::in_memory().expect("a store");
    store.commit(&stream(), None, OutboxMode::Skip).expect("stored");
    let joined = "SELECT count(*) FROM performance_results p JOIN test_runs t USING (run_id) JOIN models m \
                  USING (model_id) JOIN hardware_platforms h USING (hardware_id) JOIN performance_batch_results b \
                  USING (result_id) WHERE m.parameters_million = 25.557032 AND h.device_name = 'Test CPU' \
                  AND h.memory_gb = 8 AND p.batch_size = b.batch_size AND p.created_at = b.created_at";
    assert_eq!(count(&store, joined), 12);
    let tests = "SELECT count(*) FROM integration_test_assertions a JOIN integration_test_results r \
                 USING (test_result_id) JOIN jobs j ON j.job_id = (r.metadata ->> 'job_id')::UUID \
                 WHERE NOT a.passed AND r.status = 'failed' AND r.test_class = 'TestBert' AND j.tests_failed = 1";
    assert_eq!(count(&store, tests), 1);
}

#[test]
fn a_job_counts_once_within_a_batch_and_across_batches() {
    let store = Store::in_memory().expect("a store");
    let first = benchmark(&run(1), 1);
    let mut second = first.clone();
    second.attempt = 2;
    let batch = [record(first.clone()), record(second.clone()), record(first)];
    let summary = store.commit(&batch, None, OutboxMode::Feed).expect("stored");
    assert_eq!((summary.results_new, summary.results_duplicate), (1, 2));
    let summary = store.commit(&[record(second)], at(3), OutboxMode::Feed).expect("stored");
    assert_eq!((summary.results_new, summary.results_duplicate, summary.runs_touched.len()), (0, 1, 0));
    assert_eq!(count(&store, "SELECT attempt FROM jobs"), 1, "the first result stands");
    assert_eq!(count(&store, "SELECT count(*) FROM outbox"), 1);
    assert_eq!(next_offset(&store), Some(3), "duplicates move the offset");
}

#[test]
fn a_failing_commit_changes_nothing() {
    let store = Store::in_memory().expect("a store");
    store.commit(&[record(benchmark(&run(1), 1))], at(1), OutboxMode::Feed).expect("stored");
    let before = store.digest().expect("a digest");
    store.writer().connection().execute_batch("ALTER TABLE outbox RENAME TO hidden").expect("renamed");
    let mut other_device = benchmark(&run(2), 2);
    other_device.device.as_mut().expect("a device").name = "Other CPU".to_owned();
    let batch = [Record::Run(submitted(&run(2))), record(other_device), record(test_result(&run(1), 3))];
    store.commit(&batch, at(4), OutboxMode::Feed).expect_err("no outbox");
    assert_eq!(store.digest().expect("a digest"), before);
    assert_eq!(next_offset(&store), Some(1));

    store.writer().connection().execute_batch("ALTER TABLE hidden RENAME TO outbox").expect("renamed");
    let summary = store.commit(&batch, at(4), OutboxMode::Feed).expect("stored now");
    assert_eq!(summary.results_new, 2);
    let device =
        "SELECT count(*) FROM jobs JOIN hardware_platforms USING (hardware_id) WHERE device_name = 'Other CPU'";
    assert_eq!(count(&store, device), 1, "a device of the failed batch has a row");
}

/// One of them kept all others from being stored, for ever.
#[test]
fn records_that_cannot_be_stored_are_told_from_the_rest() {
    let store = Store::in_memory().expect("a store");
    let mut records = stream();
    let spoilt = [3, 8];
    for index in spoilt {
        let Record::Result(result) = &mut records[index] else { panic!("a result") };
        let Outcome::Benchmark(benchmark) = &mut result.outcome else { panic!("a benchmark") };
        benchmark.warmup_iterations = u32::MAX;
    }
    let error = store.commit(&records, at(17), OutboxMode::Feed).expect_err("out of range");
    assert!(error.is_of_records(), "{error:?}");
    assert_eq!(count(&store, "SELECT count(*) FROM jobs"), 0);
    for new in [6, 0] {
        let salvaged = store.salvage(&records, OutboxMode::Feed).expect("salvaged");
        assert_eq!(salvaged.refused.iter().map(|refused| refused.index).collect::<Vec<_>>(), spoilt);
        assert_eq!((salvaged.summary.results_new, count(&store, "SELECT count(*) FROM jobs")), (new, 6));
    }
    assert_eq!(count(&store, "SELECT count(*) FROM outbox"), 2, "measured, accepted, and told once");
    assert_eq!(next_offset(&store), None);

    store.writer().connection().execute_batch("ALTER TABLE outbox RENAME TO hidden").expect("renamed");
    let other = [record(benchmark(&run(2), 13))];
    assert!(!store.salvage(&other, OutboxMode::Feed).expect_err("no outbox").is_of_records());
}

#[test]
fn the_outbox_gives_measurements_in_order_until_they_are_deleted() {
    let store = Store::in_memory().expect("a store");
    store.commit(&stream(), None, OutboxMode::Feed).expect("stored");
    let rows = store.outbox_batch(3).expect("read");
    assert_eq!(rows.len(), 3);
    let jobs: Vec<_> = rows
        .iter()
        .map(|row| messages::AcceptedMeasurement::from_bytes(row.schema_version, &row.body).expect("decodes").job_id)
        .collect();
    assert_eq!(jobs, [1, 2, 11].map(super::builders::job_id));
    assert!(rows.iter().all(|row| row.message_type == messages::AcceptedMeasurement::TYPE));
    store.outbox_delete(&[rows[0].id, rows[2].id]).expect("deleted");
    let left: Vec<_> = store.outbox_batch(10).expect("read").into_iter().map(|row| row.id).collect();
    assert_eq!(left.len(), 2);
    assert_eq!(left[0], rows[1].id);
    assert!(left[1] > rows[2].id);
}

#[test]
fn a_rejected_measurement_is_stored_and_not_published() {
    let store = Store::in_memory().expect("a store");
    let mut result = benchmark(&run(1), 1);
    if let Outcome::Benchmark(outcome) = &mut result.outcome {
        outcome.load_ms = f64::NAN;
    }
    let summary = store.commit(&[record(result)], None, OutboxMode::Feed).expect("stored");
    assert_eq!((summary.results_new, summary.measurements_accepted), (1, 0));
    assert!(store.outbox_batch(1).expect("read").is_empty());
    let row = store.job(super::builders::job_id(1)).expect("read").expect("there");
    assert_eq!(row.rejection.as_deref(), Some("its load time is NaN"));
    assert_eq!((row.accepted, row.load_ms, row.latency_p50_ms), (Some(false), None, Some(3.0)));
    assert!(store.measured().expect("read").is_empty());
}

#[test]
fn a_device_measured_anew_is_another_row() {
    let store = Store::in_memory().expect("a store");
    let mut again = benchmark(&run(1), 2);
    again.device = Some(messages::Device { peak_fp32_gflops: Some(200.0), ..device() });
    let batch = [record(benchmark(&run(1), 1)), record(again), record(benchmark(&run(1), 3))];
    store.commit(&batch, None, OutboxMode::Skip).expect("stored");
    assert_eq!(count(&store, "SELECT count(*) FROM hardware_platforms"), 2);
    let measured = "SELECT count(*) FROM jobs JOIN hardware_platforms h USING (hardware_id) \
                    WHERE (h.metadata ->> 'peak_fp32_gflops')::DOUBLE = 200";
    assert_eq!(count(&store, measured), 1);
}
