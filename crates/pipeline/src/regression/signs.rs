//! The exact sign test, with the median of what it counts and its interval.
//!
//! Dixon and Mood 1946, <https://doi.org/10.1080/01621459.1946.10501898>; the interval from the same counts: Hollander,
//! Wolfe and Chicken, *Nonparametric Statistical Methods*, section 3.6.

use std::cmp::Ordering;

use super::rank_sum::{INTERVAL_LEVEL, median};

/// Shifts of many comparisons, each up or down with the same chance if nothing differs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Signs {
    /// Two-sided probability of signs that are at least as unequal, if nothing differs; ties do not count.
    pub(super) p: f64,
    /// The median of the shifts.
    pub(super) shift: f64,
    /// Its 95 % interval; all shifts where they are too few for one.
    pub(super) interval: [f64; 2],
}

impl Signs {
    /// Counts shifts, of which there is one at least, each with the direction of its comparison.
    pub(super) fn of(shifts: &[(Ordering, f64)]) -> Self {
        let count = |direction| shifts.iter().filter(|(leaning, _)| *leaning == direction).count();
        let (up, down) = (count(Ordering::Greater), count(Ordering::Less));
        let mut sorted: Vec<f64> = shifts.iter().map(|(_, shift)| *shift).collect();
        sorted.sort_by(f64::total_cmp);
        let outside =
            (1..=sorted.len() / 2).take_while(|rank| two_sided(rank - 1, sorted.len()) <= INTERVAL_LEVEL).count();
        let outermost = outside.max(1);
        Self {
            p: two_sided(up.min(down), up + down),
            shift: median(&sorted),
            interval: [sorted[outermost - 1], sorted[sorted.len() - outermost]],
        }
    }

    /// The smallest probability that so many shifts can have.
    pub(super) fn p_least(count: usize) -> f64 {
        two_sided(0, count)
    }
}

/// Probability that of so many fair coins at most `fewer` show the same side, whichever.
fn two_sided(fewer: usize, coins: usize) -> f64 {
    let coins = coins as f64;
    // As logs: a half to the power of some thousand is no number.
    let mut log = -coins * std::f64::consts::LN_2;
    let mut sum = log.exp();
    for heads in 1..=fewer {
        let heads = heads as f64;
        log += ((coins - heads + 1.0) / heads).ln();
        sum += log.exp();
    }
    (2.0 * sum).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(up: usize, down: usize, ties: usize) -> Signs {
        let shifts = [(up, Ordering::Greater, 0.1), (down, Ordering::Less, -0.1), (ties, Ordering::Equal, 0.0)];
        Signs::of(&shifts.into_iter().flat_map(|(count, sign, shift)| vec![(sign, shift); count]).collect::<Vec<_>>())
    }

    #[test]
    fn probabilities_are_those_of_fair_coins() {
        let check = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found}, not {expected}");
        check(of(6, 0, 0).p, 2.0 / 64.0);
        check(of(1, 9, 0).p, 22.0 / 1_024.0);
        check(of(1, 9, 5).p, 22.0 / 1_024.0);
        check(of(5, 5, 0).p, 1.0);
        check(of(0, 0, 3).p, 1.0);
        check(Signs::p_least(10), 2.0 / 1_024.0);
        let many = of(2_100, 1_900, 0).p;
        assert!((0.0015..0.0018).contains(&many), "3.15 standard deviations: {many}");
    }

    #[test]
    fn the_interval_is_of_ranks() {
        let shifts: Vec<_> = (0..10).map(|shift| (Ordering::Greater, f64::from(shift))).collect();
        // Of ten coins at most one shows one of the sides in 2.1 % of all cases, at most two in 11 %.
        assert_eq!(Signs::of(&shifts).interval.map(f64::to_bits), [1.0_f64, 8.0].map(f64::to_bits));
        assert_eq!(Signs::of(&shifts[..4]).interval.map(f64::to_bits), [0.0_f64, 3.0].map(f64::to_bits));
    }
}
