//! The raw columns of subjects: what graph, device and configuration say, before any engineering.

use std::fmt::Display;

use messages::OperatorKind;
use polars::prelude::{Column, DataFrame, NamedFrom, Series};

use crate::{
    FeatureError, Subject,
    roofline::{bytes_per_activation, peaks, roofline_with},
};

/// Columns gathered row by row; an optional property that is unknown is a null.
#[derive(Debug)]
struct Columns {
    rows: usize,
    columns: Vec<(String, Vec<Option<f64>>)>,
}

impl Columns {
    fn new(rows: usize) -> Self {
        Self { rows, columns: Vec::new() }
    }

    /// Adds a cell to the column that comes `position`-th in every row; the first row names the columns.
    fn push(&mut self, position: &mut usize, name: &dyn Display, value: Option<f64>) {
        if *position == self.columns.len() {
            self.columns.push((name.to_string(), Vec::with_capacity(self.rows)));
        }
        self.columns[*position].1.push(value);
        *position += 1;
    }

    fn into_frame(self) -> Result<DataFrame, FeatureError> {
        let columns =
            self.columns.into_iter().map(|(name, cells)| Column::from(Series::new(name.into(), cells))).collect();
        DataFrame::new(self.rows, columns).map_err(|source| FeatureError::Frame { source })
    }
}

/// Builds the frame of raw columns, one row per subject in their order.
///
/// # Errors
///
/// As [`crate::roofline`].
pub(crate) fn raw_frame(subjects: &[Subject]) -> Result<DataFrame, FeatureError> {
    let mut columns = Columns::new(subjects.len());
    for subject in subjects {
        let mut position = 0;
        let mut known = |name: &dyn Display, value: f64| columns.push(&mut position, name, Some(value));
        push_graph(subject, &mut known);
        let peaks = peaks(subject)?;
        let bound = roofline_with(subject, peaks)?;
        known(&"roofline_ms", bound.latency_ms);
        known(&"compute_bound_ms", bound.compute_bound_ms);
        known(&"roofline_mb", bound.memory_mb);
        known(&"usable_gflops", peaks.usable_gflops);
        known(&"device_gflops", peaks.device_gflops);
        known(&"bandwidth_gb_per_s", peaks.bandwidth_gb_per_s);

        let configuration = &subject.configuration;
        known(&"batch_size", f64::from(configuration.batch_size));
        known(&"threads", f64::from(configuration.threads));
        known(&"bytes_per_weight", configuration.precision.bytes_per_weight());
        known(&"bytes_per_activation", bytes_per_activation(configuration.precision));

        let mut optional = |name: &dyn Display, value: Option<f64>| {
            let usable = value.filter(|value| value.is_finite() && *value > 0.0);
            columns.push(&mut position, name, usable);
        };
        let device = &subject.device;
        optional(&"sequence_length", configuration.sequence_length.map(f64::from));
        optional(&"image_size", configuration.image_size.map(f64::from));
        optional(&"cache_l2_kb", device.cache_l2_kb);
        optional(&"cache_l3_kb", device.cache_l3_kb);
        optional(&"memory_mb", device.memory_mb);
        optional(&"clock_mhz", device.clock_mhz);
        optional(&"cores", device.compute_units.or(device.hardware_threads).map(f64::from));
        optional(&"hardware_threads", device.hardware_threads.map(f64::from));
    }
    columns.into_frame()
}

/// Sums of the graph, in all and by kind of operator.
fn push_graph(subject: &Subject, known: &mut impl FnMut(&dyn Display, f64)) {
    let costs = &subject.costs;
    let (mut macs, mut elements, mut counts) = ([0.0; KINDS], [0.0; KINDS], [0.0; KINDS]);
    let (mut weights, mut largest) = (0.0, 0.0_f64);
    for operator in &costs.operators {
        let count = f64::from(operator.count);
        let kind = operator.kind as usize;
        macs[kind] += operator.macs as f64 * count;
        elements[kind] += operator.activation_elements as f64 * count;
        counts[kind] += count;
        weights += operator.weight_elements as f64 * count;
        largest = largest.max(operator.activation_elements as f64);
    }
    known(&"macs", macs.iter().sum());
    known(&"activation_elements", elements.iter().sum());
    known(&"weight_elements", weights);
    known(&"largest_activation_elements", largest);
    known(&"parameters", costs.parameters as f64);
    known(&"operators", counts.iter().sum());
    known(&"distinct_operators", costs.operators.len() as f64);
    for kind in OperatorKind::ALL {
        let index = *kind as usize;
        known(&format_args!("macs_{kind}"), macs[index]);
        known(&format_args!("elements_{kind}"), elements[index]);
        known(&format_args!("operators_{kind}"), counts[index]);
    }
}

/// Kinds of operators; a kind's discriminant is its index.
const KINDS: usize = OperatorKind::ALL.len();
