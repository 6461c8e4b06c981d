//! Timed iterations in batches: the page asks after each how many more there shall be.

use std::time::Duration;

use messages::{Iterations, StopReason, StoppingRule};

/// Fewest iterations between two reports, unless the page takes too long for them: a report costs a millisecond.
const BATCH_MIN: u32 = 5;

/// A batch grows with what is done, by this part of it, so that little is run that the rule does not need.
const GROWTH_DIVISOR: u32 = 4;

/// Feeds the rule one iteration at a time, as if it had been asked after each: what a page ran beyond the end does not
/// count.
#[derive(Debug)]
pub(super) struct Batches {
    rule: StoppingRule,
    iterations: Iterations,
    done: u32,
    stop: Option<StopReason>,
}

impl Batches {
    pub(super) fn new(rule: StoppingRule) -> Self {
        Self { rule, iterations: Iterations::new(rule), done: 0, stop: None }
    }

    /// How many iterations the next batch shall have; 0 is the end.
    pub(super) fn more(&self) -> u32 {
        if self.stop.is_some() {
            return 0;
        }
        let wanted = if self.done == 0 { self.rule.iterations_min } else { self.done / GROWTH_DIVISOR };
        wanted.max(BATCH_MIN).min(self.rule.iterations_max - self.done)
    }

    pub(super) fn add(&mut self, ms: &[f64], ended_ms: &[f64]) {
        for (ms, ended_ms) in ms.iter().zip(ended_ms) {
            if self.stop.is_some() {
                return;
            }
            let elapsed = Duration::try_from_secs_f64(ended_ms / 1e3).unwrap_or_default();
            self.stop = self.iterations.add(*ms, elapsed);
            self.done += 1;
        }
    }

    pub(super) fn done(&self) -> u32 {
        self.done
    }

    /// A page that ends on its own account has reached the limit that it was given.
    pub(super) fn finish(self) -> (Vec<f64>, StopReason) {
        (self.iterations.into_in_order_ms(), self.stop.unwrap_or(StopReason::IterationLimit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: StoppingRule = StoppingRule {
        iterations_min: 8,
        iterations_max: 20,
        median_interval_pct: 5.0,
        duration_ms_max: 10_000,
        duration_ms_min: 0,
    };

    /// Runs batches whose iterations take what `ms` says, 1 ms apart; gives the batches, the iterations kept and why.
    fn check(rule: StoppingRule, ms: impl Fn(u32) -> f64, batches: &[u32], kept: usize, stop: StopReason) {
        let mut state = Batches::new(rule);
        let mut asked = Vec::new();
        let mut ran = 0;
        loop {
            let more = state.more();
            if more == 0 {
                break;
            }
            asked.push(more);
            let numbers: Vec<u32> = (ran..ran + more).collect();
            let times: Vec<f64> = numbers.iter().map(|number| ms(*number)).collect();
            let ended: Vec<f64> = numbers.iter().map(|number| f64::from(number + 1)).collect();
            state.add(&times, &ended);
            ran += more;
        }
        assert_eq!(asked, batches);
        let (iterations_ms, why) = state.finish();
        assert_eq!((iterations_ms.len(), why), (kept, stop));
    }

    #[test]
    fn steady_iterations_end_after_the_first_batch() {
        check(RULE, |_| 10.0, &[8], 8, StopReason::Converged);
    }

    #[test]
    fn scattered_iterations_go_on_to_the_limit_and_not_beyond() {
        check(RULE, |number| f64::from(number % 2 + 1), &[8, 5, 5, 2], 20, StopReason::IterationLimit);
    }

    #[test]
    fn what_ran_beyond_the_end_does_not_count() {
        let short = StoppingRule { duration_ms_max: 3, ..RULE };
        check(short, |number| f64::from(number + 1), &[8], 3, StopReason::TimeLimit);
        let few = StoppingRule { iterations_min: 1, iterations_max: 3, ..RULE };
        check(few, |number| f64::from(number + 1), &[3], 3, StopReason::IterationLimit);
    }
}
