//! When a measurement does not show what its device can do.
//!
//! The rules, in this order; the first that holds gives the mark:
//!
//! 1. `throttled` if the processor counted a core that it slowed down because of heat;
//! 2. `throttled` if the fastest core's clock fell by more than [`CLOCK_DROP_PCT_MAX`];
//! 3. `disturbed` if the benchmark's threads waited for a processor for more of their time than the settings allow,
//!    provided that there are not more of them than processors, which makes them wait for each other;
//! 4. `disturbed` if the host gave more than [`STOLEN_PCT_MAX`] of the busy time to other machines;
//! 5. `disturbed` if the processor did less arithmetic than the settings ask for, around the benchmark and in the threads'
//!    own time: it was slowed down, or others shared its cores;
//! 6. `disturbed` if its threads took far longer than usual to see what the others wrote: they shared no cache;
//! 7. `throttled` if the iterations became slower: by the sign test of Cox and Stuart (1955,
//!    <https://doi.org/10.1093/biomet/42.1-2.80>), which holds each iteration against the one half of them later, at
//!    [`TREND_P_MAX`], and by more than [`TREND_PCT_MIN`] from the median of the first half to that of the second.

use std::cmp::Ordering;

use messages::{Conditions, MachineState, Mark};

use crate::protocol::{Seen, SeenState};

/// Fall of the clock that is no noise of reading it once, in percent.
const CLOCK_DROP_PCT_MAX: f64 = 20.0;
/// Stolen time, in percent, that moves a median by as much as repeats differ.
const STOLEN_PCT_MAX: f64 = 10.0;
/// Probability of the test's calling iterations that do not change a trend.
const TREND_P_MAX: f64 = 0.001;
/// Slow-down that matters, in percent.
const TREND_PCT_MIN: f64 = 10.0;
/// Fewer pairs than this cannot be significant: one half to this power is [`TREND_P_MAX`].
const TREND_PAIRS_MIN: usize = 10;

/// What the rules ask beside what was seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowed {
    /// Share of their time, in percent, that the threads may wait for a processor.
    pub(crate) waited_pct_max: f64,
    /// Share of its usual arithmetic, in percent, that the processor has to do.
    pub(crate) arithmetic_pct_min: f64,
    /// Longest time, in ns, until one of its threads may see what another has written; `None` if nobody knows the usual.
    pub(crate) handoff_ns_max: Option<f64>,
    /// Threads of the benchmark.
    pub(crate) threads: usize,
    /// Logical processors of the machine.
    pub(crate) processors: usize,
}

/// What the machine was doing, with the mark that follows from it.
pub(crate) fn conditions(seen: &Seen, iterations_ms: &[f64], allowed: &Allowed) -> Conditions {
    let state =
        |SeenState { clock_mhz, temperature_c, load_average }| MachineState { clock_mhz, temperature_c, load_average };
    Conditions {
        before: state(seen.before),
        after: state(seen.after),
        busy_elsewhere_cpus: seen.busy_elsewhere_cpus,
        waited_pct: seen.waited_pct,
        stolen_pct: seen.stolen_pct,
        arithmetic_pct: seen.arithmetic_pct,
        handoff_ns: seen.handoff_ns,
        throttle_events: seen.throttle_events,
        mark: mark(seen, iterations_ms, allowed),
    }
}

