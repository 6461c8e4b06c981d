//! A measurement table made ready for learning: features, physics and targets of one metric.

use std::{collections::HashMap, hash::Hash};

use features::{
    DeviceTable, MeasuredRow, OperatorTable, Role, TableFeature, TableFeatures, is_time_share, table_features,
};
use messages::Metric;
use ndarray::{Array2, ArrayView1, Axis};

use crate::PredictorError;

/// Rows of measurement tables with their features; rows are named by their index in here.
#[derive(Debug)]
pub struct TableData {
    metric: Metric,
    rows: Vec<MeasuredRow>,
    features: Array2<f32>,
    names: Vec<TableFeature>,
    /// What the targets are ratios to, in the metric's unit.
    bases: Vec<f64>,
    /// ln(measured / base); NaN where the metric was not measured.
    targets: Vec<f64>,
    /// Number of each row's model, family, device and class.
    pub(crate) models: Numbers,
    pub(crate) families: Numbers,
    pub(crate) devices: Numbers,
    pub(crate) classes: Numbers,
}

fn matrix(built: &TableFeatures, columns: usize) -> Array2<f32> {
    Array2::from_shape_vec((built.rows(), columns), built.to_matrix())
        .expect("the frame's matrix has its rows and columns")
}

/// Numbers for names, in the order of their first row.
#[derive(Debug)]
pub(crate) struct Numbers {
    pub(crate) of_row: Vec<usize>,
    pub(crate) count: usize,
}

impl Numbers {
    fn of<N: Eq + Hash>(names: impl Iterator<Item = N>) -> Self {
        let mut known = HashMap::new();
        let of_row = names
            .map(|name| {
                let next = known.len();
                *known.entry(name).or_insert(next)
            })
            .collect();
        Self { of_row, count: known.len() }
    }
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
        let built = TableFeatures::build(&rows, devices, operators)?;
        let names = table_features();
        let features = matrix(&built, names.len());
        let learned = if metric == Metric::ThroughputItemsPerSecond { Metric::LatencyMs } else { metric };
        let bases = built.base(learned).to_vec();
        let targets: Vec<f64> = rows
            .iter()
            .zip(&bases)
            .map(|(row, base)| row.measured(learned).map_or(f64::NAN, |value| (value / base).ln()))
            .collect();
        if targets.iter().all(|target| target.is_nan()) {
            return Err(PredictorError::NeverMeasured { metric });
        }
        Ok(Self {
            metric,
            models: Numbers::of(rows.iter().map(|row| &row.model)),
            families: Numbers::of(rows.iter().map(|row| row.family.as_ref().unwrap_or(&row.model))),
            devices: Numbers::of(rows.iter().map(|row| &row.device)),
            classes: Numbers::of(rows.iter().map(MeasuredRow::class)),
            features,
            names,
            bases,
            targets,
            rows,
        })
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

    /// The metric's value where its learned log ratio is `log`; for throughput that of the latency so learned.
    pub(crate) fn value(&self, row: usize, log: f64) -> f64 {
        let learned = self.bases[row] * log.exp();
        if self.metric == Metric::ThroughputItemsPerSecond {
            self.rows[row].batch_size * 1e3 / learned
        } else {
            learned
        }
    }

    /// Features of some rows, without those whose role is refused.
    pub(crate) fn features(&self, rows: &[usize], refused: Option<Role>) -> Array2<f32> {
        let kept: Vec<usize> =
            (0..self.names.len()).filter(|column| Some(self.names[*column].role) != refused).collect();
        self.features.select(Axis(0), rows).select(Axis(1), &kept)
    }

    /// The roofline latency's shares by kind of operator, shape `[rows, kinds]`.
    pub(crate) fn time_shares(&self, rows: &[usize]) -> Array2<f32> {
        let columns: Vec<usize> =
            (0..self.names.len()).filter(|column| is_time_share(&self.names[*column].name)).collect();
        self.features.select(Axis(0), rows).select(Axis(1), &columns)
    }

    /// One feature of every row.
    pub(crate) fn column(&self, name: &str) -> ArrayView1<'_, f32> {
        let index = self.names.iter().position(|feature| feature.name == name).expect("a feature of the schema");
        self.features.column(index)
    }
}
