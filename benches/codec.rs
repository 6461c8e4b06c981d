//! Encoding and decoding of the messages that flow most: jobs, no-op results, benchmark results.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput};
use messages::{JobResult, Message, Outcome, TestOutcome, decode, encode};
use testkit::builders;

fn main() {
    let mut criterion = Criterion::default()
        .configure_from_args()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    codec(&mut criterion, "job", &builders::benchmark_job());
    codec(&mut criterion, "noop_result", &noop_result());
    codec(&mut criterion, "benchmark_result", &builders::job_result());
    criterion.final_summary();
}

/// What the profile `noop` gives.
fn noop_result() -> JobResult {
    let outcome = TestOutcome { exit_code: Some(0), cases: Vec::new(), output_tail: String::new() };
    JobResult { outcome: Outcome::Test(outcome), ..builders::test_result() }
}

fn codec<M: Message>(criterion: &mut Criterion, name: &str, message: &M) {
    let encoded = encode(message).expect("a sample message encodes");
    let mut group = criterion.benchmark_group(format!("codec/{name}"));
    group.throughput(Throughput::Bytes(encoded.body.len() as u64));
    group.bench_function("encode", |bencher| bencher.iter(|| encode(black_box(message)).expect("it encoded before")));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            let body = black_box(encoded.body.as_slice());
            decode::<M>(Some(encoded.message_type), Some(encoded.schema_version), body).expect("it was just encoded")
        });
    });
    group.finish();
}
