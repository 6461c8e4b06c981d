//! Temporary.
use std::time::Instant;
use messages::{JobResult, LatencySummary, Outcome};
use super::builders::*;
use crate::{OutboxMode, Record, Store, StreamPosition};
#[test]
#[ignore = "prints"]
fn speed() {
    let dir = tempfile::tempdir_in("/work").unwrap();
    let noop = |n: u32| -> JobResult { let mut r = test_result(&run(1 + n / 10_000), n); if let Outcome::Test(t) = &mut r.outcome { t.cases.clear(); t.exit_code = Some(0); } r.job.run.jobs_total = 10_000; r };
    let bench = |n: u32, it: u32| -> JobResult { let mut r = predicted_benchmark(&run(1000 + n / 100), n, 3.0); if let Outcome::Benchmark(b) = &mut r.outcome { b.latency_ms = LatencySummary::from_iterations((1..=it).map(|i| f64::from(i)).collect()).unwrap(); } r };
    for (name, total, size, make) in [
        ("noop", 100_000u32, 2000usize, Box::new(noop) as Box<dyn Fn(u32) -> JobResult>),
        ("noop", 40_000, 200, Box::new(noop)),
        ("noop", 300, 1, Box::new(noop)),
        ("bench 20 it", 30_000, 2000, Box::new(move |n| bench(n, 20))),
        ("bench 100 it", 10_000, 1000, Box::new(move |n| bench(n, 100))),
    ] {
        let path = dir.path().join(format!("{name}-{size}.duckdb"));
        let store = Store::open(&path).unwrap();
        let records: Vec<Record> = (0..total).map(|n| record(make(n))).collect();
        let t = Instant::now();
        for (i, batch) in records.chunks(size).enumerate() {
            store.commit(batch, Some(StreamPosition { stream: "results", next_offset: i as u64 }), OutboxMode::Feed).unwrap();
        }
        let s = t.elapsed().as_secs_f64();
        let t = Instant::now();
        let d = store.digest().unwrap();
        println!("{name} batches of {size}: {:.0} results/s; digest {} rows in {:.2} s", f64::from(total) / s, d.iter().map(|t| t.rows).sum::<u64>(), t.elapsed().as_secs_f64());
        println!("   us per commit: fresh,runs,keys,bench,compat,tests,jobs,pred,commit(+offset) | outbox {:?}", crate::write::LAPS.iter().map(|l| l.swap(0, std::sync::atomic::Ordering::Relaxed) / (total as usize / size) as u64).collect::<Vec<_>>());
        if name != "noop" || size != 1 { continue }
    }
}
