//! The feature frame of measurement tables: a Polars lazy plan from raw columns to named features.

use std::{fmt::Write as _, path::Path};

use messages::{Metric, OperatorKind};
use polars::{
    error::PolarsResult,
    prelude::{Column, DataFrame, DataType, Expr, Float32Chunked, IntoLazy, col, lit},
};
use sha2::{Digest, Sha256};

use crate::{
    DeviceTable, FeatureError, MeasuredRow, OperatorTable,
    described::{Described, describe},
    graph_sums::{KINDS, Regime},
    in_parts::in_parts,
    raw_columns::raw_frame,
    table::write_parquet_with,
};

/// Whose property a feature is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The model's graph, or how the graph meets the device's peaks.
    Graph,
    /// The configuration's.
    Configuration,
    /// The device's alone; useless, or worse, where few devices were measured and the one asked about is new.
    Device,
}

/// A column of the feature frame of measurement tables.
#[derive(Debug, Clone)]
pub struct Feature {
    /// Name of the column.
    pub name: String,
    /// Unit of the column, or of what is under its logarithm.
    pub unit: &'static str,
    /// What it says.
    pub meaning: String,
    /// Whose property it is.
    pub role: Role,
    expression: Expr,
}

/// Features of rows, and the physics that predictors take ratios to.
#[derive(Debug, Clone)]
pub struct FeatureFrame {
    frame: DataFrame,
    physics: Physics,
}

/// What is known of rows without learning.
#[derive(Debug, Clone)]
struct Physics {
    latency_ms: Vec<f64>,
    memory_mb: Vec<f64>,
    power_w: Vec<f64>,
    memory_least_mb: Vec<f64>,
}

impl Physics {
    fn of(described: &[Described<'_>]) -> Self {
        Self {
            latency_ms: described.iter().map(Described::latency_base_ms).collect(),
            memory_mb: described.iter().map(Described::memory_base_mb).collect(),
            power_w: described.iter().map(Described::power_base_w).collect(),
            memory_least_mb: described.iter().map(Described::memory_least_mb).collect(),
        }
    }

    fn extend(&mut self, other: Self) {
        self.latency_ms.extend(other.latency_ms);
        self.memory_mb.extend(other.memory_mb);
        self.power_w.extend(other.power_w);
        self.memory_least_mb.extend(other.memory_least_mb);
    }
}

/// Raw columns and physics of rows, made on all cores where rows are many.
fn described(
    rows: &[MeasuredRow],
    devices: &DeviceTable,
    operators: &OperatorTable,
) -> PolarsResult<(DataFrame, Physics)> {
    let parts = in_parts(rows, |part| {
        let described = describe(part, devices, operators);
        Ok((raw_frame(&described)?, Physics::of(&described)))
    });
    let joined = parts.into_iter().reduce(|whole, part| {
        let ((mut raw, mut physics), (raw_part, physics_part)) = (whole?, part?);
        // The part becomes a chunk of the frame; nothing is copied.
        raw.vstack_mut_owned(raw_part)?;
        physics.extend(physics_part);
        Ok((raw, physics))
    });
    joined.expect("there is at least one part")
}

impl FeatureFrame {
    /// Describes rows, in their order; shape `[rows, features().len()]`, a missing value is null.
    ///
    /// # Errors
    ///
    /// [`FeatureError::Frame`] if the plan fails.
    pub fn build(rows: &[MeasuredRow], devices: &DeviceTable, operators: &OperatorTable) -> Result<Self, FeatureError> {
        let failed = |source| FeatureError::Frame { source };
        let (raw, physics) = described(rows, devices, operators).map_err(failed)?;
        let plan: Vec<Expr> = features()
            .into_iter()
            .map(|feature| feature.expression.cast(DataType::Float32).alias(feature.name))
            .collect();
        let frame = raw.lazy().select(plan).collect().map_err(failed)?;
        Ok(Self { frame, physics })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.frame.height()
    }

    /// The frame itself.
    pub const fn frame(&self) -> &DataFrame {
        &self.frame
    }

    /// What a metric's learned ratio is a ratio to, one per row in the metric's unit; latency's for throughput.
    pub fn base(&self, metric: Metric) -> &[f64] {
        match metric {
            Metric::LatencyMs | Metric::ThroughputItemsPerSecond | Metric::LoadMs => &self.physics.latency_ms,
            Metric::MemoryPeakMb => &self.physics.memory_mb,
            Metric::PowerW => &self.physics.power_w,
        }
    }

    /// What each row takes of memory at least, in MB, by its graph alone.
    pub fn memory_least_mb(&self) -> &[f64] {
        &self.physics.memory_least_mb
    }

    /// All values, row after row; a missing value is NaN.
    pub fn to_matrix(&self) -> Vec<f32> {
        let (rows, columns) = (self.frame.height(), self.frame.width());
        let mut matrix = vec![f32::NAN; rows * columns];
        for (index, column) in self.frame.columns().iter().enumerate() {
            for (row, value) in single_precision(column).iter().enumerate() {
                if let Some(value) = value.filter(|value| value.is_finite()) {
                    matrix[row * columns + index] = value;
                }
            }
        }
        matrix
    }

