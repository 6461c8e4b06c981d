//! However a stream is cut, repeated or restarted, the same tables come out.

use super::builders::{benchmark, record, run, run_id, stream, submitted};
use crate::{OutboxMode, Record, Store, TableDigest};

fn digest_after(batches: &[&[Record]], outbox: OutboxMode) -> Vec<TableDigest> {
    let store = Store::in_memory().expect("a store");
    for batch in batches {
        store.commit(batch, None, outbox).expect("stored");
    }
    store.digest().expect("a digest")
}

#[test]
fn batch_sizes_and_repetitions_do_not_matter() {
    let stream = stream();
    let whole = digest_after(&[&stream], OutboxMode::Feed);
    for size in 1..stream.len() {
        let batches: Vec<_> = stream.chunks(size).collect();
        assert_eq!(digest_after(&batches, OutboxMode::Skip), whole, "in batches of {size}");
    }
    assert_eq!(digest_after(&[&stream, &stream], OutboxMode::Feed), whole, "twice");
    assert_eq!(digest_after(&[&stream[..5], &stream[2..7], &stream[..]], OutboxMode::Feed), whole, "overlapping");
}

#[test]
fn a_replay_from_the_middle_and_then_from_the_start_gives_the_same() {
    let stream = stream();
    let whole = digest_after(&[&stream], OutboxMode::Skip);
    assert_eq!(digest_after(&[&stream[4..], &stream], OutboxMode::Skip), whole);
    let mut backwards = stream.clone();
    backwards.reverse();
    assert_eq!(digest_after(&[&backwards], OutboxMode::Skip), whole);
}

#[test]
fn other_content_gives_another_digest() {
    let stream = stream();
    let whole = digest_after(&[&stream], OutboxMode::Skip);
    assert_ne!(digest_after(&[&stream[..8]], OutboxMode::Skip), whole);
    let mut changed = stream;
    if let Record::Result(result) = &mut changed[1] {
        let messages::Outcome::Benchmark(outcome) = &mut result.outcome else { panic!("a benchmark") };
        outcome.latency_ms.iterations[2] += 1e-9;
    }
    let differing: Vec<_> = digest_after(&[&changed], OutboxMode::Skip)
        .into_iter()
        .zip(whole)
        .filter(|(new, old)| new != old)
        .map(|(new, _)| new.table)
        .collect();
    assert_eq!(differing, ["performance_results", "performance_batch_results"]);
}

#[test]
fn a_run_ends_with_its_last_result_whether_announced_or_not() {
    let run = run(1);
    let results = (1..=6).map(|n| record(benchmark(&run, n)));
    let announced: Vec<_> = std::iter::once(Record::Run(submitted(&run))).chain(results.clone()).collect();
    for (records, submitted_at) in
        [(announced, "2026-11-18T11:06:40.000Z"), (results.collect(), "2026-11-18T11:06:41.000Z")]
    {
        let store = Store::in_memory().expect("a store");
        let (last, others) = records.split_last().expect("records");
        store.commit(others, None, OutboxMode::Skip).expect("stored");
        let summary = store.run(run_id(1)).expect("read").expect("there");
        assert_eq!((summary.is_complete(), summary.done, summary.completed_at), (false, 5, None));
        store.commit(std::slice::from_ref(last), None, OutboxMode::Skip).expect("stored");
        let summary = store.run(run_id(1)).expect("read").expect("there");
        assert_eq!((summary.is_complete(), summary.passed), (true, 6));
        assert_eq!(summary.submitted_at, submitted_at);
        assert_eq!(summary.completed_at.as_deref(), Some("2026-11-18T11:06:58.000Z"));
        let success = "SELECT count(*) FROM test_runs WHERE success AND test_type = 'performance' \
                       AND execution_time_seconds > 16 AND completed_at > started_at";
        assert_eq!(super::commit::count(&store, success), 1);
    }
}
