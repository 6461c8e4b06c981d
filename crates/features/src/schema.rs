//! The features: name, meaning, and the Polars expression from raw columns to it.
//!
//! Logs bring scales that span decades close together, shares and ratios make subjects of different size comparable.
//! A feature whose raw column is unknown is a missing value, which the trees know how to route.

use std::{fmt::Write as _, sync::LazyLock};

use polars::prelude::{Expr, col, lit};
use sha2::{Digest, Sha256};

/// Counts up when a feature keeps its name and changes its meaning.
pub const SCHEMA_VERSION: u32 = 1;

/// One column of the feature frame.
#[derive(Debug, Clone, Copy)]
pub struct Feature {
    /// Name of the column.
    pub name: &'static str,
    /// What it says, with the unit under the logarithm where there is one.
    pub meaning: &'static str,
    /// How it comes from the raw columns.
    expression: fn() -> Expr,
}

impl Feature {
    pub(crate) fn expression(&self) -> Expr {
        (self.expression)()
    }
}

const fn feature(name: &'static str, meaning: &'static str, expression: fn() -> Expr) -> Feature {
    Feature { name, meaning, expression }
}

/// Natural logarithm of something above 0.
fn ln(value: Expr) -> Expr {
    value.log(lit(std::f64::consts::E))
}

/// Natural logarithm of one more than a count, which may be 0.
fn ln1p(name: &str) -> Expr {
    col(name).log1p()
}

/// The part of a total, 0 where the total is 0.
fn share(part: &str, total: &str) -> Expr {
    col(part) / (col(total) + lit(f64::MIN_POSITIVE))
}

/// Bytes that the whole graph moves.
fn bytes() -> Expr {
    col("activation_elements") * col("bytes_per_activation") + weight_bytes()
}

fn weight_bytes() -> Expr {
    col("weight_elements") * col("bytes_per_weight")
}