fn mark(seen: &Seen, iterations_ms: &[f64], allowed: &Allowed) -> Option<Mark> {
    let events = seen.throttle_events.filter(|events| *events > 0);
    let clocks = seen.before.clock_mhz.zip(seen.after.clock_mhz);
    let fallen = clocks.filter(|(before, after)| *after < before * (1.0 - CLOCK_DROP_PCT_MAX / 100.0));
    let waits_for_others = allowed.threads <= allowed.processors;
    let waited = seen.waited_pct.filter(|waited| waits_for_others && *waited > allowed.waited_pct_max);
    let stolen = seen.stolen_pct.filter(|stolen| *stolen > STOLEN_PCT_MAX);
    let throttled = |reason| Some(Mark::Throttled(reason));
    let disturbed = |reason| Some(Mark::Disturbed(reason));
    if let Some(events) = events {
        return throttled(format!("cores were slowed down because of heat {events} times"));
    }
    if let Some((before, after)) = fallen {
        return throttled(format!("the clock fell from {before:.0} to {after:.0} MHz"));
    }
    if let Some(waited) = waited {
        let limit = allowed.waited_pct_max;
        return disturbed(format!(
            "its threads waited for a processor for {waited:.0} % of their time (limit {limit} %)"
        ));
    }
    if let Some(stolen) = stolen {
        return disturbed(format!("the host gave {stolen:.0} % of the busy time to other machines"));
    }
    if let Some(pct) = seen.arithmetic_pct.filter(|pct| *pct < allowed.arithmetic_pct_min) {
        let limit = allowed.arithmetic_pct_min;
        return disturbed(format!(
            "the processor did {pct:.0} % of its usual arithmetic (limit {limit} %): others shared its cores, or its clock was lower"
        ));
    }
    if let Some((ns, limit)) = seen.handoff_ns.zip(allowed.handoff_ns_max).filter(|(ns, limit)| ns > limit) {
        return disturbed(format!(
            "its threads took {ns:.0} ns to see what the others wrote (limit {limit:.0}): they shared no cache, as they usually do"
        ));
    }
    let slower_pct = slowdown_pct(iterations_ms).filter(|slower_pct| *slower_pct > TREND_PCT_MIN)?;
    throttled(format!("its iterations became slower by {slower_pct:.0} %"))
}

/// By how much the second half of the iterations is slower than the first, in percent, if they have a trend at all.
fn slowdown_pct(iterations_ms: &[f64]) -> Option<f64> {
    let half = iterations_ms.len() / 2;
    let (first, second) = (&iterations_ms[..half], &iterations_ms[iterations_ms.len() - half..]);
    // Equal ones say nothing.
    let orders: Vec<Ordering> =
        first.iter().zip(second).map(|(early, late)| late.total_cmp(early)).filter(|order| order.is_ne()).collect();
    let slower = orders.iter().filter(|order| order.is_gt()).count();
    if orders.len() < TREND_PAIRS_MIN || binomial_tail(orders.len(), slower) > TREND_P_MAX {
        return None;
    }
    Some(100.0 * (median(second)? / median(first)? - 1.0))
}

