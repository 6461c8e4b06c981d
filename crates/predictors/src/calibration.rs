//! Quantiles of errors, for conformal intervals.

/// The share of truths that an interval promises to hold.
const PROMISED_SHARE: f64 = 0.9;

/// Index of the ⌈(n + 1) × 0.9⌉-th smallest of `n` scores, the last where there are too few for that.
pub(crate) fn conformal_rank(scores: usize) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most the number of scores + 1")]
    let rank = ((scores + 1) as f64 * PROMISED_SHARE).ceil() as usize;
    rank.min(scores) - 1
}

/// Groups below which no method can promise 90 % for another group without assuming how groups differ: of fewer scores
/// the ⌈(n + 1) × 0.9⌉-th smallest is none.
pub const GROUPS_MIN: usize = 9;

/// How many times the 90 % quantile of errors must be taken where these are of few groups and the next is of another.
///
/// Errors of one group go together, so a quantile over all rows knows little more than as many errors as there are
/// groups. If groups differ as draws from a normal distribution do, the next one lies within Student's quantile, with one
/// degree of freedom less than there are groups, times √(1 + 1/groups) of their deviation: the prediction interval of
/// one more observation (Hahn and Meeker, *Statistical Intervals*, section 4.7), here over its limit for many groups.
/// A single group says nothing of how groups differ; two stand in for it.
pub(crate) fn widening_of_few(groups: usize) -> f64 {
    let groups = groups.max(2) as f64;
    student_90(groups - 1.0) * (1.0 + 1.0 / groups).sqrt() / NORMAL_90
}

/// Two-sided 90 % quantile of the normal distribution.
pub(crate) const NORMAL_90: f64 = 1.644_854;

/// Two-sided 90 % quantile of Student's distribution with at least one degree of freedom: exact for one and two, else by
/// Fisher's expansion (Abramowitz and Stegun, 26.7.5), off by less than 0.5 %.
fn student_90(freedom: f64) -> f64 {
    if freedom < 1.5 {
        return 6.313_752;
    }
    if freedom < 2.5 {
        return 2.919_986;
    }
    let z = NORMAL_90;
    let terms = [
        z.powi(3) + z,
        5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z,
        3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z,
    ];
    let over = [4.0, 96.0, 384.0];
    let power = |index: usize| freedom.powi(i32::try_from(index + 1).expect("three terms"));
    z + terms.iter().zip(over).enumerate().map(|(index, (term, over))| term / over / power(index)).sum::<f64>()
}

/// The median; `None` of nothing.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rank_has_the_finite_sample_correction() {
        for (scores, rank) in [(1, 0), (8, 7), (9, 8), (19, 17), (20, 18), (99, 89), (100, 90)] {
            assert_eq!(conformal_rank(scores), rank, "{scores} scores");
        }
    }

    #[test]
    fn student_s_quantiles_are_those_of_the_tables() {
        for (freedom, expected) in
            [(1.0, 6.314), (2.0, 2.920), (3.0, 2.353), (4.0, 2.132), (6.0, 1.943), (9.0, 1.833), (30.0, 1.697)]
        {
            let found = student_90(freedom);
            assert!((found / expected - 1.0).abs() < 0.005, "{freedom}: {found}, not {expected}");
        }
    }

    #[test]
    fn few_groups_widen_and_many_do_not() {
        let found = [2, 7, 30, 1_000].map(widening_of_few);
        assert!(found.is_sorted_by(|more, less| more > less), "{found:?}");
        assert!((found[1] - 1.263).abs() < 0.005 && found[3] < 1.003, "{found:?}");
        assert_eq!(widening_of_few(1).to_bits(), widening_of_few(2).to_bits());
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(std::iter::empty()), None);
        assert_eq!(median([3.0, 1.0, 2.0, 10.0].into_iter()), Some(2.5));
    }
}
