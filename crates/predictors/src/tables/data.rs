//! A measurement table made ready for learning, or questions made ready for asking: features, physics and targets.

use features::{DeviceTable, Feature, FeatureFrame, MeasuredRow, OperatorTable, Role, features, is_time_share};
use messages::Metric;
use ndarray::{Array2, ArrayView1, Axis};

use super::names::{Names, Numbers, configurations};
use crate::PredictorError;

/// Rows of measurement tables with their features; rows are named by their index in here.
#[derive(Debug)]
pub struct TableData {
    metric: Metric,
    rows: Vec<MeasuredRow>,
    built: FeatureFrame,
    features: Array2<f32>,
    names: Vec<Feature>,
    time_shares: Vec<usize>,
    /// Columns that are no device's own.
    without_device: Vec<usize>,
    /// ln(measured / base); NaN where the metric was not measured.
    targets: Vec<f64>,
    /// Whether these rows were asked about, so that none is a row that was trained on.
    are_questions: bool,
    /// Number of each row's model, family, device and class.
    pub(crate) models: Numbers,
    pub(crate) families: Numbers,
    pub(crate) devices: Numbers,
    pub(crate) classes: Numbers,
    /// Number of each row's configuration; rows that share one are repeats.
    pub(crate) configurations: Numbers,
    /// Whether each row's class was known, or the one most like it stands in.
    knows_class: Vec<bool>,
}

impl TableData {
    /// Computes features, physics and targets of rows for one metric.
    ///
    /// Throughput is learned as latency, which it follows from.
    ///
    /// # Errors
    ///
    /// [`PredictorError::Features`] if the features cannot be computed, [`PredictorError::NeverMeasured`] if no row
    /// has the metric.
    pub fn new(
        rows: Vec<MeasuredRow>,
        devices: &DeviceTable,
        operators: &OperatorTable,
        metric: Metric,
    ) -> Result<Self, PredictorError> {
        let names = Names::of(&rows);
        Self::described(rows, devices, operators, &names, false)?.about(metric)
    }

    /// Computes features and physics of rows that are asked about; names have the numbers that they had in training.
    pub(crate) fn questions(
        rows: Vec<MeasuredRow>,
        devices: &DeviceTable,
        operators: &OperatorTable,
        names: &Names,
    ) -> Result<Self, PredictorError> {
        Self::described(rows, devices, operators, names, true)
    }

    pub(crate) fn described(
        rows: Vec<MeasuredRow>,
        devices: &DeviceTable,
        operators: &OperatorTable,
        known: &Names,
        are_questions: bool,
    ) -> Result<Self, PredictorError> {
        let built = FeatureFrame::build(&rows, devices, operators)?;
        let names = features();
        let features = Array2::from_shape_vec((built.rows(), names.len()), built.to_matrix())
            .expect("the frame's matrix has its rows and columns");
        let columns = |kept: &dyn Fn(&Feature) -> bool| -> Vec<usize> {
            (0..names.len()).filter(|column| kept(&names[*column])).collect()
        };
        Ok(Self {
            metric: Metric::LatencyMs,
            models: known.models(&rows),
            families: known.families(&rows),
            devices: known.devices(&rows),
            classes: known.classes(&rows),
            configurations: configurations(&rows),
            knows_class: rows.iter().map(|row| known.knows_class(row)).collect(),
            time_shares: columns(&|feature| is_time_share(&feature.name)),
            without_device: columns(&|feature| feature.role != Role::Device),
            targets: vec![f64::NAN; rows.len()],
            are_questions,
            rows,
            built,
            features,
            names,
        })
    }

    /// The same rows for another metric.
    ///
    /// # Errors
    ///
    /// [`PredictorError::NeverMeasured`] if no row has it.
    pub fn about(mut self, metric: Metric) -> Result<Self, PredictorError> {
        self.metric = metric;
        let learned = learned(metric);
        let measured =
            |(row, base): (&MeasuredRow, &f64)| row.measured(learned).map_or(f64::NAN, |value| (value / base).ln());
        self.targets = self.rows.iter().zip(self.built.base(learned)).map(measured).collect();
        if self.targets.iter().all(|target| target.is_nan()) {
            return Err(PredictorError::NeverMeasured { metric });
        }
        Ok(self)
    }