const FEATURES: &[Feature] = &[
    feature("log_macs", "multiply-accumulates per batch", || ln1p("macs")),
    feature("log_activation_elements", "activation elements read and written per batch", || {
        ln1p("activation_elements")
    }),
    feature("log_weight_elements", "weight elements read per batch", || ln1p("weight_elements")),
    feature("log_parameters", "trainable parameters", || ln1p("parameters")),
    feature("log_operators", "operators in the graph, repeats counted", || ln1p("operators")),
    feature("log_distinct_operators", "distinct operators", || ln1p("distinct_operators")),
    feature("log_macs_per_operator", "mean multiply-accumulates of one operator", || {
        (col("macs") / col("operators")).log1p()
    }),
    feature("log_largest_activation_elements", "activation elements of the largest operator", || {
        ln1p("largest_activation_elements")
    }),
    feature("log_intensity", "operations per byte moved", || (lit(2.0) * col("macs") / bytes()).log1p()),
    feature("weight_byte_share", "share of weights in the bytes moved, 0 to 1", || weight_bytes() / bytes()),
    feature("mac_share_conv", "share of dense convolutions in the MACs, 0 to 1", || share("macs_conv", "macs")),
    feature("mac_share_conv1", "share of 1×1 convolutions in the MACs, 0 to 1", || share("macs_conv1", "macs")),
    feature("mac_share_gconv", "share of grouped convolutions in the MACs, 0 to 1", || share("macs_gconv", "macs")),
    feature("mac_share_dw", "share of depthwise convolutions in the MACs, 0 to 1", || share("macs_dw", "macs")),
    feature("mac_share_linear", "share of matrix products with weights in the MACs, 0 to 1", || {
        share("macs_linear", "macs")
    }),
    feature("mac_share_bmm", "share of products of activations in the MACs, 0 to 1", || share("macs_bmm", "macs")),
    feature("mac_share_sdpa", "share of fused attention in the MACs, 0 to 1", || share("macs_sdpa", "macs")),
    feature("element_share_conv", "share of dense convolutions in the activation elements, 0 to 1", || {
        share("elements_conv", "activation_elements")
    }),
    feature("element_share_conv1", "share of 1×1 convolutions in the activation elements, 0 to 1", || {
        share("elements_conv1", "activation_elements")
    }),
    feature("element_share_gconv", "share of grouped convolutions in the activation elements, 0 to 1", || {
        share("elements_gconv", "activation_elements")
    }),
    feature("element_share_dw", "share of depthwise convolutions in the activation elements, 0 to 1", || {
        share("elements_dw", "activation_elements")
    }),
    feature("element_share_linear", "share of products with weights in the activation elements, 0 to 1", || {
        share("elements_linear", "activation_elements")
    }),
    feature("element_share_bmm", "share of products of activations in the activation elements, 0 to 1", || {
        share("elements_bmm", "activation_elements")
    }),
    feature("element_share_norm", "share of normalisations in the activation elements, 0 to 1", || {
        share("elements_norm", "activation_elements")
    }),
    feature("element_share_act", "share of activation functions in the activation elements, 0 to 1", || {
        share("elements_act", "activation_elements")
    }),
    feature("element_share_softmax", "share of softmax in the activation elements, 0 to 1", || {
        share("elements_softmax", "activation_elements")
    }),
    feature("element_share_copy", "share of data movement in the activation elements, 0 to 1", || {
        share("elements_copy", "activation_elements")
    }),
    feature("element_share_reduce", "share of reductions in the activation elements, 0 to 1", || {
        share("elements_reduce", "activation_elements")
    }),
    feature("element_share_elem", "share of element-wise arithmetic in the activation elements, 0 to 1", || {
        share("elements_elem", "activation_elements")
    }),
    feature("operator_share_dw", "share of depthwise convolutions in the operators, 0 to 1", || {
        share("operators_dw", "operators")
    }),
    feature("operator_share_copy", "share of data movement in the operators, 0 to 1", || {
        share("operators_copy", "operators")
    }),
    feature("log_roofline_ms", "roofline latency, ms per batch", || ln(col("roofline_ms"))),
    feature("log_roofline_us_per_operator", "mean roofline latency of one operator, µs", || {
        ln(lit(1e3) * col("roofline_ms") / col("operators"))
    }),
    feature("compute_bound_share", "share of the roofline latency that arithmetic bounds, 0 to 1", || {
        share("compute_bound_ms", "roofline_ms")
    }),
    feature("log_roofline_mb", "roofline memory, MB", || ln(col("roofline_mb"))),
    feature("log_batch_size", "items per batch", || ln(col("batch_size"))),
    feature("log_threads", "threads of the session", || ln(col("threads"))),
    feature("threads_per_core", "threads of the session per core", || col("threads") / col("cores")),
    feature("threads_per_hardware_thread", "threads of the session per hardware thread", || {
        col("threads") / col("hardware_threads")
    }),
    feature("log_sequence_length", "tokens per item", || ln(col("sequence_length"))),
    feature("log_image_size", "pixels per image edge", || ln(col("image_size"))),
    feature("bytes_per_weight", "bytes of one weight", || col("bytes_per_weight")),
    feature("log_usable_gflops", "compute peak within reach of the threads, GFLOP/s", || ln(col("usable_gflops"))),
    feature("log_device_gflops", "compute peak of the device, GFLOP/s", || ln(col("device_gflops"))),
    feature("log_bandwidth_gb_per_s", "bandwidth to memory, GB/s", || ln(col("bandwidth_gb_per_s"))),
    feature("log_balance", "operations within reach per byte of bandwidth", || {
        ln(col("usable_gflops") / col("bandwidth_gb_per_s"))
    }),
    feature("log_weight_bytes_per_l2", "bytes of all weights per byte of second-level cache", || {
        (weight_bytes() / (lit(1e3) * col("cache_l2_kb"))).log1p()
    }),
    feature("log_weight_bytes_per_l3", "bytes of all weights per byte of last-level cache", || {
        (weight_bytes() / (lit(1e3) * col("cache_l3_kb"))).log1p()
    }),
    feature("log_largest_bytes_per_l3", "largest operator's activations per byte of last-level cache", || {
        (col("largest_activation_elements") * col("bytes_per_activation") / (lit(1e3) * col("cache_l3_kb"))).log1p()
    }),
    feature("log_memory_mb", "memory of the device, MB", || ln(col("memory_mb"))),
    feature("log_cores", "cores of the device", || ln(col("cores"))),
    feature("log_clock_mhz", "largest clock, MHz", || ln(col("clock_mhz"))),
];

/// The columns of the feature frame, in order.
pub const fn features() -> &'static [Feature] {
    FEATURES
}

/// The names of [`features`], in order.
pub fn feature_names() -> &'static [&'static str] {
    static NAMES: LazyLock<Vec<&'static str>> = LazyLock::new(|| FEATURES.iter().map(|feature| feature.name).collect());
    &NAMES
}

/// Names the schema: 16 hexadecimal digits that change with [`SCHEMA_VERSION`] and with any name or the order.
pub fn schema_id() -> String {
    id_of(SCHEMA_VERSION, feature_names().iter().copied())
}

/// Names a version of named columns in their order.
pub(crate) fn id_of<'a>(version: u32, names: impl Iterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    hash.update(version.to_le_bytes());
    for name in names {
        hash.update(name.as_bytes());
        hash.update([0]);
    }
    hash.finalize().iter().take(8).fold(String::new(), |mut id, byte| {
        write!(id, "{byte:02x}").expect("writing to a String cannot fail");
        id
    })
}
