//! How far a prediction may be off: conformal intervals on errors out of fold, and the confidence.
//!
//! Errors differ in size from row to row and from device to device. A booster learns their size (split conformal
//! prediction with a learned scale: Lei et al., section 5.2, <https://doi.org/10.1080/01621459.2017.1307116>), and each
//! device has a quantile of its own where it has errors enough (Vovk's Mondrian taxonomy, *Algorithmic Learning in a
//! Random World*, section 4.5). The errors must be of rows that were as new to their boosters as the rows asked about
//! are: random rows promise far too much for models of an unseen family.

use std::collections::{HashMap, HashSet};

use messages::Metric;
use ndarray::{Array2, Axis};
use serde::{Deserialize, Serialize};

use super::learner::{Ensemble, Lesson, TrainSettings, means, train_shallow};
use crate::{
    PredictorError,
    calibration::{conformal_rank, median, widening_of_few},
};

/// Added to errors before their logarithm: below the noise of measurements their size means nothing.
const NOISE_LOG: f64 = 0.01;
/// Errors that a group needs for a quantile of its own.
const GROUP_ROWS_MIN: usize = 100;
/// How errors fall as rows grow: as their number to the power of minus this. Published learning curves have 0.07 to 0.35
/// (Hestness et al. 2017, <https://arxiv.org/abs/1712.00409>, section 1); on timm's table five folds against eight gave
/// 0.26 and 0.44.
const LEARNING_EXPONENT: f64 = 0.35;
/// Errors below which nothing is said of what more rows would do.
const LEARNING_ROWS_MIN: usize = 500;
/// Past predictions that are similar: the nearest by expected size of the error.
const SIMILAR_ROWS: usize = 200;
/// An error within which a prediction was good, as a share of the measured value: the confidence counts those.
const GOOD_SHARE: f64 = 0.2;

/// Errors out of fold, and what is to be known to expect their size.
pub(crate) struct Errors {
    /// Features of the rows, shape `[rows, features]`.
    pub(crate) features: Array2<f32>,
    /// Predicted minus true, as a log.
    pub(crate) logs: Vec<f64>,
    /// Group of each row that may have a quantile of its own.
    pub(crate) groups: Vec<usize>,
    /// What was new of each row: rows that share it were left out together, and their errors go together.
    pub(crate) clusters: Vec<usize>,
    /// Fold of each row.
    pub(crate) folds: Vec<usize>,
}

/// What past errors say of a prediction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Doubt {
    /// Half-width of the 90 % interval, as a log.
    pub(crate) half_width: f64,
    /// Share of similar past predictions within ±20 % of the truth.
    pub(crate) confidence: f64,
}

/// Expects the size of errors.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Reliability {
    scale: Ensemble,
    /// To be subtracted from predictions: what makes the mean absolute percentage error of past ones smallest.
    pub(crate) bias: f64,
    quantiles: Quantiles,
    /// Half-widths of predictors that learned from all rows over those of predictors that left out a fold.
    narrowed: f64,
    /// Expected size and whether the prediction was good, by ascending size.
    past: Vec<(f64, bool)>,
    /// How many clusters the errors are of.
    pub(crate) clusters: usize,
    /// Half-width of each error's own interval, calibrated on the other folds; known where it was trained only.
    #[serde(skip)]
    pub(crate) held_out: Vec<f64>,
}

/// How many times its expected size an error stays below in 90 % of cases.
#[derive(Debug, Serialize, Deserialize)]
struct Quantiles {
    overall: f64,
    of_group: HashMap<usize, f64>,
}

impl Quantiles {
    /// Of errors, each a group and a score, of which there is at least one; `widening` times what they say.
    fn of(scores: impl Iterator<Item = (usize, f64)>, widening: f64) -> Self {
        let mut all = Vec::new();
        let mut of_groups: HashMap<usize, Vec<f64>> = HashMap::new();
        for (group, score) in scores {
            all.push(score);
            of_groups.entry(group).or_default().push(score);
        }
        let of_group = of_groups
            .into_iter()
            .filter(|(_, scores)| scores.len() >= GROUP_ROWS_MIN)
            .map(|(group, scores)| (group, widening * quantile(scores)))
            .collect();
        Self { overall: widening * quantile(all), of_group }
    }

    fn of_group(&self, group: usize) -> f64 {
        *self.of_group.get(&group).unwrap_or(&self.overall)
    }
}

