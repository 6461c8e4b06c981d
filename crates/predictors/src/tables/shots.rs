//! A few measurements on a new device correct everything predicted for it: ridge regression of their residuals.
//!
//! As Bayesian linear regression (Bishop, *Pattern Recognition and Machine Learning*, section 3.3): the device's level
//! may be anything, configuration flags, shapes and latent factors have smaller and smaller prior influence. Models whose
//! residuals strayed on other devices say less of this one, and are predicted with less confidence: their measurements
//! count as noisier.
//!
//! The constants were chosen by leaving devices out: a new device's mean error hardly changes (by less than 2 % of it) if
//! the prior deviations of flags, shapes and factors are halved together.

use ndarray::{Array1, Array2, ArrayView1, Axis};
use serde::{Deserialize, Serialize, Serializer};

use super::{basis::Design, linear::inverse};

/// Noise of a residual, as a log; what the prior deviations are relative to.
pub(crate) const NOISE_LOG: f64 = 0.1;
/// Residuals further from the median than this weigh less.
const FAR_LOG: f64 = 0.3;
/// Most that a residual may say of itself.
const LEVERAGE_MAX: f64 = 0.9;
/// Rows that the representative choice is made for: enough to stand for a table.
const CANDIDATES_MAX: usize = 2_000;

/// A correction learned from few residuals.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Saved")]
pub(crate) struct Correction {
    weights: Array1<f64>,
    /// Of the weights, in variances of the noise; shape `[inputs, inputs]`.
    covariance: Array2<f64>,
    /// Sum over the residuals, each left out in turn, of its square over the variance predicted for it.
    pub(crate) surprise: f64,
}

/// What a correction is made of.
#[derive(Serialize, Deserialize)]
struct Saved {
    weights: Vec<f64>,
    covariance: Vec<f64>,
    surprise: f64,
}

impl Serialize for Correction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { weights, covariance, surprise } = self;
        let (weights, covariance) = (weights.to_vec(), covariance.iter().copied().collect());
        Saved { weights, covariance, surprise: *surprise }.serialize(serializer)
    }
}

impl TryFrom<Saved> for Correction {
    type Error = String;

    fn try_from(saved: Saved) -> Result<Self, String> {
        let Saved { weights, covariance, surprise } = saved;
        let inputs = weights.len();
        let covariance = Array2::from_shape_vec((inputs, inputs), covariance).map_err(|error| error.to_string())?;
        Ok(Self { weights: Array1::from(weights), covariance, surprise })
    }
}

impl Correction {
    /// Fits residuals (true minus predicted, as logs) of the rows they are of.
    pub(crate) fn fit(design: &Design, rows: &[usize], residuals: &[f64]) -> Self {
        let middle = crate::calibration::median(residuals.iter().copied()).unwrap_or_default();
        let far = |residual: &f64| (1.0 + ((residual - middle) / FAR_LOG).powi(2)).sqrt();
        let trust: Array1<f64> =
            rows.iter().zip(residuals).map(|(row, r)| 1.0 / (far(r) * design.noise[*row])).collect();
        let inputs = design.inputs.select(Axis(0), rows);
        let weighted = &inputs * &trust.view().insert_axis(Axis(1));
        let covariance = inverse(weighted.t().dot(&inputs) + Array2::<f64>::eye(inputs.ncols()));
        let weights = covariance.dot(&weighted.t().dot(&ArrayView1::from(residuals)));
        let variances = inputs.dot(&covariance);
        let surprise = (0..rows.len()).map(|index| {
            let input = inputs.row(index);
            let variance = variances.row(index).dot(&input);
            // Near 1 the residual was fitted by itself alone; it says nothing of the others then.
            let others = 1.0 - (trust[index] * variance).min(LEVERAGE_MAX);
            let rest = (residuals[index] - input.dot(&weights)) / others;
            rest * rest / (NOISE_LOG * NOISE_LOG * (design.noise[rows[index]] + variance / others))
        });
        Self { surprise: surprise.sum(), weights, covariance }
    }

    /// What to add to a log prediction.
    pub(crate) fn predict(&self, design: &Design, row: usize) -> f64 {
        design.input(row).dot(&self.weights)
    }

    /// Standard deviation of a log prediction so corrected, if the noise is what it usually is.
    pub(crate) fn deviation(&self, design: &Design, row: usize) -> f64 {
        let input = design.input(row);
        NOISE_LOG * (design.noise[row] + self.covariance.dot(&input).dot(&input)).sqrt()
    }
}

