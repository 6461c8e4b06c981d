//! A few measurements on a new device correct everything predicted for it: ridge regression of their residuals.
//!
//! As Bayesian linear regression (Bishop, *Pattern Recognition and Machine Learning*, section 3.3): the device's level
//! may be anything, configuration flags, shapes and latent factors have smaller and smaller prior influence.

use ndarray::{Array2, ArrayView1};

use super::{data::TableData, linear::solve};

/// Noise of a residual, as a log; what the prior deviations below are relative to.
const NOISE_LOG: f64 = 0.1;
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
/// Observations that the spread expected before the first measurement is worth, of devices like this one.
const PRIOR_OBSERVATIONS: f64 = 5.0;
/// The same where no device like this one was known.
const STRANGE_OBSERVATIONS: f64 = 1.0;
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
        let of_row = ndarray::Array1::from_shape_fn(rows, |row| factor[data.models.of_row[row]] * SHAPE_PRIOR);
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
    weights: Vec<f64>,
    /// Root mean square of residuals left out one by one, as a log.
    pub(crate) spread: f64,
    observations: f64,
}

impl Correction {
    /// Fits residuals (true minus predicted, as logs) of the rows they are of.
    pub(crate) fn fit(inputs: &Array2<f64>, rows: &[usize], residuals: &[f64]) -> Self {
        let width = inputs.ncols();
        let middle = crate::calibration::median(residuals.iter().copied()).unwrap_or_default();
        let trust: Vec<f64> =
            residuals.iter().map(|residual| 1.0 / (1.0 + ((residual - middle) / FAR_LOG).powi(2)).sqrt()).collect();
        let mut gram = vec![0.0; width * width];
        let mut moment = vec![0.0; width];
        for ((row, residual), trust) in rows.iter().zip(residuals).zip(&trust) {
            let input = inputs.row(*row);
            for left in 0..width {
                moment[left] += trust * input[left] * residual;
                for right in 0..width {
                    gram[left * width + right] += trust * input[left] * input[right];
                }
            }
        }
        (0..width).for_each(|i| gram[i * (width + 1)] += 1.0);
        let weights = solve(gram.clone(), moment);
        let left_out = rows.iter().zip(residuals).zip(&trust).map(|((row, residual), trust)| {
            let input = inputs.row(*row);
            let leverage = trust * input.dot(&ndarray::Array1::from(solve(gram.clone(), input.to_vec())));
            let rest = residual - dot(&input, &weights);
            // Near 1 the residual was fitted by itself alone; it says nothing of the others then.
            (rest / (1.0 - leverage.min(0.9))).powi(2)
        });
        let spread = (left_out.sum::<f64>() / rows.len().max(1) as f64).sqrt();
        Self { weights, spread, observations: rows.len() as f64 }
    }

    /// What to add to a log prediction.
    pub(crate) fn predict(&self, inputs: &Array2<f64>, row: usize) -> f64 {
        dot(&inputs.row(row), &self.weights)
    }

    /// How many times wider intervals must be than the spread expected before says, now that residuals were seen.
    pub(crate) fn stretch(&self, expected_spread: f64, strange: bool) -> f64 {
        let prior = if strange { STRANGE_OBSERVATIONS } else { PRIOR_OBSERVATIONS };
        let seen = self.observations * self.spread.powi(2);
        let pooled = (prior * expected_spread.powi(2) + seen) / (prior + self.observations);
        pooled.sqrt() / expected_spread.max(NOISE_LOG * 0.1)
    }
}

fn dot(input: &ArrayView1<'_, f64>, weights: &[f64]) -> f64 {
    input.iter().zip(weights).map(|(input, weight)| input * weight).sum()
}

/// Chooses `count` of `rows` to measure, such that the uncertainty left on all of them is smallest on average: the
/// greedy A-optimal design (Pukelsheim, *Optimal Design of Experiments*, chapter 6).
pub(crate) fn representative(inputs: &Array2<f64>, rows: &[usize], count: usize) -> Vec<usize> {
    let step = rows.len().div_ceil(CANDIDATES_MAX).max(1);
    let candidates: Vec<usize> = rows.iter().copied().step_by(step).collect();
    let inputs = inputs.select(ndarray::Axis(0), &candidates);
    let mut covariance = Array2::<f64>::eye(inputs.ncols());
    let mut chosen = Vec::new();
    while chosen.len() < count.min(candidates.len()) {
        let projected = inputs.dot(&covariance);
        let explained = projected.t().dot(&projected);
        let gain = |row: usize| {
            let input = inputs.row(row);
            input.dot(&explained.dot(&input)) / (1.0 + projected.row(row).dot(&input))
        };
        let best = (0..candidates.len())
            .filter(|row| !chosen.contains(row))
            .max_by(|a, b| gain(*a).total_cmp(&gain(*b)))
            .expect("fewer were chosen than there are");
        let along = projected.row(best).to_owned();
        let scale = 1.0 + along.dot(&inputs.row(best));
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
    fn line() -> Array2<f64> {
        Array2::from_shape_fn(
            (100, 2),
            |(row, column)| {
                if column == 0 { LEVEL_PRIOR } else { SHAPE_PRIOR * (row as f64 / 50.0 - 1.0) }
            },
        )
    }

    #[test]
    fn five_residuals_give_the_level() {
        let inputs = line();
        let correction = Correction::fit(&inputs, &[3, 20, 50, 70, 95], &[0.52, 0.49, 0.5, 0.51, 0.48]);
        for row in 0..100 {
            assert!((correction.predict(&inputs, row) - 0.5).abs() < 0.05);
        }
        assert!(correction.stretch(0.1, false) < 1.0, "they agree better than was expected: {correction:?}");
    }

    #[test]
    fn residuals_that_disagree_widen_the_intervals() {
        let correction = Correction::fit(&line(), &[3, 20, 50, 70, 95], &[0.9, -0.2, 0.5, 0.1, 1.2]);
        assert!(correction.stretch(0.1, false) > 2.0, "{correction:?}");
    }

    #[test]
    fn representatives_are_apart() {
        let flagged = line().mapv(|value| if value.abs() > SHAPE_PRIOR { value } else { value / SHAPE_PRIOR * 5.0 });
        let rows: Vec<usize> = (0..100).collect();
        let chosen = representative(&flagged, &rows, 4);
        let (least, most) = (chosen.iter().min().expect("some"), chosen.iter().max().expect("some"));
        assert!(chosen.len() == 4 && *least < 15 && *most > 85, "{chosen:?}");
    }
}
