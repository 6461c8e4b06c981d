//! Whether the processor is as fast as usual: waits for it, and says how fast it was.

use std::{
    num::NonZero,
    thread,
    time::{Duration, Instant},
};

use crate::protocol::UsualArithmetic;

/// Pause between two looks: what shares the cores of a virtual machine does so for seconds.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Looks until `threads` threads do arithmetic as usual, or for as long as is allowed; the percentage that they did last.
pub(super) fn await_calm(threads: usize, usual: &UsualArithmetic) -> Option<f64> {
    let began = Instant::now();
    loop {
        let pct = arithmetic_pct(threads, usual)?;
        if pct >= usual.pct_min || began.elapsed() >= Duration::from_millis(usual.wait_ms_max) {
            return Some(pct);
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// What `threads` threads do of arithmetic now, in percent of the usual; `None` where it cannot be measured.
pub(super) fn arithmetic_pct(threads: usize, usual: &UsualArithmetic) -> Option<f64> {
    let gflops = hardware::arithmetic_gflops_now(NonZero::new(threads)?)?;
    Some(100.0 * gflops / usual.gflops)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_is_never_calm_is_waited_for_as_long_as_is_allowed() {
        let usual = UsualArithmetic { gflops: 1e-3, pct_min: 75.0, wait_ms_max: 60_000 };
        assert!(
            await_calm(1, &usual).is_some_and(|pct| pct > 75.0),
            "any processor does a million operations a second"
        );
        let never = UsualArithmetic { gflops: 1e12, wait_ms_max: 1, ..usual };
        assert!(await_calm(1, &never).is_some_and(|pct| pct < 75.0));
        assert_eq!(await_calm(0, &usual), None);
    }
}