impl Reliability {
    /// Learns the size of errors, of which there is at least one.
    pub(crate) fn fit(metric: Metric, errors: &Errors, settings: &TrainSettings) -> Result<Self, PredictorError> {
        let bias = bias(&errors.logs);
        let sizes: Vec<f64> = errors.logs.iter().map(|error| ((error - bias).abs() + NOISE_LOG).ln()).collect();
        let folds = errors.folds.iter().map(|fold| fold + 1).max().unwrap_or(1);
        let others = |fold: usize| (0..sizes.len()).filter(move |row| errors.folds[*row] != fold);
        let lesson = |rows: Vec<usize>| Lesson {
            features: errors.features.select(Axis(0), &rows),
            targets: rows.iter().map(|row| sizes[*row]).collect(),
            boosters: 1,
        };
        // With one fold only there is nothing to hold out.
        let parted = folds > 1 && (0..folds).all(|fold| others(fold).next().is_some());
        let mut lessons: Vec<Lesson> =
            (0..folds).filter(|_| parted).map(|fold| lesson(others(fold).collect())).collect();
        lessons.push(lesson((0..sizes.len()).collect()));
        let mut scales = train_shallow(metric, &lessons, settings)?;
        let scale = scales.pop().expect("one was pushed");
        let mut expected = means(&scale, &errors.features)?;
        for (fold, scale) in scales.iter().enumerate() {
            let held: Vec<usize> = (0..sizes.len()).filter(|row| errors.folds[*row] == fold).collect();
            for (row, size) in held.iter().zip(means(scale, &errors.features.select(Axis(0), &held))?) {
                expected[*row] = size;
            }
        }
        let scores: Vec<f64> =
            errors.logs.iter().zip(&expected).map(|(e, size)| (e - bias).abs() / size.exp()).collect();
        let with_group = |row: usize| (errors.groups[row], scores[row]);
        let calibrate = |rows: Vec<usize>| {
            let clusters = rows.iter().map(|row| errors.clusters[*row]).collect::<HashSet<_>>().len();
            (Quantiles::of(rows.into_iter().map(with_group), widening_of_few(clusters)), clusters)
        };
        let without = |fold| (0..sizes.len()).filter(|row| !parted || errors.folds[*row] != fold).collect();
        let calibrations: Vec<Quantiles> = (0..folds).map(|fold| calibrate(without(fold)).0).collect();
        let held_out = expected
            .iter()
            .enumerate()
            .map(|(row, size)| size.exp() * calibrations[errors.folds[row]].of_group(errors.groups[row]))
            .collect();
        let mut past: Vec<(f64, bool)> =
            expected.iter().zip(&errors.logs).map(|(size, error)| (*size, is_good(error - bias))).collect();
        past.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (quantiles, clusters) = calibrate((0..sizes.len()).collect());
        Ok(Self { scale, bias, quantiles, narrowed: narrowed(sizes.len(), folds), past, clusters, held_out })
    }

    /// What to expect of predictions with these features, each of a group.
    pub(crate) fn doubts(&self, features: &Array2<f32>, groups: &[usize]) -> Result<Vec<Doubt>, PredictorError> {
        let sizes = means(&self.scale, features)?;
        Ok(sizes
            .into_iter()
            .zip(groups)
            .map(|(size, group)| Doubt {
                half_width: self.narrowed * size.exp() * self.quantiles.of_group(*group),
                confidence: self.confidence(size),
            })
            .collect())
    }

    fn confidence(&self, size: f64) -> f64 {
        let middle = self.past.partition_point(|(past, _)| *past < size);
        let window = SIMILAR_ROWS.min(self.past.len());
        let start = middle.saturating_sub(window / 2).min(self.past.len() - window);
        let similar = &self.past[start..start + window];
        similar.iter().filter(|(_, good)| *good).count() as f64 / window.max(1) as f64
    }
}

/// How much narrower intervals are than errors out of fold say, since what answers learned from the fold left out, too.
fn narrowed(errors: usize, folds: usize) -> f64 {
    if errors < LEARNING_ROWS_MIN || folds < 2 {
        return 1.0;
    }
    let learned_from = (folds - 1) as f64 / folds as f64;
    learned_from.powf(LEARNING_EXPONENT)
}

/// Whether an error, as a log, is within ±20 % of the truth.
pub(crate) fn is_good(log: f64) -> bool {
    (log.exp() - 1.0).abs() <= GOOD_SHARE
}

/// The conformal 90 % quantile of scores, of which there is at least one.
pub(crate) fn quantile(mut scores: Vec<f64>) -> f64 {
    scores.sort_by(f64::total_cmp);
    scores[conformal_rank(scores.len())]
}

/// The shift of log predictions after which the mean absolute percentage error is smallest: with ratios
/// `r = predicted / true` it is the median of `1 / r` weighted by `r`, since `Σ |r·s − 1| = Σ r·|s − 1/r|`.
pub(crate) fn bias(errors: &[f64]) -> f64 {
    // A few wild errors must not move everyone's prediction.
    let Some(middle) = median(errors.iter().copied()) else { return 0.0 };
    let mut sorted: Vec<f64> = errors.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.iter().map(|error| (error - middle).exp().min(MOST_WEIGHT)).sum::<f64>() / 2.0;
    let mut below = 0.0;
    for error in &sorted {
        below += (error - middle).exp().min(MOST_WEIGHT);
        if below >= half {
            return *error;
        }
    }
    middle
}