/// Chooses `count` of `rows` to measure, such that the uncertainty left on all of them is smallest on average: the
/// greedy A-optimal design (Pukelsheim, *Optimal Design of Experiments*, chapter 6).
pub(crate) fn representative(design: &Design, rows: &[usize], count: usize) -> Vec<usize> {
    let step = rows.len().div_ceil(CANDIDATES_MAX).max(1);
    let candidates: Vec<usize> = rows.iter().copied().step_by(step).collect();
    let inputs = design.inputs.select(Axis(0), &candidates);
    let noise = |index: usize| design.noise[candidates[index]];
    let mut covariance = Array2::<f64>::eye(inputs.ncols());
    let mut chosen = Vec::new();
    while chosen.len() < count.min(candidates.len()) {
        let projected = inputs.dot(&covariance);
        let explained = projected.t().dot(&projected);
        let gain = |index: usize| {
            let input = inputs.row(index);
            input.dot(&explained.dot(&input)) / (noise(index) + projected.row(index).dot(&input))
        };
        let best = (0..candidates.len())
            .filter(|index| !chosen.contains(index))
            .max_by(|a, b| gain(*a).total_cmp(&gain(*b)))
            .expect("fewer were chosen than there are");
        let along = projected.row(best).to_owned();
        let scale = noise(best) + along.dot(&inputs.row(best));
        for (left, value) in along.iter().enumerate() {
            covariance.row_mut(left).scaled_add(-value / scale, &along);
        }
        chosen.push(best);
    }
    chosen.into_iter().map(|index| candidates[index]).collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::basis::{LEVEL_PRIOR, SHAPE_PRIOR},
        *,
    };

    /// Level and one shape over 100 rows.
    fn line() -> Design {
        let input = |(row, column)| {
            if column == 0 { LEVEL_PRIOR } else { SHAPE_PRIOR * (row as f64 / 50.0 - 1.0) }
        };
        Design { inputs: Array2::from_shape_fn((100, 2), input), noise: vec![1.0; 100] }
    }

    const SHOTS: [usize; 5] = [3, 20, 50, 70, 95];

    #[test]
    fn five_residuals_give_the_level() {
        let design = line();
        let correction = Correction::fit(&design, &SHOTS, &[0.52, 0.49, 0.5, 0.51, 0.48]);
        for row in 0..100 {
            assert!((correction.predict(&design, row) - 0.5).abs() < 0.05);
            let deviation = correction.deviation(&design, row);
            assert!((NOISE_LOG..1.2 * NOISE_LOG).contains(&deviation), "the level is known: {deviation}");
        }
        assert!(correction.surprise < 1.0, "they agree better than was expected: {correction:?}");
    }

    #[test]
    fn a_correction_survives_saving_and_a_damaged_one_is_refused() {
        let correction = Correction::fit(&line(), &SHOTS, &[0.52, 0.49, 0.5, 0.51, 0.48]);
        let mut bytes = Vec::new();
        ciborium::into_writer(&correction, &mut bytes).expect("memory takes everything");
        assert_eq!(ciborium::from_reader::<Correction, _>(bytes.as_slice()).expect("whole"), correction);
        let cut_off = Saved { weights: vec![1.0; 2], covariance: vec![1.0; 3], surprise: 1.0 };
        assert!(Correction::try_from(cut_off).is_err());
    }

    #[test]
    fn residuals_that_disagree_are_a_surprise() {
        let correction = Correction::fit(&line(), &SHOTS, &[0.9, -0.2, 0.5, 0.1, 1.2]);
        assert!(correction.surprise > 5.0 * SHOTS.len() as f64, "{correction:?}");
    }

    #[test]
    fn a_model_that_strays_elsewhere_says_less_and_is_doubted_more() {
        let mut design = line();
        let residuals = [0.3, 0.3, 0.3, 0.3, -0.1];
        let level = |design: &Design| Correction::fit(design, &SHOTS, &residuals).predict(design, 50);
        let trusted = level(&design);
        design.noise[SHOTS[4]] = 9.0;
        assert!(level(&design) > trusted + 0.03, "{} after {trusted}", level(&design));
        let correction = Correction::fit(&design, &SHOTS, &residuals);
        assert!(correction.deviation(&design, SHOTS[4]) > 2.0 * correction.deviation(&design, 50));
    }

    #[test]
    fn representatives_are_apart_and_do_not_stray() {
        let mut design = line();
        design.inputs.column_mut(1).mapv_inplace(|value| value / SHAPE_PRIOR * 5.0);
        let rows: Vec<usize> = (0..100).collect();
        let chosen = representative(&design, &rows, 4);
        let (least, most) = (chosen.iter().min().expect("some"), chosen.iter().max().expect("some"));
        assert!(chosen.len() == 4 && *least < 15 && *most > 85, "{chosen:?}");
        design.noise[..15].fill(400.0);
        let chosen = representative(&design, &rows, 4);
        assert!(chosen.iter().all(|row| *row >= 15), "{chosen:?}");
    }
}
