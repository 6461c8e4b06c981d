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

use super::{data::TableData, linear::inverse};

/// Noise of a residual, as a log; what the prior deviations below are relative to.
pub(crate) const NOISE_LOG: f64 = 0.1;
/// Prior standard deviation of a device's level, in noises.
const LEVEL_PRIOR: f64 = 10.0;
/// Of a configuration flag.
const FLAG_PRIOR: f64 = 1.0;
/// Of one standard deviation of a shape feature, and of a latent factor.
const SHAPE_PRIOR: f64 = 0.2;
/// Standard deviations at which a shape feature is cut off: beyond, a line is no longer to be trusted.
const SHAPE_MAX: f32 = 3.0;
/// Residuals further from the median than this weigh less.
const FAR_LOG: f64 = 0.3;
/// Latent factors of other devices' residuals.
pub(crate) const FACTORS: usize = 4;
/// Most that a residual may say of itself.
const LEVERAGE_MAX: f64 = 0.9;
/// Rows that the representative choice is made for: enough to stand for a table.
const CANDIDATES_MAX: usize = 2_000;

const FLAGS: [&str; 3] = ["compiled", "channels_last", "backend_version"];
const SHAPES: [&str; 18] = [
    "log_macs_per_item",
    "log_elements_per_item",
    "compute_bound_share",
    "log_intensity",
    "log_roofline_us_per_operator",
    "log_operators",
    "log_batch_size",
    "log_image_size",
    "log_intensity_of_macs",
    "log_weight_reuse",
    "log_fused_share",
    "mac_share_conv",
    "mac_share_gconv",
    "mac_share_dw",
    "mac_share_linear",
    "element_share_act",
    "element_share_norm",
    "operator_share_copy",
];

/// What the regression knows of every row of a table before the first measurement.
#[derive(Debug, Clone)]
pub(crate) struct Design {
    /// Shape `[rows, inputs]`, each in units of its prior standard deviation over that of the noise.
    pub(crate) inputs: Array2<f64>,
    /// Variance of each row's noise, in that of a usual model.
    pub(crate) noise: Vec<f64>,
}

/// The regression's inputs of every row of a table, shape `[rows, 1 + flags + shapes + factors]`, each in units of
/// its prior standard deviation.
pub(crate) fn inputs(data: &TableData, factors: &Array2<f64>) -> Array2<f64> {
    let rows = data.rows().len();
    let width = 1 + FLAGS.len() + SHAPES.len() + factors.ncols();
    let mut inputs = Array2::zeros((rows, width));
    inputs.column_mut(0).fill(LEVEL_PRIOR);
    for (index, name) in FLAGS.into_iter().enumerate() {
        let values = data.column(name);
        let centre = mean(&values);
        let column = values.mapv(|value| if value.is_nan() { 0.0 } else { f64::from(value - centre).clamp(-1.0, 1.0) });
        inputs.column_mut(1 + index).assign(&(column * FLAG_PRIOR));
    }
    for (index, name) in SHAPES.into_iter().enumerate() {
        let values = data.column(name);
        let centre = mean(&values);
        let deviation = mean(&values.mapv(|value| (value - centre).powi(2)).view()).sqrt().max(f32::MIN_POSITIVE);
        let column = values.mapv(|value| {
            if value.is_nan() { 0.0 } else { f64::from(((value - centre) / deviation).clamp(-SHAPE_MAX, SHAPE_MAX)) }
        });
        inputs.column_mut(1 + FLAGS.len() + index).assign(&(column * SHAPE_PRIOR));
    }
    for (index, factor) in factors.columns().into_iter().enumerate() {
        let of_row = Array1::from_shape_fn(rows, |row| factor[data.models.of_row[row]] * SHAPE_PRIOR);
        inputs.column_mut(1 + FLAGS.len() + SHAPES.len() + index).assign(&of_row);
    }
    inputs
}

/// The mean of what is known.
fn mean(values: &ArrayView1<'_, f32>) -> f32 {
    let known = values.iter().filter(|value| !value.is_nan());
    let (sum, count) = known.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    if count > 0.0 { sum / count } else { 0.0 }
}

/// A correction learned from few residuals.
#[derive(Debug, Clone)]
pub(crate) struct Correction {
    weights: Array1<f64>,
    /// Of the weights, in variances of the noise; shape `[inputs, inputs]`.
    covariance: Array2<f64>,
    /// Sum over the residuals, each left out in turn, of its square over the variance predicted for it.
    pub(crate) surprise: f64,
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
        design.inputs.row(row).dot(&self.weights)
    }

    /// Standard deviation of a log prediction so corrected, if the noise is what it usually is.
    pub(crate) fn deviation(&self, design: &Design, row: usize) -> f64 {
        let input = design.inputs.row(row);
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
    use super::*;

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
