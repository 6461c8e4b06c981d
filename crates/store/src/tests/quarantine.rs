//! What cannot be measured is kept and teaches nothing until somebody says otherwise.

use messages::{AcceptedMeasurement, Conditions, JobResult, JobSpec, MachineState, Mark, Outcome, decode};

use super::{
    builders::{benchmark, job_id, lifted, poisoned_benchmark, predicted_benchmark, record, run, run_id},
    commit::count,
};
use crate::{MachineStateRow, OutboxMode, Record, Store};

fn committed(store: &Store, records: &[Record]) -> usize {
    store.commit(records, None, OutboxMode::Feed).expect("stored").measurements_accepted
}

/// Standing of job `n` and whether it teaches.
fn standing(store: &Store, n: u32) -> (Option<String>, Option<bool>) {
    let row = store.job(job_id(n)).expect("read").expect("stored");
    (row.standing, row.accepted)
}

#[expect(clippy::unnecessary_wraps, reason = "rows have options")]
fn word(word: &str) -> Option<String> {
    Some(word.to_owned())
}

#[test]
fn a_poisoned_measurement_counts_as_a_result_and_teaches_nothing() {
    let store = Store::in_memory().expect("a store");
    assert_eq!(committed(&store, &[record(poisoned_benchmark(&run(1), 1)), record(benchmark(&run(1), 2))]), 1);
    assert_eq!(standing(&store, 1), (word("quarantined"), Some(false)));
    assert_eq!(standing(&store, 2), (word("accepted"), Some(true)));
    assert_eq!(store.runs(1).expect("read")[0].passed, 2);
    assert_eq!(store.accepted_measurements().expect("read").len(), 1);
    assert_eq!(count(&store, "SELECT count(*) FROM outbox"), 1);
    assert_eq!(count(&store, "SELECT count(*) FROM prediction_errors"), 0);
    let [row] = &store.quarantined(Some(run_id(1))).expect("read")[..] else { panic!("one is quarantined") };
    assert_eq!((row.job_id.as_str(), row.reason.as_str()), (job_id(1).to_string().as_str(), "its mean latency is 0"));
    assert_eq!(store.quarantined(None).expect("read"), store.held_back(run_id(1), 10).expect("read"));
    assert_eq!(store.quarantined(Some(run_id(2))).expect("read"), []);
}

#[test]
fn a_lifted_quarantine_feeds_the_measurement_once() {
    let store = Store::in_memory().expect("a store");
    committed(&store, &[record(poisoned_benchmark(&run(1), 1))]);
    assert_eq!(committed(&store, &[lifted(1, 50)]), 1);
    assert_eq!(standing(&store, 1), (word("released"), Some(true)));
    // Again, by another, and the whole stream anew.
    assert_eq!(committed(&store, &[lifted(1, 50), lifted(1, 51)]), 0);
    assert_eq!(committed(&store, &[record(poisoned_benchmark(&run(1), 1)), lifted(1, 50)]), 0);
    let [row] = &store.outbox_batch(10).expect("read")[..] else { panic!("fed once") };
    let fed: AcceptedMeasurement =
        decode(Some(&row.message_type), Some(row.schema_version), &row.body).expect("a measurement");
    assert_eq!((fed.job_id, fed.latency_ms.to_bits()), (job_id(1), 0.0_f64.to_bits()));
    assert_eq!(store.quarantined(None).expect("read"), []);
    let kept = store.job(job_id(1)).expect("read").expect("stored").rejection;
    assert_eq!(kept, word("its mean latency is 0"), "why it was there stays known");
}

#[test]
fn an_order_may_come_before_its_result_even_by_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("augur.duckdb");
    assert_eq!(committed(&Store::open(&file).expect("a store"), &[lifted(1, 50)]), 0);
    let store = Store::open(&file).expect("a store");
    assert_eq!(committed(&store, &[record(poisoned_benchmark(&run(1), 1)), record(poisoned_benchmark(&run(1), 2))]), 1);
    assert_eq!([1, 2].map(|n| standing(&store, n).0), [word("released"), word("quarantined")]);
}

