//! What the processor does at this moment, to be held against what it usually does: what shares its cores, slows them down
//! or moves them apart.

use std::{
    hint::spin_loop,
    num::NonZero,
    sync::{
        Barrier,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};

use super::arithmetic;

/// Rounds, of which the median of arithmetic and the best of handing over count: an interrupt spoils one or two.
const ROUNDS: usize = 5;
/// Length of one round: long against a call of the kernel, which takes microseconds.
const ROUND: Duration = Duration::from_millis(1);
/// Words that are handed over between two looks at the clock.
const HANDED_TOGETHER: u64 = 64;

/// What so many threads at once do now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Arithmetic in fp32, in GFLOP per second of each thread's processor time, summed.
    ///
    /// Time in which a thread waits for a processor does not count, so that other processes do not show, but what shares
    /// a core's units with it does (another thread of the same core, whichever virtual machine it belongs to), and so
    /// does a lower clock.
    pub arithmetic_gflops: f64,
    /// Time until the next thread sees what one has written, in ns, on average over a ring of all threads: more where
    /// they share no cache. `None` of one thread, and of more threads than processors.
    pub handoff_ns: Option<f64>,
}

/// Looks at the processor for some 10 ms, with so many threads; `None` if the kernel does not tell a thread's time.
pub fn moment(threads: NonZero<usize>) -> Option<Moment> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let (barrier, word) = (Barrier::new(threads.get()), AtomicU64::new(0));
    let has_ring = (2..=processors).contains(&threads.get());
    let (barrier, word) = (&barrier, &word);
    let of_threads: Vec<(Vec<f64>, Option<f64>)> = thread::scope(|scope| {
        let one = |number| {
            move || {
                // Both in any case: whoever left between them would keep the others at the barrier for ever.
                let rounds = arithmetic_rounds(barrier);
                let handoff_ns = has_ring.then(|| handoff_ns(number, threads.get() as u64, barrier, word)).flatten();
                Some((rounds?, handoff_ns))
            }
        };
        let handles: Vec<_> = (0..threads.get() as u64).map(|number| scope.spawn(one(number))).collect();
        handles.into_iter().map(|handle| handle.join().ok().flatten()).collect::<Option<_>>()
    })?;
    let mut rounds: Vec<f64> =
        (0..ROUNDS).map(|round| of_threads.iter().map(|(rounds, _)| rounds[round]).sum()).collect();
    rounds.sort_by(f64::total_cmp);
    // All see the same words; one of them is enough.
    Some(Moment { arithmetic_gflops: rounds[ROUNDS / 2] / 1e9, handoff_ns: of_threads[0].1 })
}

/// Floating-point operations per second of this thread's processor time, of each round.
fn arithmetic_rounds(barrier: &Barrier) -> Option<Vec<f64>> {
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
    rounds
        .into_iter()
        .map(|round| round.filter(|(_, ran)| !ran.is_zero()).map(|(operations, ran)| operations / ran.as_secs_f64()))
        .collect()
}

/// Hands a growing word around a ring of threads, of which this is one; the best round's time for one step, in ns.
///
/// `None` if the threads did not run at the same time in any round.
fn handoff_ns(number: u64, threads: u64, barrier: &Barrier, word: &AtomicU64) -> Option<f64> {
    /// Says that the round is over; the word is a step number below.
    const OVER: u64 = u64::MAX;
    let mut best: Option<f64> = None;
    for _ in 0..ROUNDS {
        if barrier.wait().is_leader() {
            word.store(0, Ordering::Release);
        }
        barrier.wait();
        let began = Instant::now();
        let (mut seen, mut looks) = (0, 0_u64);
        loop {
            let step = word.load(Ordering::Acquire);
            if step == OVER {
                break;
            }
            seen = step;
            if step % threads == number {
                // It may have been declared over meanwhile, which must stay.
                let _ = word.compare_exchange(step, step + 1, Ordering::AcqRel, Ordering::Acquire);
            } else {
                spin_loop();
            }
            looks += 1;
            if looks.is_multiple_of(HANDED_TOGETHER) && began.elapsed() >= ROUND {
                word.store(OVER, Ordering::Release);
                break;
            }
        }
        // A handful of steps is a thread that got no processor.
        if seen > HANDED_TOGETHER {
            let step_ns = began.elapsed().as_secs_f64() * 1e9 / seen as f64;
            best = Some(best.map_or(step_ns, |best| best.min(step_ns)));
        }
    }
    best
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
        let now = |threads| moment(NonZero::new(threads).expect("not zero")).expect("told");
        let alone = now(1);
        assert!(alone.arithmetic_gflops > 0.0 && alone.handoff_ns.is_none(), "{alone:?}");
        // More threads than processors wait for each other, which costs each nothing of its own time.
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let (all, more) = (now(processors), now(4 * processors));
        assert!(
            more.arithmetic_gflops > 1.5 * all.arithmetic_gflops,
            "{more:?} of four times as many threads, {all:?}"
        );
        assert_eq!(more.handoff_ns, None);
        // Nothing is handed over within a cycle; where others keep a processor busy, it is not seen at all.
        assert!(all.handoff_ns.is_none_or(|ns| ns > 0.2), "{all:?}");
    }
}