    /// The metric that is predicted.
    pub const fn metric(&self) -> Metric {
        self.metric
    }

    /// The rows.
    pub fn rows(&self) -> &[MeasuredRow] {
        &self.rows
    }

    /// The rows that have the metric.
    pub fn measured(&self) -> Vec<usize> {
        (0..self.rows.len()).filter(|row| !self.targets[*row].is_nan()).collect()
    }

    pub(crate) fn target(&self, row: usize) -> f64 {
        self.targets[row]
    }

    pub(crate) fn targets_of(&self, rows: &[usize]) -> Vec<f64> {
        rows.iter().map(|row| self.targets[*row]).collect()
    }

    pub(crate) fn row(&self, row: usize) -> &MeasuredRow {
        &self.rows[row]
    }

    /// Whether the row's class is one of those trained on.
    pub(crate) fn knows_class(&self, row: usize) -> bool {
        self.knows_class[row]
    }

    /// Numbers configurations from `first` on.
    pub(crate) fn number_configurations_from(&mut self, first: usize) {
        self.configurations.of_row.iter_mut().for_each(|configuration| *configuration += first);
        self.configurations.count += first;
    }

    /// The row's configuration among those trained on, whose value must not be asked about itself.
    pub(crate) fn own_configuration(&self, row: usize) -> Option<usize> {
        (!self.are_questions).then_some(self.configurations.of_row[row])
    }

    /// Physics of a metric, in its unit; latency's for throughput.
    pub(crate) fn base(&self, metric: Metric, row: usize) -> f64 {
        self.built.base(metric)[row]
    }

    /// What a row takes of memory at least, in MB.
    pub(crate) fn memory_least_mb(&self, row: usize) -> f64 {
        self.built.memory_least_mb()[row]
    }

    /// The metric's value where its learned log ratio is `log`; for throughput that of the latency so learned.
    pub(crate) fn value(&self, row: usize, log: f64) -> f64 {
        self.value_of(self.metric, row, log)
    }

    /// The same for any metric.
    pub(crate) fn value_of(&self, metric: Metric, row: usize, log: f64) -> f64 {
        let learned = self.base(metric, row) * log.exp();
        if metric == Metric::ThroughputItemsPerSecond { self.rows[row].batch_size * 1e3 / learned } else { learned }
    }

    /// Features of some rows, without those whose role is refused.
    pub(crate) fn features(&self, rows: &[usize], refused: Option<Role>) -> Array2<f32> {
        let features = self.features.select(Axis(0), rows);
        match refused {
            None => features,
            Some(Role::Device) => features.select(Axis(1), &self.without_device),
            Some(role) => {
                let kept: Vec<usize> =
                    (0..self.names.len()).filter(|column| self.names[*column].role != role).collect();
                features.select(Axis(1), &kept)
            }
        }
    }

    /// The roofline latency's shares by kind of operator, shape `[rows, kinds]`.
    pub(crate) fn time_shares(&self, rows: &[usize]) -> Array2<f32> {
        Array2::from_shape_fn((rows.len(), self.time_shares.len()), |(row, share)| {
            self.features[[rows[row], self.time_shares[share]]]
        })
    }

    /// One feature of one row, by the feature's place in the schema.
    pub(crate) fn value_at(&self, row: usize, place: usize) -> f32 {
        self.features[[row, place]]
    }

    /// One feature of every row.
    pub(crate) fn column(&self, name: &str) -> ArrayView1<'_, f32> {
        let index = self.names.iter().position(|feature| feature.name == name).expect("a feature of the schema");
        self.features.column(index)
    }
}

/// The metric whose boosters answer for a metric.
pub(crate) fn learned(metric: Metric) -> Metric {
    if metric == Metric::ThroughputItemsPerSecond { Metric::LatencyMs } else { metric }
}
