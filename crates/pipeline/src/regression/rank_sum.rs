//! The exact Mann-Whitney test, and the Hodges-Lehmann estimate of the shift with its interval.
//!
//! Mann and Whitney 1947, <https://doi.org/10.1214/aoms/1177730491>; Hodges and Lehmann 1963,
//! <https://doi.org/10.1214/aoms/1177704172>; the interval from the same counts: Hollander, Wolfe and Chicken,
//! *Nonparametric Statistical Methods*, section 4.3.

use std::cmp::Ordering;

/// Two-sided level of the interval.
pub(super) const INTERVAL_LEVEL: f64 = 0.05;

/// Two samples, compared by their ranks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct RankSum {
    /// Two-sided probability of samples that differ at least as much, if both are from one distribution.
    pub(super) p: f64,
    /// The smallest that samples of these sizes can have.
    pub(super) p_least: f64,
    /// Whether more pairs have the first above the second, or fewer: both are as likely if both are from one distribution.
    pub(super) leaning: Ordering,
    /// By how much the first is above the second: the median of all differences.
    pub(super) shift: f64,
    /// 95 % interval of the shift; all differences where the samples are too small for one.
    pub(super) interval: [f64; 2],
}

impl RankSum {
    /// Compares samples, neither of which is empty.
    pub(super) fn of(left: &[f64], right: &[f64]) -> Self {
        let mut differences: Vec<f64> = left.iter().flat_map(|a| right.iter().map(move |b| a - b)).collect();
        differences.sort_by(f64::total_cmp);
        let pairs = differences.len();
        let above = differences.iter().filter(|difference| **difference > 0.0).count();
        let ties = differences.iter().filter(|difference| **difference == 0.0).count();
        let leaning = above.cmp(&(pairs - above - ties));
        // Ties count half; what is left over is rounded towards no difference.
        let smaller = (above + ties.div_ceil(2)).min(pairs - above - ties / 2);
        let smaller = smaller.min(pairs / 2);
        let below = cumulative(left.len(), right.len());
        let two_sided = |count: usize| (2.0 * below[count]).min(1.0);
        let outside = below.iter().take_while(|share| **share <= INTERVAL_LEVEL / 2.0).count();
        Self {
            p: two_sided(smaller),
            p_least: two_sided(0),
            leaning,
            shift: median(&differences),
            interval: [differences[outside.max(1) - 1], differences[pairs - outside.max(1)]],
        }
    }
}

/// Share of all orders of `m` and `n` values in which at most `u` pairs have the first value above the second, for each
/// `u` up to half of the pairs.
///
/// The number of orders with exactly `u` obeys `c(m, n, u) = c(m − 1, n, u − n) + c(m, n − 1, u)`: the largest value is
/// either of the first sample, above all `n`, or of the second.
fn cumulative(m: usize, n: usize) -> Vec<f64> {
    let most = m * n / 2;
    // Shares instead of counts, so that nothing overflows: the largest is of the first sample with m / (m + n).
    let mut of_fewer: Vec<Vec<f64>> = (0..=n).map(|_| exactly_none(most)).collect();
    for first in 1..=m {
        let mut of_this: Vec<Vec<f64>> = Vec::with_capacity(n + 1);
        of_this.push(exactly_none(most));
        for second in 1..=n {
            let share = first as f64 / (first + second) as f64;
            let shares = (0..=most).map(|u| {
                let with_first = u.checked_sub(second).map_or(0.0, |rest| of_fewer[second][rest]);
                share * with_first + (1.0 - share) * of_this[second - 1][u]
            });
            let shares: Vec<f64> = shares.collect();
            of_this.push(shares);
        }
        of_fewer = of_this;
    }
    let mut sum = 0.0;
    of_fewer[n]
        .iter()
        .map(|share| {
            sum += share;
            sum
        })
        .collect()
}

/// The distribution where one sample is empty: no pair, for certain.
fn exactly_none(most: usize) -> Vec<f64> {
    let mut shares = vec![0.0; most + 1];
    shares[0] = 1.0;
    shares
}

/// The middle of values, of which there is one at least.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(left: &[f64], right: &[f64], p: f64, shift: f64) {
        let found = RankSum::of(left, right);
        assert!((found.p - p).abs() < 1e-9 && (found.shift - shift).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn probabilities_are_those_of_tables() {
        // 3 and 3 in order: 2 of 20 orders are as extreme.
        check(&[4.0, 5.0, 6.0], &[1.0, 2.0, 3.0], 0.1, 3.0);
        // U = 2 of 4 and 5: 4 of 126 orders have at most 2, both sides.
        check(&[1.0, 2.0, 3.0, 6.0], &[4.0, 5.0, 7.0, 8.0, 9.0], 8.0 / 126.0, -3.5);
        check(&[1.0, 4.0], &[2.0, 3.0], 1.0, 0.0);
        check(&[1.0], &[2.0], 1.0, -1.0);
        let ten: Vec<f64> = (0..10).map(f64::from).collect();
        let above: Vec<f64> = ten.iter().map(|value| value + 20.0).collect();
        check(&above, &ten, 2.0 / 184_756.0, 20.0);
    }

    #[test]
    fn equals_are_no_difference() {
        check(&[1.0; 10], &[1.0; 10], 1.0, 0.0);
    }

    #[test]
    fn the_interval_holds_the_shift() {
        let ten: Vec<f64> = (0..10).map(|index| (f64::from(index) * 1.7).sin()).collect();
        let above: Vec<f64> = ten.iter().rev().map(|value| value + 0.5).collect();
        let RankSum { shift, interval: [lower, upper], .. } = RankSum::of(&above, &ten);
        assert!(lower < shift && shift < upper && (lower..upper).contains(&0.5), "{lower} {shift} {upper}");
        // Two and two have no 95 % interval: all differences are it.
        let widest = RankSum::of(&[1.0, 2.0], &[0.0, 3.0]).interval;
        assert_eq!(widest.map(f64::to_bits), [-2.0_f64, 2.0].map(f64::to_bits));
    }

    #[test]
    fn large_samples_are_counted_too() {
        let shares = cumulative(60, 60);
        assert!(shares[0] > 0.0 && shares.is_sorted() && (shares[shares.len() - 1] - 0.5).abs() < 0.01);
    }
}