/// A prediction so many times too high weighs no more than one that is three times too high.
const MOST_WEIGHT: f64 = 3.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Learner;

    #[test]
    fn intervals_narrow_by_what_the_fold_left_out_teaches() {
        assert!((narrowed(1_000, 5) - 0.925).abs() < 1e-3, "{}", narrowed(1_000, 5));
        assert!(narrowed(1_000, 10) > narrowed(1_000, 5));
        assert_eq!([narrowed(100, 5), narrowed(1_000, 1)].map(f64::to_bits), [1.0_f64.to_bits(); 2]);
    }

    const QUICK: TrainSettings = TrainSettings {
        learner: Learner::GradientBoosting,
        rounds: 50,
        ensemble: 1,
        folds: 4,
        few_shot_below: 50,
        threads: 1,
        seed: 3,
    };

    /// Errors that are ten times as large where the only feature is 1; the second half of the rows is of group 1.
    fn errors() -> Errors {
        let mut random = fastrand::Rng::with_seed(5);
        let rows = 2_000;
        let features = Array2::from_shape_fn((rows, 1), |(row, _)| (row % 2) as f32);
        let logs = (0..rows).map(|row| (random.f64() - 0.5) * if row % 2 == 1 { 1.0 } else { 0.1 }).collect();
        Errors {
            features,
            logs,
            groups: (0..rows).map(|row| usize::from(row >= rows / 2)).collect(),
            clusters: (0..rows).collect(),
            folds: (0..rows).map(|row| row / 2 % 4).collect(),
        }
    }

    #[test]
    fn intervals_hold_nine_of_ten_and_are_wide_where_errors_are_large() {
        let reliability = Reliability::fit(Metric::LatencyMs, &errors(), &QUICK).expect("fitted");
        let features = ndarray::arr2(&[[0.0_f32], [1.0]]);
        let doubts = reliability.doubts(&features, &[0, 0]).expect("asked");
        assert!((doubts[0].half_width - 0.045).abs() < 0.025, "{doubts:?}");
        assert!((doubts[1].half_width - 0.45).abs() < 0.1, "{doubts:?}");
        assert!(doubts[0].confidence > 0.99 && (0.3..0.5).contains(&doubts[1].confidence), "{doubts:?}");
    }

    #[test]
    fn errors_of_few_clusters_say_less_than_as_many_of_many() {
        let width = |clusters: usize| {
            let mut errors = errors();
            errors.clusters.iter_mut().for_each(|cluster| *cluster %= clusters);
            let reliability = Reliability::fit(Metric::LatencyMs, &errors, &QUICK).expect("fitted");
            assert_eq!(reliability.clusters, clusters);
            reliability.doubts(&ndarray::arr2(&[[1.0_f32]]), &[0]).expect("asked")[0].half_width
        };
        let (few, many) = (width(7), width(2_000));
        assert!((few / many / 1.263 - 1.0).abs() < 0.01, "{few} {many}");
    }

    #[test]
    fn a_group_with_larger_errors_has_wider_intervals() {
        let mut errors = errors();
        errors.logs.iter_mut().zip(&errors.groups).filter(|(_, group)| **group == 1).for_each(|(log, _)| *log *= 3.0);
        let reliability = Reliability::fit(Metric::LatencyMs, &errors, &QUICK).expect("fitted");
        let features = ndarray::arr2(&[[1.0_f32], [1.0], [1.0]]);
        let widths: Vec<f64> =
            reliability.doubts(&features, &[0, 1, 7]).expect("asked").iter().map(|doubt| doubt.half_width).collect();
        assert!(widths[1] > 2.0 * widths[0], "{widths:?}");
        assert!(widths[0] < widths[2] && widths[2] < widths[1] * 1.01, "an unknown group has all errors': {widths:?}");
    }

    #[test]
    fn the_bias_makes_the_mean_percentage_error_smallest() {
        let errors: Vec<f64> = (0..401).map(|i| f64::from(i - 200) / 400.0 + 0.1).collect();
        let mape = |shift: f64| errors.iter().map(|error| ((error - shift).exp() - 1.0).abs()).sum::<f64>();
        let best = bias(&errors);
        assert!(best > 0.1, "predictions go below the median: {best}");
        assert!(mape(best) <= mape(best + 0.01) && mape(best) <= mape(best - 0.01));
        assert_eq!(bias(&[]).to_bits(), 0.0_f64.to_bits());
    }
}
