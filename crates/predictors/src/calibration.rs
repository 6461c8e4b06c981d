//! Quantiles of errors, for conformal intervals.

/// The share of truths that an interval promises to hold.
const PROMISED_SHARE: f64 = 0.9;

/// Index of the ⌈(n + 1) × 0.9⌉-th smallest of `n` scores, the last where there are too few for that.
pub(crate) fn conformal_rank(scores: usize) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most the number of scores + 1")]
    let rank = ((scores + 1) as f64 * PROMISED_SHARE).ceil() as usize;
    rank.min(scores) - 1
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
    fn the_median_is_the_middle() {
        assert_eq!(median(std::iter::empty()), None);
        assert_eq!(median([3.0, 1.0, 2.0, 10.0].into_iter()), Some(2.5));
    }
}