    /// Writes the frame as Parquet, whole or not at all; the file's metadata say unit and meaning of each column.
    ///
    /// # Errors
    ///
    /// [`FeatureError::File`] or [`FeatureError::Parquet`].
    pub fn write_parquet(&self, path: &Path) -> Result<(), FeatureError> {
        let meanings =
            features().into_iter().map(|feature| (feature.name, format!("[{}] {}", feature.unit, feature.meaning)));
        write_parquet_with(&mut self.frame.clone(), path, meanings.collect())
    }
}

fn single_precision(column: &Column) -> &Float32Chunked {
    column.f32().expect("the plan casts every feature to f32")
}

/// The columns of the feature frame of measurement tables, in order.
pub fn features() -> Vec<Feature> {
    let mut features = Vec::with_capacity(7 * KINDS);
    graph_features(&mut features);
    for kind in OperatorKind::ALL {
        kind_features(*kind, &mut features);
    }
    configuration_features(&mut features);
    device_features(&mut features);
    features
}

/// Counts up when a feature, or the physics beside them, keeps its name and changes its meaning.
const SCHEMA_VERSION: u32 = 2;

/// Names the schema of [`features`]: 16 hexadecimal digits that change with any name, the order, and the meaning.
pub fn schema_id() -> String {
    let mut hash = Sha256::new();
    hash.update(SCHEMA_VERSION.to_le_bytes());
    for feature in features() {
        hash.update(feature.name.as_bytes());
        hash.update([0]);
    }
    hash.finalize().iter().take(8).fold(String::new(), |mut id, byte| {
        write!(id, "{byte:02x}").expect("writing to a String cannot fail");
        id
    })
}

/// Whether a feature is the share of one kind and regime in the roofline, of which all together make up the whole.
pub fn is_time_share(name: &str) -> bool {
    name.starts_with("time_share_")
}

fn feature(name: impl Into<String>, unit: &'static str, meaning: &str, role: Role, expression: Expr) -> Feature {
    Feature { name: name.into(), unit, meaning: meaning.to_owned(), role, expression }
}

fn ln(value: Expr) -> Expr {
    value.log(lit(std::f64::consts::E))
}

/// The part of a total, 0 where the total is 0.
fn share(part: &str, total: &str) -> Expr {
    col(part) / (col(total) + lit(f64::MIN_POSITIVE))
}

fn moved_bytes() -> Expr {
    col("elements") * col("activation_bytes") + col("weights") * col("weight_bytes")
}

fn graph_features(features: &mut Vec<Feature>) {
    let mut add =
        |name: &str, unit, meaning, expression| features.push(feature(name, unit, meaning, Role::Graph, expression));
    add("log_macs", "MACs", "multiply-accumulates per batch", col("macs").log1p());
    add("log_macs_per_item", "MACs", "multiply-accumulates per item", (col("macs") / col("batch_size")).log1p());
    add("log_elements", "elements", "activation elements read and written per batch", col("elements").log1p());
    let per_item = (col("elements") / col("batch_size")).log1p();
    add("log_elements_per_item", "elements", "activation elements read and written per item", per_item);
    add("log_weights", "elements", "weight elements read per batch", col("weights").log1p());
    add("log_operators", "operators", "operators, repeats counted: kernel launches", col("operators").log1p());
    add("log_distinct", "operators", "distinct operators", col("distinct").log1p());
    add(
        "log_intensity",
        "operations/byte",
        "operations per byte moved",
        (lit(2.0) * col("macs") / moved_bytes()).log1p(),
    );
    let weight_share = col("weights") * col("weight_bytes") / moved_bytes();
    add("weight_byte_share", "1", "share of weights in the bytes moved", weight_share);
    add("log_largest_elements", "elements", "elements of the largest operator", col("largest_elements").log1p());
    add(
        "log_roofline_ms",
        "ms",
        "roofline latency of a batch, operators run one by one",
        ln(lit(1e3) * col("roofline_seconds")),
    );
    let per_operator = ln(lit(1e6) * col("roofline_seconds") / col("operators"));
    add("log_roofline_us_per_operator", "µs", "mean roofline latency of one operator", per_operator);
    add(
        "log_fused_share",
        "1",
        "roofline latency with fused operators over that without",
        ln(share("fused_seconds", "roofline_seconds")),
    );
    add(
        "compute_bound_share",
        "1",
        "share of the roofline latency that arithmetic bounds",
        share("compute_bound_seconds", "roofline_seconds"),
    );
    add(
        "log_intensity_of_macs",
        "operations/byte",
        "operations per byte of the operator of a mean MAC",
        col("log_intensity_of_macs"),
    );
    add("log_weight_reuse", "1", "uses of a weight by the operator of a mean MAC", col("log_weight_reuse"));
    add(
        "log_elements_of_elements",
        "elements",
        "elements per item of the operator of a mean element",
        col("log_elements_of_elements"),
    );
    add("large_kernel_share", "1", "share of kernels of at least 5×5 in the MACs", share("large_kernel_macs", "macs"));
    add("patch_kernel_share", "1", "share of 2×2 kernels in the MACs", share("patch_kernel_macs", "macs"));
    let depthwise = share("depthwise_kernel_elements", "elements");
    add(
        "depthwise_kernel_edge",
        "elements",
        "kernel edge of depthwise convolutions, times their share of elements",
        depthwise,
    );
}

fn kind_features(kind: OperatorKind, features: &mut Vec<Feature>) {
    let mut add = |name: String, meaning: String, expression| {
        features.push(feature(name, "1", &meaning, Role::Graph, expression));
    };
    let computes = !matches!(
        kind,
        OperatorKind::Norm
            | OperatorKind::Act
            | OperatorKind::Softmax
            | OperatorKind::Copy
            | OperatorKind::Reduce
            | OperatorKind::Elem
    );
    if computes {
        add(
            format!("mac_share_{kind}"),
            format!("share of {kind} in the MACs"),
            share(&format!("macs_{kind}"), "macs"),
        );
    }
    let elements = share(&format!("elements_{kind}"), "elements");
    add(format!("element_share_{kind}"), format!("share of {kind} in the activation elements"), elements);
    let operators = share(&format!("operators_{kind}"), "operators");
    add(format!("operator_share_{kind}"), format!("share of {kind} in the operators"), operators);
    for regime in Regime::ALL.into_iter().filter(|regime| computes || *regime == Regime::Memory) {
        let regime = regime.as_str();
        add(
            format!("time_share_{kind}_{regime}"),
            format!("share of {kind}, {regime}-bound, in the roofline latency"),
            share(&format!("seconds_{kind}_{regime}"), "roofline_seconds"),
        );
    }
}

fn configuration_features(features: &mut Vec<Feature>) {
    let mut add = |name: &str, unit, meaning, expression| {
        features.push(feature(name, unit, meaning, Role::Configuration, expression));
    };
    add("log_batch_size", "items", "items per batch", ln(col("batch_size")));
    add("log_image_size", "pixels", "pixels per image edge", ln(col("image_size")));
    add("log_sequence_length", "tokens", "tokens per item", ln(col("sequence_length")));
    add("log_threads", "threads", "threads of the session", ln(col("threads")));
    add("log_params", "10^6", "parameters, as the table has them", ln(col("params_m")));
    add("log_gmacs", "10^9 MACs", "multiply-accumulates per item, as the table has them", ln(col("gmacs") + lit(1e-4)));
    add(
        "log_activations",
        "10^6 elements",
        "activations per item, as the table has them",
        ln(col("activations_m") + lit(1e-3)),
    );
    add("backend_version", "1", "version of the runtime, minor ones as hundredths", col("version"));
    add("compiled", "0 or 1", "whether a compiler prepared the model", col("compiled"));
    add("browser", "0 or 1", "whether the runtime runs in a browser", col("browser"));
    add("gecko", "0 or 1", "whether that browser has Firefox's engine, not Chromium's", col("gecko"));
    add("webnn", "0 or 1", "whether that browser hands the graph to its neural-network interface", col("webnn"));
    add("channels_last", "0 or 1", "whether channels are the last axis", col("channels_last"));
    add("activation_bytes", "bytes", "bytes of one activation element", col("activation_bytes"));
    add("weight_bytes", "bytes", "bytes of one weight", col("weight_bytes"));
    add("accelerator", "0 or 1", "whether the device is something else than a processor", col("accelerator"));
}

fn device_features(features: &mut Vec<Feature>) {
    let mut add =
        |name: &str, unit, meaning, expression| features.push(feature(name, unit, meaning, Role::Device, expression));
    add("log_flops", "operations/s", "peak arithmetic at the precision, within reach of the threads", ln(col("flops")));
    add("log_bytes_per_s", "bytes/s", "bandwidth to memory", ln(col("bytes_per_s")));
    add(
        "log_balance",
        "operations/byte",
        "operations within reach per byte of bandwidth",
        ln(col("flops") / col("bytes_per_s")),
    );
    add("log_cores", "cores", "cores or streaming multiprocessors", ln(col("cores")));
    add("log_fp32_lanes", "lanes", "scalar fp32 units", ln(col("fp32_lanes")));
    add("log_clock", "GHz", "clock under load", ln(col("clock_ghz")));
    add("log_cache", "MB", "last-level cache", ln(col("cache_mb")));
    add("log_memory", "GB", "memory", ln(col("memory_gb")));
    add("log_tdp", "W", "power limit", ln(col("tdp_w")));
    add("year", "year", "year of release", col("year"));
}

#[cfg(test)]
mod tests;
