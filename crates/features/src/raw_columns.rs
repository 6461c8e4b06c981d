//! The raw columns that features are computed from: totals of the graph, configuration, device.
//!
//! Rows are described one after the other and columns lie one after the other, so blocks of rows that stay in the cache
//! are spread over all columns.

use messages::OperatorKind;
use polars::{
    error::PolarsResult,
    prelude::{ChunkFullNull, ChunkedCollectInferIterExt, Column, DataFrame, Float64Chunked, IntoSeries, PlSmallStr},
};

use crate::{
    described::Described,
    graph_sums::{GraphSums, Regime},
};

/// Rows whose descriptions, of less than a kilobyte each, stay in the nearest cache.
const BLOCK_ROWS: usize = 32;

/// Every raw column; a missing value is null.
pub(crate) fn raw_frame(described: &[Described<'_>]) -> PolarsResult<DataFrame> {
    let columns = columns();
    let cells = cells(described, &columns);
    let frame = columns.iter().zip(cells).map(|((name, _), cells)| column(name, cells));
    DataFrame::new(described.len(), frame.collect())
}

/// The values of some rows, column by column; NaN is a missing one.
fn cells(described: &[Described<'_>], columns: &[(String, RawColumn)]) -> Vec<Vec<f64>> {
    let mut cells: Vec<Vec<f64>> = columns.iter().map(|_| Vec::with_capacity(described.len())).collect();
    for block in described.chunks(BLOCK_ROWS) {
        for ((_, raw), cells) in columns.iter().zip(&mut cells) {
            match raw {
                RawColumn::Macs(kind) => cells.extend(block.iter().map(|row| of_graph(row, |sums| sums.macs[*kind]))),
                RawColumn::Elements(kind) => {
                    cells.extend(block.iter().map(|row| of_graph(row, |sums| sums.elements[*kind])));
                }
                RawColumn::Operators(kind) => {
                    cells.extend(block.iter().map(|row| of_graph(row, |sums| sums.operators[*kind])));
                }
                RawColumn::Seconds(kind, regime) => {
                    cells.extend(block.iter().map(|row| of_graph(row, |sums| sums.seconds[*kind][*regime])));
                }
                RawColumn::Graph(value) => cells.extend(block.iter().map(|row| of_graph(row, value))),
                RawColumn::Row(value) => cells.extend(block.iter().map(|row| value(row).unwrap_or(f64::NAN))),
            }
        }
    }
    cells
}

fn of_graph(row: &Described<'_>, value: impl Fn(&GraphSums) -> f64) -> f64 {
    row.sums.as_deref().map_or(f64::NAN, value)
}

fn column(name: &str, cells: Vec<f64>) -> Column {
    let name = PlSmallStr::from(name);
    let chunked = match cells.iter().filter(|value| value.is_finite()).count() {
        all if all == cells.len() => Float64Chunked::from_vec(name, cells),
        0 => Float64Chunked::full_null(name, cells.len()),
        _ => cells.into_iter().map(|value| Some(value).filter(|value| value.is_finite())).collect_ca_trusted(name),
    };
    Column::from(chunked.into_series())
}

/// What a raw column says of a row.
enum RawColumn {
    /// MACs of a kind of operators.
    Macs(usize),
    /// Activation elements of a kind.
    Elements(usize),
    /// Operators of a kind.
    Operators(usize),
    /// Roofline of a kind in a [`Regime`].
    Seconds(usize, usize),
    Graph(GraphColumn),
    Row(RowColumn),
}

/// The raw columns with their names, in order.
fn columns() -> Vec<(String, RawColumn)> {
    let mut columns = Vec::new();
    for kind in OperatorKind::ALL {
        let index = *kind as usize;
        columns.push((format!("macs_{kind}"), RawColumn::Macs(index)));
        columns.push((format!("elements_{kind}"), RawColumn::Elements(index)));
        columns.push((format!("operators_{kind}"), RawColumn::Operators(index)));
        for regime in Regime::ALL {
            columns.push((format!("seconds_{kind}_{}", regime.as_str()), RawColumn::Seconds(index, regime as usize)));
        }
    }
    columns.extend(GRAPH_COLUMNS.iter().map(|(name, value)| ((*name).to_owned(), RawColumn::Graph(*value))));
    columns.extend(ROW_COLUMNS.iter().map(|(name, value)| ((*name).to_owned(), RawColumn::Row(*value))));
    columns
}

type GraphColumn = fn(&GraphSums) -> f64;
type RowColumn = fn(&Described<'_>) -> Option<f64>;

const GRAPH_COLUMNS: &[(&str, GraphColumn)] = &[
    ("macs", |sums| sums.macs.iter().sum()),
    ("elements", |sums| sums.elements.iter().sum()),
    ("operators", |sums| sums.operators.iter().sum()),
    ("roofline_seconds", |sums| sums.roofline_seconds()),
    ("weights", |sums| sums.weights),
    ("distinct", |sums| sums.distinct),
    ("fused_seconds", |sums| sums.fused_seconds),
    ("compute_bound_seconds", |sums| sums.compute_bound_seconds),
    ("largest_elements", |sums| sums.largest_elements),
    ("log_intensity_of_macs", |sums| sums.log_intensity_of_macs),
    ("log_weight_reuse", |sums| sums.log_weight_reuse),
    ("log_elements_of_elements", |sums| sums.log_elements_of_elements),
    ("large_kernel_macs", |sums| sums.large_kernel_macs),
    ("patch_kernel_macs", |sums| sums.patch_kernel_macs),
    ("depthwise_kernel_elements", |sums| sums.depthwise_kernel_elements),
];

const ROW_COLUMNS: &[(&str, RowColumn)] = &[
    ("activation_bytes", |row| Some(row.peaks.activation_bytes)),
    ("weight_bytes", |row| Some(row.peaks.weight_bytes)),
    ("flops", |row| Some(row.peaks.flops)),
    ("bytes_per_s", |row| Some(row.peaks.bytes_per_s)),
    ("batch_size", |row| Some(row.row.batch_size)),
    ("image_size", |row| row.row.image_size),
    ("sequence_length", |row| row.row.sequence_length),
    ("threads", |row| row.row.threads),
    ("params_m", |row| row.row.params_m),
    ("gmacs", |row| row.row.gmacs),
    ("activations_m", |row| row.row.activations_m),
    ("version", |row| row.row.backend_version.as_deref().and_then(version_number)),
    ("compiled", |row| {
        let compiler = row.row.compiler.as_deref().filter(|_| in_browser(row) != Some(true));
        compiler.map(|compiler| flag(compiler != "eager"))
    }),
    ("browser", |row| in_browser(row).map(flag)),
    ("gecko", |row| {
        let browser = row.row.compiler.as_deref().filter(|_| in_browser(row) == Some(true));
        browser.map(|browser| flag(browser.starts_with("firefox")))
    }),
    ("webnn", |row| {
        in_browser(row).filter(|in_one| *in_one).map(|_| flag(row.row.platform.as_deref() == Some("webnn")))
    }),
    ("channels_last", |row| row.row.layout.as_deref().map(|layout| flag(layout == "nhwc"))),
    ("accelerator", |row| {
        let platform = row.row.platform.as_deref().or(row.device.and_then(|device| device.platform.as_deref()));
        platform.map(|platform| flag(!matches!(platform, "cpu" | "wasm")))
    }),
    ("cores", |row| row.device.and_then(|device| device.cores)),
    ("fp32_lanes", |row| row.device.and_then(|device| device.fp32_lanes)),
    ("clock_ghz", |row| row.device.and_then(|device| device.clock_ghz)),
    ("cache_mb", |row| row.device.and_then(|device| device.cache_mb)),
    ("memory_gb", |row| row.device.and_then(|device| device.memory_gb)),
    ("tdp_w", |row| row.device.and_then(|device| device.tdp_w)),
    ("year", |row| row.device.and_then(|device| device.year)),
];

/// Whether a row's runtime runs in a browser; its compiler is then the browser.
fn in_browser(row: &Described<'_>) -> Option<bool> {
    row.row.backend.as_deref().map(|backend| backend == "ort-web")
}

fn flag(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

/// A version as a number that grows with it: 2.10.1 is 2.10, after 2.9.1, which is 2.09.
fn version_number(version: &str) -> Option<f64> {
    let mut parts = version.split('.').map(str::parse::<f64>);
    let major = parts.next()?.ok()?;
    let minor = parts.next().and_then(Result::ok).unwrap_or_default();
    Some(major + minor.min(99.0) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_grow() {
        let versions = ["1.13", "2.2.1", "2.9.1", "2.10"].map(|version| version_number(version).expect("a number"));
        assert!(versions.is_sorted(), "{versions:?}");
        assert_eq!(version_number("nightly"), None);
    }
}
