//! A small neural network as a second learner: two hidden layers, trained by the crate `runnt`.
//!
//! Where trees answer in steps and not at all beyond what they saw, a network is smooth; it errs elsewhere, so the mean
//! of both may be better than either.

use ndarray::{Array1, Array2, ArrayView1};
use runnt::{
    activation::Activation, initialization::Initialization, learning::Rate, nn::NN, optimizer::Optimizer,
    regularization::Regularization,
};
use serde::{Deserialize, Serialize, Serializer};

/// Neurons of the hidden layers.
const HIDDEN: [usize; 2] = [64, 32];
/// Times that every row is seen.
const EPOCHS: usize = 40;
/// Rows of a step.
const BATCH_ROWS: usize = 64;
/// Highest step of Adam (Kingma and Ba, <https://arxiv.org/abs/1412.6980>), reached after [`WARM_UP_SHARE`] of the
/// steps and falling along a cosine to a hundredth from there.
const RATE: f32 = 3e-3;
const WARM_UP_SHARE: f32 = 0.05;
/// Weight of the squared weights in the loss.
const DECAY: f32 = 1e-4;
/// Standard deviations at which a feature is cut off: a network must not extrapolate far.
const FEATURE_MAX: f32 = 4.0;
/// Smallest standard deviation of a feature that varies.
const DEVIATION_MIN: f64 = 1e-6;

/// A trained network.
///
/// It answers on its own: a matrix product per layer for all rows at once, where the crate that trained it copies every
/// row several times.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Saved")]
pub(crate) struct Network {
    means: Vec<f32>,
    /// One over the standard deviation; 0 for what never varied.
    scales: Vec<f32>,
    target_scale: f32,
    layers: Vec<Layer>,
}

#[derive(Debug, Clone)]
struct Layer {
    /// Shape `[inputs, outputs]`.
    weights: Array2<f32>,
    biases: Array1<f32>,
}

/// What a network is made of.
#[derive(Serialize, Deserialize)]
struct Saved {
    means: Vec<f32>,
    scales: Vec<f32>,
    target_scale: f32,
    weights: Vec<f32>,
    biases: Vec<f32>,
}

impl From<&Network> for Saved {
    fn from(network: &Network) -> Self {
        Self {
            means: network.means.clone(),
            scales: network.scales.clone(),
            target_scale: network.target_scale,
            weights: network.layers.iter().flat_map(|layer| layer.weights.iter().copied()).collect(),
            biases: network.layers.iter().flat_map(|layer| layer.biases.iter().copied()).collect(),
        }
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Saved::from(self).serialize(serializer)
    }
}

impl TryFrom<Saved> for Network {
    type Error = String;

    fn try_from(saved: Saved) -> Result<Self, String> {
        let Saved { means, scales, target_scale, weights, biases } = saved;
        let cut_off = || "the network is cut off".to_owned();
        let layers = layers(means.len(), &weights, &biases).ok_or_else(cut_off)?;
        if scales.len() != means.len() {
            return Err(cut_off());
        }
        Ok(Self { means, scales, target_scale, layers })
    }
}

/// The layers that these weights and biases are of, one layer after the other; `None` if their number is another.
fn layers(inputs: usize, weights: &[f32], biases: &[f32]) -> Option<Vec<Layer>> {
    let (mut weights, mut biases) = (weights, biases);
    let mut inputs = inputs;
    let mut layers = Vec::new();
    for outputs in [HIDDEN[0], HIDDEN[1], 1] {
        let (own_weights, other_weights) = weights.split_at_checked(inputs * outputs)?;
        let (own_biases, other_biases) = biases.split_at_checked(outputs)?;
        layers.push(Layer {
            weights: Array2::from_shape_vec((inputs, outputs), own_weights.to_vec()).ok()?,
            biases: own_biases.to_vec().into(),
        });
        (weights, biases, inputs) = (other_weights, other_biases, outputs);
    }
    (weights.is_empty() && biases.is_empty()).then_some(layers)
}

impl Network {
    /// Trains on features of shape `[rows, columns]`, NaN for a missing value, and targets about their mean; there is
    /// at least one row.
    pub(crate) fn train(features: &Array2<f32>, targets: &[f32], seed: u64) -> Self {
        let (means, scales) = moments(features);
        let variance = targets.iter().map(|target| target * target).sum::<f32>() / targets.len() as f32;
        let target_scale = variance.sqrt().max(f32::MIN_POSITIVE);
        let steps = EPOCHS * targets.len().div_ceil(BATCH_ROWS);
        // The crate draws its first weights from this thread's generator.
        fastrand::seed(seed);
        let mut training = empty(features.ncols())
            .with_initialization(Initialization::He)
            .with_regularization(Regularization::L2(DECAY))
            .with_optimizer(Optimizer::adam())
            .with_learning_rate(cosine(steps));
        let mut network = Self { means, scales, target_scale, layers: Vec::new() };
        let inputs: Vec<Vec<f32>> = network.standard(features).rows().into_iter().map(|row| row.to_vec()).collect();
        let outputs: Vec<Vec<f32>> = targets.iter().map(|target| vec![target / target_scale]).collect();
        let mut order: Vec<usize> = (0..inputs.len()).collect();
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..EPOCHS {
            random.shuffle(&mut order);
            let shuffled: Vec<_> = order.iter().map(|row| &inputs[*row]).collect();
            let outputs: Vec<_> = order.iter().map(|row| &outputs[*row]).collect();
            training.fit(&shuffled, &outputs, BATCH_ROWS);
        }
        network.layers = layers(features.ncols(), &training.get_weights(), &training.get_biases())
            .expect("the network has the layers that it was made with");
        network
    }

