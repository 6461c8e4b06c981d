//! Conformal intervals: how far the spread must be stretched so that a promised share of errors is inside.
//!
//! Normalised split conformal prediction on out-of-fold errors: Lei et al., section 5.2,
//! <https://doi.org/10.1080/01621459.2017.1307116>.

use crate::boosters::MeanAndSpread;

/// The share of truths that an interval promises to hold.
pub(crate) const PROMISED_SHARE: f64 = 0.9;

/// Smallest floor under a spread, as a log: repeated measurements of one configuration differ by more than 0.5 %.
const SPREAD_FLOOR_MIN: f64 = 0.005;

/// One row's prediction by boosters that did not train on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutOfFold {
    /// Its fold.
    pub(crate) fold: usize,
    /// Its log ratio of measured value to roofline.
    pub(crate) target: f64,
    /// What the boosters say.
    pub(crate) predicted: MeanAndSpread,
}

impl OutOfFold {
    /// Predicted minus true, as a log.
    pub(crate) fn error(&self) -> f64 {
        self.predicted.mean - self.target
    }
}

/// How to turn a spread into the half-width of an interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Calibration {
    /// The conformal quantile of errors per unit of spread (floor included).
    pub(crate) quantile: f64,
    /// Added to every spread, since boosters that agree may be wrong together; the median spread out of fold.
    pub(crate) spread_floor: f64,
}

impl Calibration {
    /// Calibrates on errors out of fold; `None` without any.
    pub(crate) fn fit(errors: &[OutOfFold]) -> Option<Self> {
        let spread_floor = median(errors.iter().map(|row| row.predicted.spread))?.max(SPREAD_FLOOR_MIN);
        let mut scores: Vec<f64> =
            errors.iter().map(|row| row.error().abs() / (row.predicted.spread + spread_floor)).collect();
        scores.sort_by(f64::total_cmp);
        Some(Self { quantile: scores[conformal_rank(scores.len())], spread_floor })
    }

    /// Half-width of the interval around a mean of this spread, as a log.
    pub(crate) fn half_width(&self, spread: f64) -> f64 {
        self.quantile * (spread + self.spread_floor)
    }
}

/// Each row's half-width from a calibration on the *other* folds, so that coverage is no tautology.
pub(crate) fn cross_calibrated_half_widths(errors: &[OutOfFold]) -> Vec<f64> {
    let folds = errors.iter().map(|row| row.fold + 1).max().unwrap_or(0);
    let calibrations: Vec<_> = (0..folds)
        .map(|fold| {
            let others: Vec<_> = errors.iter().filter(|row| row.fold != fold).copied().collect();
            Calibration::fit(&others)
        })
        .collect();
    errors
        .iter()
        .map(|row| calibrations[row.fold].map_or(0.0, |calibration| calibration.half_width(row.predicted.spread)))
        .collect()
}

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

    fn errors(rows: usize, spread: impl Fn(usize) -> f64, error: impl Fn(usize) -> f64) -> Vec<OutOfFold> {
        (0..rows)
            .map(|row| OutOfFold {
                fold: row % 5,
                target: 1.0 - error(row),
                predicted: MeanAndSpread { mean: 1.0, spread: spread(row) },
            })
            .collect()
    }

    #[test]
    fn the_rank_has_the_finite_sample_correction() {
        for (scores, rank) in [(1, 0), (8, 7), (9, 8), (19, 17), (20, 18), (99, 89), (100, 90)] {
            assert_eq!(conformal_rank(scores), rank, "{scores} scores");
        }
    }

    #[test]
    fn nine_errors_of_ten_are_inside_and_wider_spreads_are_wider() {
        let rows = errors(99, |_| 0.1, |row| (row + 1) as f64 / 100.0);
        let calibration = Calibration::fit(&rows).expect("fitted");
        assert!((calibration.half_width(0.1) - 0.9).abs() < 1e-9, "{calibration:?}");
        assert!((calibration.half_width(0.3) - 1.8).abs() < 1e-9, "the floor is the median spread, 0.1");
    }

    #[test]
    fn coverage_comes_from_the_other_folds() {
        let rows = errors(100, |_| 0.1, |row| if row % 5 == 0 { 10.0 } else { 0.1 });
        let widths = cross_calibrated_half_widths(&rows);
        assert!(widths[0] < 1.0, "the fold's own large errors must not widen its own intervals: {}", widths[0]);
        assert!(widths[1] >= 10.0, "they widen those of others: {}", widths[1]);
    }

    #[test]
    fn nothing_calibrates_to_nothing() {
        assert_eq!(Calibration::fit(&[]), None);
        assert_eq!(median([3.0, 1.0, 2.0, 10.0].into_iter()), Some(2.5));
    }
}
