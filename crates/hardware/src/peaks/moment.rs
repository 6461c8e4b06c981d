//! The processor's arithmetic at this moment, to be held against its peak: what shares its cores, or slows them down.

use std::{
    num::NonZero,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};

use super::arithmetic;

/// Rounds, of which the median counts: an interrupt spoils one or two.
const ROUNDS: usize = 5;
/// Length of one round: long against a call of the kernel, which takes microseconds.
const ROUND: Duration = Duration::from_millis(1);

/// What `threads` threads at once do of fp32 arithmetic now, in GFLOP per second of each one's processor time, summed;
/// takes some 5 ms. `None` if the kernel does not tell a thread's time or gives no such threads.
///
/// Time in which a thread waits for a processor does not count, so that other processes do not show, but what shares a
/// core's units with it does (another thread of the same core, whichever virtual machine it belongs to), and so does a
/// lower clock.
pub fn arithmetic_gflops_now(threads: NonZero<usize>) -> Option<f64> {
    let barrier = Barrier::new(threads.get());
    let rounds_of_each: Vec<Vec<f64>> = thread::scope(|scope| {
        let mut handles = Vec::with_capacity(threads.get());
        for _ in 0..threads.get() {
            handles.push(scope.spawn(|| one_thread(&barrier)));
        }
        handles.into_iter().map(|handle| handle.join().ok().flatten()).collect::<Option<_>>()
    })?;
    let mut rounds: Vec<f64> =
        (0..ROUNDS).map(|round| rounds_of_each.iter().map(|of_thread| of_thread[round]).sum()).collect();
    rounds.sort_by(f64::total_cmp);
    Some(rounds[ROUNDS / 2] / 1e9)
}

/// Floating-point operations per second of this thread's processor time, of each round.
fn one_thread(barrier: &Barrier) -> Option<Vec<f64>> {
    let work = arithmetic::work();
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        barrier.wait();
        let (began, ran_before) = (Instant::now(), own_time());
        // Some of it in any case: a thread that waited for a processor all round long is not to have done nothing.
        let mut operations = work();
        while began.elapsed() < ROUND {
            operations += work();
        }
        rounds.push(ran_before.zip(own_time()).map(|(before, after)| (operations, after.saturating_sub(before))));
    }
    // Only now: whoever left early would keep the others at the barrier for ever.
    rounds
        .into_iter()
        .map(|round| round.filter(|(_, ran)| !ran.is_zero()).map(|(operations, ran)| operations / ran.as_secs_f64()))
        .collect()
}

/// Processor time of this thread.
fn own_time() -> Option<Duration> {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).ok().map(Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_add_up_and_one_that_waits_is_no_slower() {
        let now = |threads| arithmetic_gflops_now(NonZero::new(threads).expect("not zero")).expect("told");
        assert!(now(1) > 0.0);
        // More threads than processors wait for each other, which costs each nothing of its own time.
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let (all, more) = (now(processors), now(4 * processors));
        assert!(more > 1.5 * all, "{more} of four times as many threads, {all} of one for each processor");
    }
}
