//! What is not to be proposed though nobody has measured it.

use messages::{CancelTarget, FailureKind, JobResult, Outcome, RunSubmitted};

use super::builders::{benchmark, cancel, device, failed_benchmark, record, run, run_id, seconds, submitted};
use crate::{IncompatibleRow, OutboxMode, Record, Store};

fn stored(records: &[Record]) -> Store {
    let store = Store::in_memory().expect("a store");
    commit(&store, records);
    store
}

fn commit(store: &Store, records: &[Record]) {
    store.commit(records, None, OutboxMode::Feed).expect("stored");
}

/// A run of two jobs, which measure this.
fn measuring(n: u32, configurations: &[&str]) -> Record {
    let configurations = configurations.iter().map(|text| (*text).to_owned()).collect();
    Record::Run(RunSubmitted { jobs_total: 2, configurations, ..submitted(&run(n)) })
}

fn queued(store: &Store, since: u32) -> Vec<String> {
    store.withheld(seconds(since)).expect("read").queued
}

#[test]
fn what_open_runs_measure_is_withheld_until_they_are_complete_cancelled_or_old() {
    let store = stored(&[measuring(1, &["b", "a"]), measuring(2, &["b", "c"]), measuring(3, &["d"])]);
    // Told again.
    commit(&store, &[measuring(1, &["b", "a"])]);
    assert_eq!(queued(&store, 0), ["a", "b", "c", "d"]);
    commit(&store, &[record(benchmark(&run(1), 1)), cancel(CancelTarget::Run(run_id(3)), 9)]);
    assert_eq!(queued(&store, 0), ["a", "b", "c"], "one of two has not ended");
    commit(&store, &[record(benchmark(&run(1), 2))]);
    assert_eq!(queued(&store, 0), ["b", "c"]);
    assert_eq!(queued(&store, 1), [""; 0]);
    let Record::Run(late) = measuring(4, &["e"]) else { panic!("a run") };
    commit(&store, &[Record::Run(RunSubmitted { due_at: Some(seconds(50)), ..late })]);
    assert_eq!(queued(&store, 50), ["e"], "it was not due before");
}

/// A benchmark that failed on our device for this reason.
fn failed(n: u32, kind: FailureKind) -> Record {
    let mut result = JobResult { device: Some(device()), ..failed_benchmark(&run(1), n) };
    let Outcome::Failed(failure) = &mut result.outcome else { panic!("a failure") };
    failure.kind = kind;
    record(result)
}

#[test]
fn a_model_that_a_backend_refused_is_incompatible_until_it_runs() {
    let incompatible = |store: &Store| store.withheld(seconds(0)).expect("read").incompatible;
    let store = stored(&[failed(1, FailureKind::OutOfMemory), failed(2, FailureKind::Unavailable)]);
    assert_eq!(incompatible(&store), [], "another size may run, and what is missing may be installed");
    commit(&store, &[failed(3, FailureKind::BackendError)]);
    let row = |text: &str| text.to_owned();
    let expected = IncompatibleRow {
        model: row("resnet50"),
        platform: row("cpu"),
        device: row("Test CPU"),
        message: Some(row("unsupported operator")),
    };
    assert_eq!(incompatible(&store), [expected]);
    commit(&store, &[record(benchmark(&run(1), 4))]);
    assert_eq!(incompatible(&store), []);
}
