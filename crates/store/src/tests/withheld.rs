//! What is not to be proposed though nobody has measured it.

use messages::{CancelTarget, Configuration, FailureKind, JobResult, JobSpec, Outcome, RunSubmitted};

use super::builders::{
    benchmark, cancel, dead, device, failed_benchmark, failed_web_benchmark, record, run, run_id, seconds, submitted,
    test_result,
};
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
    store.withheld(seconds(since), seconds(0)).expect("read").queued
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

/// Only what was among the latest 1,000 results was known to have failed.
#[test]
fn what_failed_a_short_while_ago_is_withheld_by_the_name_that_a_proposal_has() {
    let failed = |store: &Store, since| store.withheld(seconds(0), seconds(since)).expect("read").failed;
    let failing = |n, change: fn(&mut Configuration)| {
        let mut result = failed_benchmark(&run(1), n);
        let JobSpec::Benchmark(spec) = &mut result.job.spec else { panic!("a benchmark") };
        change(&mut spec.configuration);
        (spec.configuration.to_string(), record(result))
    };
    let (image, of_image) = failing(1, |_| ());
    let (text, of_text) = failing(2, |of| (of.sequence_length, of.image_size) = (Some(128), None));
    let web = failed_web_benchmark(&run(1), 3);
    let in_browser = web.configuration().expect("a benchmark").to_string();
    let others = [record(benchmark(&run(1), 4)), record(test_result(&run(1), 5))];
    let store = stored(&[&[of_image, of_text, record(web)][..], &others].concat());
    let mut expected = [image, text.clone(), in_browser.clone()];
    expected.sort();
    assert_eq!(failed(&store, 0), expected);
    assert_eq!(failed(&store, 14), [text, in_browser], "the first one ended at 13");
    assert_eq!(failed(&store, 16), [""; 0]);
}

/// One of several repeats had the number of the repeat in its name, and was proposed again.
#[test]
fn what_is_dead_is_withheld_by_its_configuration_whichever_repeat_it_was() {
    let named = |n, case: &str| {
        let Record::Attempt(mut attempt) = dead(&run(1), n, 3) else { panic!("an attempt") };
        case.clone_into(&mut attempt.result.job.case);
        Record::Attempt(attempt)
    };
    let configurations = ["a threads 1", "a threads 1 firefox", "a threads 10"];
    let store = stored(&[measuring(1, &configurations), named(1, "a threads 1 firefox"), named(2, "a threads 10 2")]);
    let dead = |store: &Store| store.withheld(seconds(0), seconds(0)).expect("read").dead;
    assert_eq!(dead(&store), ["a threads 1 firefox", "a threads 10"]);
    commit(&store, &[named(3, "a threads 1 3"), named(4, "a threads 1 4"), named(5, "other 1")]);
    assert_eq!(dead(&store), ["a threads 1", "a threads 1 firefox", "a threads 10", "other 1"]);
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
    let incompatible = |store: &Store| store.withheld(seconds(0), seconds(0)).expect("read").incompatible;
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
