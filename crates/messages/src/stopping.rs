//! When enough iterations are timed.

use std::time::Duration;

use crate::StopReason;

/// The confidence that the median's interval must have.
const CONFIDENCE: f64 = 0.95;

/// When timed iterations end; see [`BenchmarkSpec`](crate::BenchmarkSpec).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StoppingRule {
    /// Fewest.
    pub iterations_min: u32,
    /// Most.
    pub iterations_max: u32,
    /// Width of the median's 95 % confidence interval that is narrow enough, in percent of the median.
    pub median_interval_pct: f64,
    /// Start no new iteration after this long, in milliseconds.
    pub duration_ms_max: u64,
    /// Shorter than this, in milliseconds, iterations show a moment and not the machine: they go on, up to their most.
    pub duration_ms_min: u64,
}

/// Iterations so far, judged by a [`StoppingRule`].
#[derive(Debug)]
pub struct Iterations {
    rule: StoppingRule,
    in_order_ms: Vec<f64>,
    sorted_ms: Vec<f64>,
}

impl Iterations {
    /// None yet.
    pub fn new(rule: StoppingRule) -> Self {
        Self { rule, in_order_ms: Vec::new(), sorted_ms: Vec::new() }
    }

    /// Adds an iteration that ended `elapsed` after the first began; says whether it was the last and why.
    pub fn add(&mut self, iteration_ms: f64, elapsed: Duration) -> Option<StopReason> {
        self.in_order_ms.push(iteration_ms);
        let place = self.sorted_ms.partition_point(|other| *other <= iteration_ms);
        self.sorted_ms.insert(place, iteration_ms);
        let count = self.in_order_ms.len();
        let is_last = count >= self.rule.iterations_max as usize;
        let is_enough = is_last || elapsed >= Duration::from_millis(self.rule.duration_ms_min);
        if count >= self.rule.iterations_min as usize && is_enough && self.converged() {
            Some(StopReason::Converged)
        } else if is_last {
            Some(StopReason::IterationLimit)
        } else if elapsed >= Duration::from_millis(self.rule.duration_ms_max) {
            Some(StopReason::TimeLimit)
        } else {
            None
        }
    }

    /// The iterations, in the order they were made.
    pub fn into_in_order_ms(self) -> Vec<f64> {
        self.in_order_ms
    }

    fn converged(&self) -> bool {
        median_interval(&self.sorted_ms).is_some_and(|(lower, upper)| {
            let count = self.sorted_ms.len();
            let median = f64::midpoint(self.sorted_ms[(count - 1) / 2], self.sorted_ms[count / 2]);
            (upper - lower) * 100.0 <= self.rule.median_interval_pct * median
        })
    }
}

/// The 95 % confidence interval of the median of the distribution behind a sorted sample, or `None` if the sample is
/// too small for one (fewer than six).
///
/// Distribution-free, from order statistics: the number of values below the true median is binomial with p = ½, so
/// `P(x₍ₗ₎ ≤ median ≤ x₍ₙ₊₁₋ₗ₎) = 1 − 2·P(Binomial(n, ½) ≤ l − 1)`; `l` is the largest rank for which this is at least
/// 95 %. Source: David and Nagaraja, *Order Statistics*, 3rd edition, section 7.1.
fn median_interval(sorted: &[f64]) -> Option<(f64, f64)> {
    let rank = lower_rank(sorted.len())?;
    Some((sorted[rank - 1], sorted[sorted.len() - rank]))
}

/// The rank `l`, counted from 1.
fn lower_rank(count: usize) -> Option<usize> {
    let tail_max = (1.0 - CONFIDENCE) / 2.0;
    let n = count as f64;
    // Logarithms, because 2⁻ⁿ underflows from n = 1,075 on.
    let mut ln_probability = -n * std::f64::consts::LN_2;
    let mut cumulated = 0.0;
    let mut rank = 0;
    while rank < count {
        cumulated += ln_probability.exp();
        if cumulated > tail_max {
            break;
        }
        let k = rank as f64;
        ln_probability += ((n - k) / (k + 1.0)).ln();
        rank += 1;
    }
    (rank > 0).then_some(rank)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "these numbers are exact")]

    use super::*;

    /// The published ranks: Conover, *Practical Nonparametric Statistics*, table of the binomial for p = ½.
    #[test]
    fn ranks_are_the_published_ones() {
        let check = |count, expected| assert_eq!(lower_rank(count), expected, "{count} values");
        check(0, None);
        check(5, None);
        check(6, Some(1));
        check(8, Some(1));
        check(9, Some(2));
        check(10, Some(2));
        check(20, Some(6));
        check(100, Some(40));
    }

    #[test]
    fn large_samples_do_not_underflow() {
        // Normal approximation: n/2 − 1.96·√n/2, give or take one.
        let rank = lower_rank(10_000).expect("large enough");
        assert!((4901..=4903).contains(&rank), "{rank}");
    }

    #[test]
    fn the_interval_is_symmetric_in_ranks() {
        let sorted: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!(median_interval(&sorted), Some((6.0, 15.0)));
    }

    fn rule() -> StoppingRule {
        StoppingRule {
            iterations_min: 8,
            iterations_max: 20,
            median_interval_pct: 5.0,
            duration_ms_max: 1_000,
            duration_ms_min: 0,
        }
    }

    /// Feeds iterations 1 ms apart until the rule stops them; says after how many and why.
    fn check(rule: StoppingRule, values: &[f64], expected: Option<(usize, StopReason)>) {
        let mut iterations = Iterations::new(rule);
        let stopped = values.iter().zip(1_u32..).find_map(|(value, count)| {
            iterations.add(*value, Duration::from_millis(u64::from(count))).map(|stop| (count as usize, stop))
        });
        assert_eq!(stopped, expected);
        let done = expected.map_or(values.len(), |(count, _)| count);
        assert_eq!(iterations.into_in_order_ms(), values[..done]);
    }

    #[test]
    fn steady_values_stop_at_the_minimum() {
        check(rule(), &[10.0; 30], Some((8, StopReason::Converged)));
        let small = StoppingRule { iterations_min: 1, ..rule() };
        check(small, &[10.0; 30], Some((6, StopReason::Converged)));
    }

    #[test]
    fn a_moment_is_not_enough_unless_no_more_is_asked_for() {
        let longer = StoppingRule { duration_ms_min: 12, ..rule() };
        check(longer, &[10.0; 30], Some((12, StopReason::Converged)));
        let longest = StoppingRule { duration_ms_min: 100, ..rule() };
        check(longest, &[10.0; 30], Some((20, StopReason::Converged)));
    }

    #[test]
    fn scattered_values_go_on_to_the_limit() {
        let scattered: Vec<f64> = (0..30).map(|i| if i % 2 == 0 { 10.0 } else { 20.0 }).collect();
        check(rule(), &scattered, Some((20, StopReason::IterationLimit)));
        check(rule(), &scattered[..19], None);
    }

    #[test]
    fn an_outlier_does_not_keep_the_median_from_converging() {
        let values = [10.0, 10.1, 500.0, 10.0, 10.1, 10.0, 10.1, 10.0, 10.1, 10.0];
        check(rule(), &values, Some((9, StopReason::Converged)));
    }

    #[test]
    fn time_ends_even_below_the_minimum() {
        let short = StoppingRule { duration_ms_max: 3, ..rule() };
        check(short, &[10.0; 30], Some((3, StopReason::TimeLimit)));
    }
}
