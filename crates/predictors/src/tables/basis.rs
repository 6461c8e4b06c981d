//! What is known of a row before the first measurement of its device: the inputs of the regression that corrects what is
//! predicted there, and how noisy its model is.

use std::{collections::BTreeMap, sync::LazyLock};

use features::features;
use ndarray::{Array2, ArrayView1};
use serde::{Deserialize, Serialize};

use super::data::TableData;

/// Prior standard deviation of a device's level, in noises.
pub(crate) const LEVEL_PRIOR: f64 = 10.0;
/// Of a configuration flag.
const FLAG_PRIOR: f64 = 1.0;
/// Of one standard deviation of a shape feature, and of a latent factor.
pub(crate) const SHAPE_PRIOR: f64 = 0.2;
/// Standard deviations at which a shape feature is cut off: beyond, a line is no longer to be trusted.
const SHAPE_MAX: f64 = 3.0;
/// Latent factors of other devices' residuals.
pub(crate) const FACTORS: usize = 4;

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

/// Where the flags and then the shapes are among all features; asking for each by name takes longer than a prediction.
static PLACES: LazyLock<Vec<usize>> = LazyLock::new(|| {
    let names: Vec<String> = features().into_iter().map(|feature| feature.name).collect();
    let place = |wanted: &&str| names.iter().position(|name| name == wanted).expect("a feature of the schema");
    FLAGS.iter().chain(&SHAPES).map(place).collect()
});

/// How to make the regression's inputs of any row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Basis {
    /// Of the flags and then the shapes.
    scales: Vec<Scale>,
    /// Latent factors of the models that have some, by the model's number.
    factors: Vec<Vec<f64>>,
    /// Variance of models' noise in that of a usual model, where it is known.
    noise: BTreeMap<usize, f64>,
}

/// How a feature was spread over the rows that were learned from.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Scale {
    centre: f64,
    deviation: f64,
}

impl Scale {
    fn of(data: &TableData, rows: &[usize], place: usize) -> Self {
        let known = || rows.iter().map(|row| f64::from(data.value_at(*row, place))).filter(|value| !value.is_nan());
        let mean = |values: &mut dyn Iterator<Item = f64>| {
            let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
            if count > 0.0 { sum / count } else { 0.0 }
        };
        let centre = mean(&mut known());
        let deviation = mean(&mut known().map(|value| (value - centre).powi(2))).sqrt().max(f64::from(f32::EPSILON));
        Self { centre, deviation }
    }
}

impl Basis {
    /// Takes the spread of features over `rows`; `factors` has shape `[models, factors]`.
    pub(crate) fn of(data: &TableData, rows: &[usize], factors: &Array2<f64>, noise: BTreeMap<usize, f64>) -> Self {
        Self {
            scales: PLACES.iter().map(|place| Scale::of(data, rows, *place)).collect(),
            factors: factors.rows().into_iter().map(|row| row.to_vec()).collect(),
            noise,
        }
    }

    /// What the regression knows of rows, in their order.
    pub(crate) fn design(&self, data: &TableData, rows: &[usize]) -> Design {
        let factors = self.factors.first().map_or(0, Vec::len);
        let width = 1 + self.scales.len() + factors;
        let mut inputs = Array2::zeros((rows.len(), width));
        for (row, mut input) in rows.iter().zip(inputs.rows_mut()) {
            input[0] = LEVEL_PRIOR;
            for (index, (place, scale)) in PLACES.iter().zip(&self.scales).enumerate() {
                let off = f64::from(data.value_at(*row, *place)) - scale.centre;
                let value = if index < FLAGS.len() {
                    off.clamp(-1.0, 1.0) * FLAG_PRIOR
                } else {
                    (off / scale.deviation).clamp(-SHAPE_MAX, SHAPE_MAX) * SHAPE_PRIOR
                };
                input[1 + index] = if value.is_nan() { 0.0 } else { value };
            }
            let of_model = self.factors.get(data.models.of_row[*row]);
            for (index, factor) in of_model.into_iter().flatten().enumerate() {
                input[1 + self.scales.len() + index] = factor * SHAPE_PRIOR;
            }
        }
        let noise = |row: &usize| self.noise.get(&data.models.of_row[*row]).copied().unwrap_or(1.0);
        Design { inputs, noise: rows.iter().map(noise).collect() }
    }
}

/// What the regression knows of some rows before the first measurement; rows are named by their place in here.
#[derive(Debug, Clone)]
pub(crate) struct Design {
    /// Shape `[rows, 1 + flags + shapes + factors]`, each in units of its prior standard deviation over that of the noise.
    pub(crate) inputs: Array2<f64>,
    /// Variance of each row's noise, in that of a usual model.
    pub(crate) noise: Vec<f64>,
}

impl Design {
    /// One row's inputs.
    pub(crate) fn input(&self, row: usize) -> ArrayView1<'_, f64> {
        self.inputs.row(row)
    }
}
