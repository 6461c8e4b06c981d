//! Whether the processor is as fast as usual: waits for it, and says how fast it was.

use std::{
    num::NonZero,
    thread,
    time::{Duration, Instant},
};

use hardware::Moment;

use crate::protocol::{Seen, Usual};

/// Pause between two looks: what shares the cores of a virtual machine, or moves them apart, does so for seconds.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Looks until `threads` threads are as fast as usual, or for as long as is allowed; what was seen last.
pub(super) fn await_calm(threads: usize, usual: &Usual) -> Option<Moment> {
    let began = Instant::now();
    loop {
        let moment = look(threads)?;
        if is_calm(&moment, usual) || began.elapsed() >= Duration::from_millis(usual.wait_ms_max) {
            return Some(moment);
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// What `threads` threads do now; `None` where it cannot be measured.
pub(super) fn look(threads: usize) -> Option<Moment> {
    hardware::moment(NonZero::new(threads)?)
}

fn is_calm(moment: &Moment, usual: &Usual) -> bool {
    let is_near = moment.handoff_ns.zip(usual.handoff_ns_max).is_none_or(|(ns, most)| ns <= most);
    percent(moment, usual) >= usual.pct_min && is_near
}

fn percent(moment: &Moment, usual: &Usual) -> f64 {
    100.0 * moment.arithmetic_gflops / usual.gflops
}

/// Adds what was seen before and after: the worse of both.
pub(super) fn with_moments(seen: Seen, before: &Moment, after: &Moment, usual: &Usual) -> Seen {
    let arithmetic_pct = Some(percent(before, usual).min(percent(after, usual)));
    let handoff_ns = [before.handoff_ns, after.handoff_ns].into_iter().flatten().reduce(f64::max);
    Seen { arithmetic_pct, handoff_ns, ..seen }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Usual = Usual { gflops: 100.0, pct_min: 75.0, handoff_ns_max: Some(180.0), wait_ms_max: 60_000 };

    fn moment(arithmetic_gflops: f64, handoff_ns: Option<f64>) -> Moment {
        Moment { arithmetic_gflops, handoff_ns }
    }

    #[test]
    fn a_machine_that_is_never_calm_is_waited_for_as_long_as_is_allowed() {
        let usual = Usual { gflops: 1e-3, handoff_ns_max: None, ..USUAL };
        let calm = await_calm(1, &usual).expect("told");
        assert!(is_calm(&calm, &usual), "any processor does a million operations a second");
        let never = Usual { gflops: 1e12, wait_ms_max: 1, ..usual };
        assert!(await_calm(1, &never).is_some_and(|moment| !is_calm(&moment, &never)));
        assert_eq!(await_calm(0, &usual), None);
    }

    #[test]
    fn threads_that_share_a_core_or_no_cache_are_not_calm() {
        let calm = |gflops, ns| is_calm(&moment(gflops, ns), &USUAL);
        assert_eq!([calm(98.0, Some(64.0)), calm(50.0, Some(28.0)), calm(98.0, Some(330.0))], [true, false, false]);
        assert!(calm(98.0, None), "it was not seen");
    }

    #[test]
    fn the_worse_of_before_and_after_counts() {
        let seen = with_moments(Seen::default(), &moment(98.0, Some(64.0)), &moment(50.0, Some(330.0)), &USUAL);
        assert_eq!((seen.arithmetic_pct, seen.handoff_ns), (Some(50.0), Some(330.0)));
        let seen = with_moments(Seen::default(), &moment(50.0, Some(64.0)), &moment(98.0, None), &USUAL);
        assert_eq!((seen.arithmetic_pct, seen.handoff_ns), (Some(50.0), Some(64.0)));
    }
}