/// Probability that at least `least` of `count` fair coins show heads.
fn binomial_tail(count: usize, least: usize) -> f64 {
    // Logarithms, because one half to the power of thousands is no f64.
    let mut term_ln = -(count as f64) * std::f64::consts::LN_2;
    let mut tail = 0.0;
    for heads in 0..=count {
        if heads >= least {
            tail += term_ln.exp();
        }
        term_ln += ((count - heads) as f64 / (heads + 1) as f64).ln();
    }
    tail
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: Allowed = Allowed {
        waited_pct_max: 25.0,
        arithmetic_pct_min: 75.0,
        handoff_ns_max: Some(180.0),
        threads: 2,
        processors: 2,
    };

    fn marked(change: impl FnOnce(&mut Seen)) -> Option<Mark> {
        let calm = SeenState { clock_mhz: Some(3_000.0), temperature_c: Some(60.0), load_average: Some(1.0) };
        let mut seen = Seen {
            before: calm,
            after: calm,
            busy_elsewhere_cpus: Some(0.1),
            waited_pct: Some(2.0),
            stolen_pct: Some(0.0),
            arithmetic_pct: Some(99.0),
            handoff_ns: Some(64.0),
            throttle_events: Some(0),
        };
        change(&mut seen);
        mark(&seen, &[5.0; 40], &ALLOWED)
    }

    /// Iterations that scatter by 5 % around what `level` says of their place, 0 to 1.
    fn iterations(seed: u64, level: impl Fn(f64) -> f64) -> Vec<f64> {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..60).map(|at| level(f64::from(at) / 60.0) * (1.0 + 0.1 * (random.f64() - 0.5))).collect()
    }

    #[test]
    fn a_calm_machine_marks_nothing_and_neither_does_one_that_shows_nothing() {
        assert_eq!(marked(|_| ()), None);
        assert_eq!(marked(|seen| *seen = Seen::default()), None);
        assert_eq!(marked(|seen| seen.after.clock_mhz = Some(2_450.0)), None);
    }

    #[test]
    fn heat_and_neighbours_are_named() {
        let throttled = |reason: &str| Some(Mark::Throttled(reason.to_owned()));
        let disturbed = |reason: &str| Some(Mark::Disturbed(reason.to_owned()));
        let hot = marked(|seen| seen.throttle_events = Some(3));
        assert_eq!(hot, throttled("cores were slowed down because of heat 3 times"));
        let slow = marked(|seen| seen.after.clock_mhz = Some(2_300.0));
        assert_eq!(slow, throttled("the clock fell from 3000 to 2300 MHz"));
        let waited = marked(|seen| seen.waited_pct = Some(40.4));
        assert_eq!(waited, disturbed("its threads waited for a processor for 40 % of their time (limit 25 %)"));
        let stolen = marked(|seen| seen.stolen_pct = Some(12.0));
        assert_eq!(stolen, disturbed("the host gave 12 % of the busy time to other machines"));
        let apart = marked(|seen| seen.handoff_ns = Some(330.4)).expect("two threads on two chips");
        assert!(
            apart.reason().starts_with("its threads took 330 ns to see what the others wrote (limit 180)"),
            "{apart:?}"
        );
        let shared = marked(|seen| seen.arithmetic_pct = Some(49.6)).expect("two threads on one core");
        assert!(
            shared.reason().starts_with("the processor did 50 % of its usual arithmetic (limit 75 %): "),
            "{shared:?}"
        );
    }

    #[test]
    fn more_threads_than_processors_wait_for_each_other() {
        let seen = Seen { waited_pct: Some(60.0), ..Seen::default() };
        assert!(mark(&seen, &[5.0], &ALLOWED).is_some());
        assert_eq!(mark(&seen, &[5.0], &Allowed { threads: 3, ..ALLOWED }), None);
    }

    #[test]
    fn iterations_that_become_slower_are_marked_and_steady_ones_are_not() {
        let slows =
            |seed, level: fn(f64) -> f64| slowdown_pct(&iterations(seed, level)).is_some_and(|pct| pct > TREND_PCT_MIN);
        // 10,000 replays of steady iterations: at most one in a thousand is called a trend, and none of them matters.
        let alarms = (0..10_000).filter(|seed| slowdown_pct(&iterations(*seed, |_| 5.0)).is_some()).count();
        assert!(alarms <= 10, "{alarms} false alarms");
        for seed in 0..200 {
            assert!(slows(seed, |at| 5.0 * (1.0 + 0.4 * at)), "a ramp of 40 %, seed {seed}");
            assert!(slows(seed, |at| if at < 0.4 { 5.0 } else { 6.5 }), "a step of 30 %, seed {seed}");
            assert!(!slows(seed, |at| 5.0 * (1.0 + 0.04 * at)), "4 % do not matter, seed {seed}");
            assert!(!slows(seed, |at| 5.0 * (1.4 - 0.4 * at)), "warming up is no slow-down, seed {seed}");
        }
        let Some(Mark::Throttled(reason)) = mark(&Seen::default(), &iterations(1, |at| 5.0 + 5.0 * at), &ALLOWED)
        else {
            panic!("it became twice as slow");
        };
        assert!(reason.starts_with("its iterations became slower by "), "{reason}");
    }

    #[test]
    fn few_iterations_have_no_trend() {
        assert_eq!(slowdown_pct(&[]), None);
        let rising: Vec<f64> = (1..20).map(f64::from).collect();
        assert_eq!(slowdown_pct(&rising), None);
        let rising: Vec<f64> = (1..=20).map(f64::from).collect();
        assert!(slowdown_pct(&rising).is_some());
        assert!((binomial_tail(10, 10) - 0.5_f64.powi(10)).abs() < 1e-12 && (binomial_tail(9, 0) - 1.0).abs() < 1e-9);
        assert!(binomial_tail(5_000, 2_700) < 1e-7);
    }
}