    /// Predicts centred targets, one per row.
    pub(crate) fn predict(&self, features: &Array2<f32>) -> Vec<f32> {
        let mut values = self.standard(features);
        for (index, layer) in self.layers.iter().enumerate() {
            values = values.dot(&layer.weights) + &layer.biases;
            if index + 1 < self.layers.len() {
                values.mapv_inplace(swish);
            }
        }
        values.into_iter().map(|value| value * self.target_scale).collect()
    }

    /// Rows in standard deviations; what is missing is average.
    fn standard(&self, features: &Array2<f32>) -> Array2<f32> {
        let mut rows = features.as_standard_layout().into_owned();
        let columns = rows.ncols().max(1);
        for row in rows.as_slice_mut().expect("standard layout is contiguous").chunks_exact_mut(columns) {
            for ((value, mean), scale) in row.iter_mut().zip(&self.means).zip(&self.scales) {
                let standard = (*value - mean) * scale;
                let standard = if standard.is_nan() { 0.0 } else { standard };
                *value = standard.clamp(-FEATURE_MAX, FEATURE_MAX);
            }
        }
        rows
    }
}

/// As [`Activation::Swish`], `x · σ(x)` (Ramachandran, Zoph and Le 2017, <https://arxiv.org/abs/1710.05941>).
fn swish(value: f32) -> f32 {
    value / (1.0 + (-value).exp())
}

fn empty(inputs: usize) -> NN {
    NN::new(&[inputs, HIDDEN[0], HIDDEN[1], 1])
        .with_activation_hidden(Activation::Swish)
        .with_activation_output(Activation::Linear)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a number of steps")]
fn cosine(steps: usize) -> runnt::learning::LearningRate {
    let warmup_steps = (steps as f32 * WARM_UP_SHARE) as usize;
    runnt::learning::LearningRate::new(Rate::Cosine {
        start_rate: RATE / 100.0,
        warmup_target_rate: RATE,
        warmup_steps,
        total_steps: steps,
        min_rate: RATE / 100.0,
    })
}

/// Mean of each column's known values, and one over their standard deviation, 0 where that is none.
fn moments(features: &Array2<f32>) -> (Vec<f32>, Vec<f32>) {
    let of_column = |column: ArrayView1<'_, f32>| {
        let known = || column.iter().filter(|value| !value.is_nan()).map(|value| f64::from(*value));
        let count = known().count().max(1) as f64;
        let mean = known().sum::<f64>() / count;
        let deviation = (known().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
        #[expect(clippy::cast_possible_truncation, reason = "features are in single precision")]
        (mean as f32, if deviation > DEVIATION_MIN { (1.0 / deviation) as f32 } else { 0.0 })
    };
    features.columns().into_iter().map(of_column).unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_learns_what_is_smooth_and_takes_what_is_missing_for_average() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut features = Array2::from_shape_fn((1_000, 3), |_| random.f32() * 2.0 - 1.0);
        let truth = |row: ArrayView1<'_, f32>| (3.0 * row[0]).sin() + row[1] * row[1] - 1.0 / 3.0;
        let targets: Vec<f32> = features.rows().into_iter().map(truth).collect();
        features.column_mut(2).fill(f32::NAN);
        let network = Network::train(&features, &targets, 7);
        let asked = ndarray::arr2(&[[0.5, 0.5, f32::NAN], [-0.3, 0.8, 100.0], [0.0, f32::NAN, 0.0]]);
        let expected = [[0.5, 0.5], [-0.3, 0.8], [0.0, 0.0]].map(|row| truth(ndarray::aview1(&row)));
        for (found, expected) in network.predict(&asked).into_iter().zip(expected) {
            assert!((found - expected).abs() < 0.1, "{found}, not {expected}");
        }
    }

    #[test]
    fn a_network_survives_saving_and_a_damaged_one_is_refused() {
        let features = Array2::from_shape_fn((50, 2), |(row, column)| (row * (column + 1)) as f32);
        let targets: Vec<f32> = (0..50).map(|row| row as f32 - 24.5).collect();
        let network = Network::train(&features, &targets, 1);
        let mut saved = Saved::from(&network);
        let again = Network::try_from(Saved::from(&network)).expect("whole");
        assert_eq!(again.predict(&features), network.predict(&features));
        saved.biases.pop();
        assert!(Network::try_from(saved).is_err());
    }

    #[test]
    fn the_same_seed_gives_the_same_network() {
        let features = Array2::from_shape_fn((50, 2), |(row, column)| (row * (column + 1)) as f32);
        let targets: Vec<f32> = (0..50).map(|row| row as f32 - 24.5).collect();
        let predict = |seed| Network::train(&features, &targets, seed).predict(&features);
        assert_eq!(predict(1), predict(1));
        assert_ne!(predict(1), predict(2));
    }
}
