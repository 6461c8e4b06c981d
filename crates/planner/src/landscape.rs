//! How alike configurations are: what errs on one tells how a predictor errs on another.
//!
//! A predictor learns the log ratio of time to the operators' rooflines. What it does not know yet is mostly how
//! efficient each kind of operator is, so errors of two configurations go together as far as the same kinds take their
//! time, as far as they are alike in size and shape, and as far as they are run alike. How large errors are is not said
//! here but by the predictors.

use std::collections::HashMap;

use features::{DeviceTable, FeatureFrame, MeasuredRow, OperatorTable, features, is_time_share};
use messages::Metric;

use crate::PlannerError;

/// The distance over which the correlation of errors falls to 1/e. Chosen on published measurements of three GPUs, where
/// 2 to 4 do equally well.
const CORRELATION_LENGTH: f64 = 3.0;
/// Standard deviations at which a size is cut off, so that one giant is not unlike everything else together.
const SIZE_MAX: f32 = 3.0;
/// The smallest standard deviation of a size, all but one being logarithms: a little scatter is no difference.
const DEVIATION_MIN: f32 = 0.1;

/// Features that say how large and of which shape a configuration is.
const SIZES: &[&str] = &[
    "log_macs_per_item",
    "log_elements_per_item",
    "log_weights",
    "log_operators",
    "log_roofline_us_per_operator",
    "log_fused_share",
    "compute_bound_share",
    "log_intensity",
    "log_batch_size",
    "log_image_size",
    "log_sequence_length",
];
/// Features that say how it is run, with what makes a step of each about 1.
const WAYS: &[(&str, f32)] = &[
    ("compiled", 1.0),
    ("channels_last", 1.0),
    ("backend_version", 1.0),
    ("activation_bytes", 0.5),
    ("weight_bytes", 0.5),
    ("accelerator", 1.0),
    // Twice as many threads: what shares no work shows with each, as what a compiler leaves alone does.
    ("log_threads", 1.0),
];

/// Configurations, described so that they can be compared.
#[derive(Debug, Clone)]
pub struct Landscape {
    points: Vec<Point>,
    latency_base_ms: Vec<f64>,
    memory_base_mb: Vec<f64>,
    memory_least_mb: Vec<f64>,
}

/// One configuration.
#[derive(Debug, Clone, PartialEq)]
struct Point {
    device: usize,
    /// Shares of the roofline time by kind of operator.
    shares: Vec<f32>,
    /// In standard deviations from the mean of all points.
    sizes: Vec<f32>,
    /// From the mean of all points.
    ways: Vec<f32>,
}

impl Landscape {
    /// Describes rows, whose metrics are not looked at; points are named by their index in `rows`.
    ///
    /// # Errors
    ///
    /// [`PlannerError::Describe`] if the features cannot be computed.
    pub fn describe(
        rows: &[MeasuredRow],
        devices: &DeviceTable,
        operators: &OperatorTable,
    ) -> Result<Self, PlannerError> {
        let frame = FeatureFrame::build(rows, devices, operators)?;
        let features = Columns { matrix: frame.to_matrix(), names: features().into_iter().map(|of| of.name).collect() };
        let shares = features.where_name(is_time_share);
        let sizes: Vec<Vec<f32>> = SIZES.iter().map(|name| standardised(features.named(name))).collect();
        let ways: Vec<Vec<f32>> = WAYS.iter().map(|(name, scale)| centred(features.named(name), *scale)).collect();
        let mut devices_seen: HashMap<&str, usize> = HashMap::new();
        let points = rows.iter().enumerate().map(|(index, row)| {
            let next = devices_seen.len();
            Point {
                device: *devices_seen.entry(&row.device).or_insert(next),
                shares: shares.iter().map(|column| known(column[index])).collect(),
                sizes: sizes.iter().map(|column| column[index]).collect(),
                ways: ways.iter().map(|column| column[index]).collect(),
            }
        });
        Ok(Self {
            points: points.collect(),
            latency_base_ms: frame.base(Metric::LatencyMs).to_vec(),
            memory_base_mb: frame.base(Metric::MemoryPeakMb).to_vec(),
            memory_least_mb: frame.memory_least_mb().to_vec(),
        })
    }

    /// Number of points.
    pub const fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether there is no point.
    pub const fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// Roofline latency of a point's batch, in milliseconds.
    pub fn latency_base_ms(&self, point: usize) -> f64 {
        self.latency_base_ms[point]
    }

    /// What a point takes of memory by physics, in MB (10^6 bytes): weights and activations.
    pub fn memory_base_mb(&self, point: usize) -> f64 {
        self.memory_base_mb[point]
    }

    /// What a point takes of memory at least, in MB.
    pub fn memory_least_mb(&self, point: usize) -> f64 {
        self.memory_least_mb[point]
    }

    /// How different two points are; 0 if they are the same to all features.
    ///
    /// The sum of: the difference of the shares of roofline time (absolute values, 0 to 2), that of sizes (root mean
    /// square), that of ways to run (squares), and 1 if the devices differ.
    pub(crate) fn distance(&self, a: usize, b: usize) -> f64 {
        let (a, b) = (&self.points[a], &self.points[b]);
        let shares: f32 = zip(&a.shares, &b.shares).map(|(a, b)| (a - b).abs()).sum();
        let sizes: f32 = zip(&a.sizes, &b.sizes).map(|(a, b)| (a - b).powi(2)).sum();
        let ways: f32 = zip(&a.ways, &b.ways).map(|(a, b)| (a - b).powi(2)).sum();
        let device = f32::from(u8::from(a.device != b.device));
        f64::from(shares + (sizes / SIZES.len() as f32).sqrt() + ways + device)
    }

