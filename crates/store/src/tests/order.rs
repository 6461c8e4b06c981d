//! A property: the same records give the same tables, in whatever order, batches and number they come.

use messages::{CancelTarget, RunRef};

use super::builders::{
    benchmark, cancel, claim, dead, dead_again, died, failed_benchmark, job_id, lifted, poisoned_benchmark, record,
    replayed, retried, returned, run, run_id, submitted, test_result,
};
use crate::{OutboxMode, Record, RunSummary, Store, TableDigest};

/// Histories that are tried; each takes a few commits.
const HISTORIES: u64 = 12;

/// Jobs of each of the two runs.
const JOBS: u32 = 4;

/// Numbers that look random and are the same for the same seed (`SplitMix64`, <https://prng.di.unimi.it/splitmix64.c>).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).expect("below a usize")
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            items.swap(index, self.below(index + 1));
        }
    }
}

/// What may happen to one job: claims, attempts, dead letters, replays, perhaps a result.
fn job_history(random: &mut Random, run: &RunRef, n: u32) -> Vec<Record> {
    let mut records = Vec::new();
    if random.one_in(3) {
        let claimed = claim(run, n, 1, 1, n);
        records.push(Record::Claim(Box::new(claimed.clone())));
        if random.one_in(2) {
            records.push(returned(&claimed, n + 1));
        }
    }
    for attempt in 1..3 {
        if random.one_in(2) {
            records.push(retried(run, n, attempt));
        }
    }
    if random.one_in(2) {
        records.push(dead(run, n, 3));
        if random.one_in(2) {
            records.push(replayed(run, n, 1));
            if random.one_in(2) {
                records.push(dead_again(run, n, 3, 1));
            }
            if random.one_in(3) {
                records.push(replayed(run, n, 2));
            }
        }
    }
    if random.one_in(4) {
        records.push(died(run, n, u32::from(random.one_in(2))));
    }
    if random.one_in(3) {
        records.push(lifted(n, n + 50));
    }
    match random.below(6) {
        0 => records.push(record(failed_benchmark(run, n))),
        1 => records.push(record(test_result(run, n))),
        2 | 3 => records.push(record(benchmark(run, n))),
        4 => records.push(record(poisoned_benchmark(run, n))),
        _ => {}
    }
    records
}

fn history(random: &mut Random) -> Vec<Record> {
    let mut records = Vec::new();
    for number in [1, 2] {
        let run = RunRef { jobs_total: JOBS, ..run(number) };
        if random.one_in(2) {
            records.push(Record::Run(submitted(&run)));
        }
        if random.one_in(3) {
            records.push(cancel(CancelTarget::Run(run_id(number)), number));
        }
        for n in 1..=JOBS {
            records.extend(job_history(random, &run, 10 * number + n));
        }
        // A job of the other run, which died here too: the runs share a unique key.
        if random.one_in(3) {
            records.push(dead(&run, 10 * (3 - number) + 1, 2));
        }
    }
    if random.one_in(4) {
        records.push(cancel(CancelTarget::Job(job_id(11)), 3));
    }
    records
}

/// Every record once or more, shuffled.
fn disturbed(random: &mut Random, records: &[Record]) -> Vec<Record> {
    let mut disturbed = records.to_vec();
    for record in records {
        if random.one_in(3) {
            disturbed.push(record.clone());
        }
    }
    random.shuffle(&mut disturbed);
    disturbed
}

fn outcome(store: &Store) -> (Vec<TableDigest>, Vec<RunSummary>) {
    (store.digest().expect("a digest"), store.runs(10).expect("read"))
}

#[test]
fn order_batches_and_repetitions_do_not_matter() {
    for seed in 0..HISTORIES {
        let random = &mut Random(seed);
        let records = history(random);
        let once = Store::in_memory().expect("a store");
        once.commit(&records, None, OutboxMode::Skip).expect("stored");
        let other = Store::in_memory().expect("a store");
        let disturbed = disturbed(random, &records);
        let mut rest = &disturbed[..];
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(1 + random.below(rest.len().min(8)));
            other.commit(batch, None, OutboxMode::Skip).expect("stored");
            rest = later;
        }
        assert_eq!(outcome(&other), outcome(&once), "seed {seed}");
    }
}

#[test]
fn runs_that_share_a_job_count_it_alike_whichever_result_comes_first() {
    let shared = |n| RunRef { jobs_total: 1, ..run(n) };
    let records = [1, 2, 3].map(|n| record(benchmark(&shared(n), 1)));
    let expected = [1, 2, 3].map(run_id).map(|run| run.to_string());
    for first in 0..records.len() {
        let store = Store::in_memory().expect("a store");
        let mut order = records.to_vec();
        order.rotate_left(first);
        for record in &order {
            store.commit(std::slice::from_ref(record), None, OutboxMode::Skip).expect("stored");
        }
        let mut complete: Vec<_> =
            store.runs(10).expect("read").into_iter().filter(RunSummary::is_complete).map(|run| run.run_id).collect();
        complete.sort();
        assert_eq!(complete, expected, "{first} first");
    }
}