#[test]
fn a_copy_of_the_stream_feeds_nobody() {
    let store = Store::in_memory().expect("a store");
    let records = [record(poisoned_benchmark(&run(1), 1)), lifted(1, 50)];
    store.commit(&records, None, OutboxMode::Skip).expect("stored");
    assert_eq!((standing(&store, 1).0, count(&store, "SELECT count(*) FROM outbox")), (word("released"), 0));
}

#[test]
fn a_released_measurement_is_held_against_its_prediction() {
    let store = Store::in_memory().expect("a store");
    let mut late = poisoned_benchmark(&run(1), 1);
    if let Outcome::Benchmark(outcome) = &mut late.outcome {
        let Outcome::Benchmark(plausible) = benchmark(&run(1), 1).outcome else { panic!("a benchmark") };
        outcome.latency_ms = plausible.latency_ms;
        outcome.load_ms = 0.0;
    }
    committed(&store, &[record(late), lifted(1, 50)]);
    let [error] = &store.prediction_errors(None).expect("read")[..] else { panic!("one metric was measured") };
    // 4 ms were predicted, and 3 ms measured; the bounds are a tenth away.
    assert_eq!((error.metric.as_str(), error.measured, error.inside), ("latency_ms", Some(3.0), false));
    assert!(error.error_pct.is_some_and(|pct| (pct - 100.0 / 3.0).abs() < 1e-9), "{error:?}");
}

/// Two unlike machines may take the jobs of one platform.
#[test]
fn what_was_said_of_a_device_is_not_held_against_another() {
    let store = Store::in_memory().expect("a store");
    let of_another = |mut result: JobResult| {
        if let JobSpec::Benchmark(spec) = &mut result.job.spec
            && let Some(prediction) = &mut spec.prediction
        {
            prediction.device = Some("another machine".to_owned());
        }
        record(result)
    };
    let mut late = predicted_benchmark(&run(1), 2, 4.0);
    if let Outcome::Benchmark(outcome) = &mut late.outcome {
        outcome.load_ms = 0.0;
    }
    let records = [of_another(predicted_benchmark(&run(1), 1, 4.0)), of_another(late), lifted(2, 50)];
    assert_eq!(committed(&store, &records), 2);
    assert_eq!(store.prediction_errors(None).expect("read"), []);
    assert_eq!(count(&store, "SELECT count(*) FROM predictions"), 4, "what was said stays known");
}

#[test]
fn a_marked_measurement_counts_as_a_result_and_no_order_changes_that() {
    let store = Store::in_memory().expect("a store");
    let mut result = benchmark(&run(1), 1);
    let before = MachineState { clock_mhz: Some(3_000.0), temperature_c: None, load_average: Some(0.5) };
    if let Outcome::Benchmark(outcome) = &mut result.outcome {
        let mark = Some(Mark::Throttled("the clock fell".to_owned()));
        outcome.conditions = Some(Conditions { before, mark, waited_pct: Some(1.5), ..Conditions::default() });
    }
    assert_eq!(committed(&store, &[record(result), lifted(1, 50)]), 0);
    assert_eq!(standing(&store, 1), (word("throttled"), Some(false)));
    let row = store.job(job_id(1)).expect("read").expect("stored");
    let conditions = row.conditions.expect("they were looked at");
    assert_eq!((row.rejection, conditions.waited_pct), (word("the clock fell"), Some(1.5)));
    let before = MachineStateRow { clock_mhz: Some(3_000.0), temperature_c: None, load_average: Some(0.5) };
    assert_eq!(conditions.before, before);
    assert_eq!(store.quarantined(None).expect("read"), []);
    let [held_back] = &store.held_back(run_id(1), 10).expect("read")[..] else { panic!("one is held back") };
    assert_eq!((held_back.standing.as_str(), held_back.reason.as_str()), ("throttled", "the clock fell"));
}
