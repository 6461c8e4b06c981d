//! What the aggregator's commits cost: batches of new results into a database file that grows.

use std::time::Duration;

use criterion::{BatchSize, Criterion, SamplingMode, Throughput};
use messages::{Job, JobResult, Outcome, RunRef, TestOutcome};
use store::{OutboxMode, Record, Store, StreamPosition};
use testkit::builders;
use topology::names;

/// Results per transaction, the aggregator's most.
const BATCH: u64 = 2_000;
/// Jobs of one run.
const RUN: u64 = 10_000;

fn main() {
    let mut criterion = Criterion::default()
        .configure_from_args()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5));
    insert(&mut criterion, "noop_results", |number| {
        let outcome = TestOutcome { exit_code: Some(0), cases: Vec::new(), output_tail: String::new() };
        numbered(JobResult { outcome: Outcome::Test(outcome), ..builders::test_result() }, number)
    });
    insert(&mut criterion, "benchmark_results", |number| numbered(builders::job_result(), number));
    criterion.final_summary();
}

/// The result of another job.
fn numbered(result: JobResult, number: u64) -> JobResult {
    let run = RunRef { run_id: builders::run_id(number / RUN), jobs_total: 10_000, ..builders::run_ref() };
    JobResult { job: Job { job_id: builders::job_id(number), run, ..result.job }, ..result }
}

fn insert(criterion: &mut Criterion, name: &str, result: impl Fn(u64) -> JobResult) {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open(&directory.path().join("bench.duckdb")).expect("a database");
    let mut next = 0;
    let mut group = criterion.benchmark_group("insert");
    group.throughput(Throughput::Elements(BATCH)).sampling_mode(SamplingMode::Flat);
    group.bench_function(name, |bencher| {
        bencher.iter_batched(
            || {
                let batch = (next..next + BATCH).map(|number| Record::Result(Box::new(result(number)))).collect();
                next += BATCH;
                (batch, next)
            },
            |(batch, next_offset): (Vec<Record>, u64)| {
                let position = StreamPosition { stream: names::RESULTS, next_offset, last_message: None };
                let summary = store.commit(&batch, Some(position), OutboxMode::Feed).expect("a commit");
                assert_eq!(summary.results_new, batch.len());
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}
