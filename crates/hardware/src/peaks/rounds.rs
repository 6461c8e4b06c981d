//! Runs one piece of work on all threads at once and takes the best of several rounds.

use std::{
    num::NonZero,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use crate::HardwareError;

/// Rounds of which the best counts: other processes only ever make a round slower.
const ROUNDS: u32 = 8;

/// Length of one round: long against a scheduler's time slice, short enough to repeat.
const ROUND: Duration = Duration::from_millis(100);

/// Largest amount per second that `threads` threads got done together in one round.
///
/// `prepare` makes each thread's own work; a call of that work does a small part and says how much.
pub(super) fn best_per_second<Work: FnMut() -> f64>(
    threads: NonZero<usize>,
    prepare: impl Fn() -> Work + Sync,
) -> Result<f64, HardwareError> {
    let barrier = Barrier::new(threads.get());
    let rounds_of_each = thread::scope(|scope| {
        let mut handles = Vec::with_capacity(threads.get());
        for _ in 0..threads.get() {
            handles.push(scope.spawn(|| one_thread(&prepare, &barrier)));
        }
        handles.into_iter().map(thread::ScopedJoinHandle::join).collect::<Result<Vec<_>, _>>()
    });
    let rounds_of_each =
        rounds_of_each.map_err(|_| HardwareError::Measuring { reason: "a measuring thread panicked".to_owned() })?;
    let mut best = 0.0_f64;
    for round in 0..ROUNDS as usize {
        let of_round = || rounds_of_each.iter().filter_map(|rounds| rounds.get(round));
        let amount: f64 = of_round().map(|done| done.amount).sum();
        let start = of_round().map(|done| done.start).min();
        let end = of_round().map(|done| done.end).max();
        if let (Some(start), Some(end)) = (start, end) {
            best = best.max(amount / (end - start).as_secs_f64());
        }
    }
    if best.is_finite() && best > 0.0 {
        Ok(best)
    } else {
        Err(HardwareError::Measuring { reason: format!("the best round came out at {best} per second") })
    }
}

/// What one thread did in one round.
struct Done {
    start: Instant,
    end: Instant,
    amount: f64,
}

fn one_thread<Work: FnMut() -> f64>(prepare: impl Fn() -> Work, barrier: &Barrier) -> Vec<Done> {
    let mut work = prepare();
    let one_round = |_| {
        barrier.wait();
        let start = Instant::now();
        let mut amount = 0.0;
        while start.elapsed() < ROUND {
            amount += work();
        }
        Done { start, end: Instant::now(), amount }
    };
    (0..ROUNDS).map(one_round).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn every_thread_does_its_own_work_in_every_round() {
        let prepared = AtomicU32::new(0);
        let threads = NonZero::new(3).expect("not zero");
        let rate = best_per_second(threads, || {
            prepared.fetch_add(1, Ordering::SeqCst);
            || {
                thread::yield_now();
                1.0
            }
        });
        assert!(rate.expect("rate") > 0.0);
        assert_eq!(prepared.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn work_that_gets_nothing_done_is_an_error() {
        assert!(best_per_second(NonZero::<usize>::MIN, || || 0.0).is_err());
    }
}