    /// Correlation of the errors of two points: 1 for a point with itself.
    ///
    /// A product of kernels, one per part of the distance, and so a kernel: Rasmussen and Williams, *Gaussian Processes
    /// for Machine Learning*, section 4.2.4, <https://gaussianprocess.org/gpml/>.
    pub(crate) fn correlation(&self, a: usize, b: usize) -> f64 {
        (-self.distance(a, b) / CORRELATION_LENGTH).exp()
    }
}

fn zip<'a>(a: &'a [f32], b: &'a [f32]) -> impl Iterator<Item = (f32, f32)> {
    a.iter().copied().zip(b.iter().copied())
}

/// The feature matrix with its names.
struct Columns {
    matrix: Vec<f32>,
    names: Vec<String>,
}

impl Columns {
    fn column(&self, index: usize) -> Vec<f32> {
        self.matrix.iter().skip(index).step_by(self.names.len()).copied().collect()
    }

    fn named(&self, name: &str) -> Vec<f32> {
        self.column(self.names.iter().position(|found| found == name).expect("a feature of the schema"))
    }

    fn where_name(&self, holds: impl Fn(&str) -> bool) -> Vec<Vec<f32>> {
        (0..self.names.len()).filter(|index| holds(&self.names[*index])).map(|index| self.column(index)).collect()
    }
}

/// A value, or 0 where it is unknown.
fn known(value: f32) -> f32 {
    if value.is_nan() { 0.0 } else { value }
}

/// The mean of what is known; 0 if nothing is.
fn mean(values: impl Iterator<Item = f32>) -> f32 {
    let (sum, count) =
        values.filter(|value| !value.is_nan()).fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    if count > 0.0 { sum / count } else { 0.0 }
}

/// Differences from the mean, in steps; what is unknown is the mean.
fn centred(column: Vec<f32>, step: f32) -> Vec<f32> {
    let centre = mean(column.iter().copied());
    column.into_iter().map(|value| known((value - centre) * step)).collect()
}

fn standardised(column: Vec<f32>) -> Vec<f32> {
    let centre = mean(column.iter().copied());
    let deviation = mean(column.iter().map(|value| (value - centre).powi(2))).sqrt().max(DEVIATION_MIN);
    column.into_iter().map(|value| known(((value - centre) / deviation).clamp(-SIZE_MAX, SIZE_MAX))).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use features::ModelOperators;
    use messages::{OperatorCost, OperatorKind};

    use super::*;

    /// A row of a model, `cpu` unless the device's name begins with `gpu`.
    pub(crate) fn row(model: &str, device: &str, batch_size: u32) -> MeasuredRow {
        MeasuredRow {
            model: model.to_owned(),
            device: device.to_owned(),
            platform: Some(if device.starts_with("gpu") { "cuda" } else { "cpu" }.to_owned()),
            batch_size: f64::from(batch_size),
            ..MeasuredRow::default()
        }
    }

    /// Models `0.0` to `1.0` in tenths: the share of convolutions in their arithmetic, the rest is linear.
    pub(crate) fn operators() -> OperatorTable {
        let model = |tenths: u32| {
            let operator = |kind, share: u32| OperatorCost {
                kind,
                macs: 100_000_000 * u64::from(share),
                activation_elements: 1_000 * u64::from(share),
                weight_elements: 1_000 * u64::from(share),
                kernel_size: 3,
                count: 1,
            };
            let operators = vec![operator(OperatorKind::Conv, tenths), operator(OperatorKind::Linear, 10 - tenths)];
            let entry = ModelOperators {
                image_size: None,
                sequence_length: None,
                activation_peak_elements: None,
                operators: operators.into_iter().filter(|operator| operator.macs > 0).collect(),
            };
            (format!("0.{tenths}"), vec![entry])
        };
        (0..=10).map(model).collect()
    }

    pub(crate) fn landscape(rows: &[MeasuredRow]) -> Landscape {
        Landscape::describe(rows, &DeviceTable::new(), &operators()).expect("described")
    }

    #[test]
    fn the_same_operators_make_alike() {
        let landscape = landscape(&[row("0.2", "x", 4), row("0.3", "x", 4), row("0.9", "x", 4), row("0.2", "y", 4)]);
        assert_eq!((landscape.len(), landscape.distance(0, 0)), (4, 0.0));
        assert!(landscape.distance(0, 1) < landscape.distance(0, 2));
        assert!(landscape.correlation(0, 1) > landscape.correlation(0, 2));
        assert!(landscape.correlation(0, 0) > landscape.correlation(0, 3), "devices differ");
        for (a, b) in [(0, 1), (0, 2), (1, 3)] {
            assert!((landscape.correlation(a, b) - landscape.correlation(b, a)).abs() < 1e-12, "{a} and {b}");
        }
    }

    #[test]
    fn what_is_unknown_is_nowhere_special() {
        let landscape = landscape(&[row("unheard of", "x", 1), row("0.5", "x", 1)]);
        for (a, b) in [(0, 0), (0, 1), (1, 1)] {
            assert!(landscape.correlation(a, b).is_finite() && landscape.distance(a, b).is_finite());
        }
    }
}
