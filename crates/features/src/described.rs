//! What a row of a measurement table is about, in numbers: the graph's sums against the device's peaks.

use std::sync::Arc;

use polars::prelude::PlHashMap;

use crate::{
    DeviceTable, MeasuredRow, ModelOperators, OperatorTable, PublishedDevice,
    graph_sums::{GraphSums, Shape},
};

/// Peak of a device of which nothing is published, in operations per second: what is learned absorbs the error.
const NOMINAL_FLOPS: f64 = 1e13;
/// Bandwidth of a device of which nothing is published, in bytes per second.
const NOMINAL_BYTES_PER_S: f64 = 1e11;

/// What a row's device can do at its precision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Peaks {
    /// Operations per second, of a processor's cores those that the row's threads keep busy.
    pub(crate) flops: f64,
    pub(crate) bytes_per_s: f64,
    /// Bytes of one activation element.
    pub(crate) activation_bytes: f64,
    /// Bytes of one weight.
    pub(crate) weight_bytes: f64,
}

impl Peaks {
    pub(crate) fn of(row: &MeasuredRow, device: Option<&PublishedDevice>) -> Self {
        let (activation_bytes, weight_bytes) = match row.precision.as_deref() {
            Some("amp" | "fp16" | "bf16") => (2.0, 2.0),
            Some("int8") => (4.0, 1.0),
            Some("int4") => (4.0, 0.5),
            _ => (4.0, 4.0),
        };
        let halves = activation_bytes < 4.0;
        let tflops = device.and_then(|device| if halves { device.fp16_tflops } else { None }.or(device.fp32_tflops));
        let bandwidth = device.and_then(|device| device.memory_bandwidth_gb_per_s);
        Self {
            flops: tflops.map_or(NOMINAL_FLOPS, |tflops| tflops * 1e12) * share_of_cores(row, device),
            bytes_per_s: bandwidth.map_or(NOMINAL_BYTES_PER_S, |gigabytes| gigabytes * 1e9),
            activation_bytes,
            weight_bytes,
        }
    }
}

/// The share of a processor's cores that a row's threads can keep busy; 1 where threads are not what computes, or where
/// they are unknown. Bandwidth is not scaled: how much of it one thread draws is left to what is learned.
fn share_of_cores(row: &MeasuredRow, device: Option<&PublishedDevice>) -> f64 {
    let platform = row.platform.as_deref().or(device.and_then(|device| device.platform.as_deref()));
    let cores = device.and_then(|device| device.cores).filter(|cores| *cores >= 1.0);
    match (platform, row.threads, cores) {
        (Some("cpu" | "wasm"), Some(threads), Some(cores)) => threads.clamp(1.0, cores) / cores,
        _ => 1.0,
    }
}

/// A row with what is known about its model and its device.
#[derive(Debug, Clone)]
pub(crate) struct Described<'a> {
    pub(crate) row: &'a MeasuredRow,
    pub(crate) device: Option<&'a PublishedDevice>,
    pub(crate) peaks: Peaks,
    /// `None` for a model without operators; rows of one graph, batch and peaks share them.
    pub(crate) sums: Option<Arc<GraphSums>>,
}

impl Described<'_> {
    /// Roofline latency of one batch, in milliseconds: per operator, else from the totals that the table gives, else
    /// 1 ms per item.
    pub(crate) fn latency_base_ms(&self) -> f64 {
        let (row, peaks) = (self.row, self.peaks);
        let seconds = match (&self.sums, row.gmacs) {
            (Some(sums), _) => sums.roofline_seconds(),
            (None, Some(gmacs)) => {
                // An activation is written once and read once or twice: by the next operator and by a normalisation.
                let elements = 3.0 * row.activations_m.unwrap_or_default() * 1e6 * row.batch_size;
                let weights = row.params_m.unwrap_or_default() * 1e6;
                let bytes = elements * peaks.activation_bytes + weights * peaks.weight_bytes;
                2.0 * gmacs * 1e9 * row.batch_size / peaks.flops + bytes / peaks.bytes_per_s
            }
            (None, None) => 0.0,
        };
        if seconds > 0.0 { seconds * 1e3 } else { row.batch_size }
    }

    /// Weights and the most activations held at once, in MB (10^6 bytes); where the tensors' lifetimes are unknown, the
    /// largest operator's activations stand in. 1 MB where nothing is known.
    pub(crate) fn memory_base_mb(&self) -> f64 {
        let elements = self.sums.as_ref().map_or(0.0, |sums| sums.peak_elements.unwrap_or(sums.largest_elements));
        let bytes = self.weights() * self.peaks.weight_bytes + elements * self.peaks.activation_bytes;
        if bytes > 0.0 { bytes / 1e6 } else { 1.0 }
    }

    /// What a batch takes at least, in MB (10^6 bytes): weights, and what one operator reads and writes at once.
    pub(crate) fn memory_least_mb(&self) -> f64 {
        let elements = self.sums.as_ref().map_or(0.0, |sums| sums.least_elements);
        (self.weights() * self.peaks.weight_bytes + elements * self.peaks.activation_bytes) / 1e6
    }

    pub(crate) fn weights(&self) -> f64 {
        self.row
            .params_m
            .map(|millions| millions * 1e6)
            .or(self.sums.as_ref().map(|sums| sums.weights))
            .unwrap_or_default()
    }

    /// The power limit in watts, 100 W where it is unknown.
    pub(crate) fn power_base_w(&self) -> f64 {
        self.device.and_then(|device| device.tdp_w).unwrap_or(100.0)
    }
}

/// Describes rows in their order; graphs of one size are looked at once, equal ones on equal peaks are summed once.
pub(crate) fn describe<'a>(
    rows: &'a [MeasuredRow],
    devices: &'a DeviceTable,
    operators: &OperatorTable,
) -> Vec<Described<'a>> {
    let mut shapes: Vec<Shape> = Vec::new();
    let mut of_size: PlHashMap<(&str, [u64; 2]), Option<usize>> = PlHashMap::default();
    let mut summed: PlHashMap<(usize, [u64; 5]), Arc<GraphSums>> = PlHashMap::default();
    rows.iter()
        .map(|row| {
            let device = devices.get(&row.device);
            let peaks = Peaks::of(row, device);
            let sizes = [row.image_size, row.sequence_length].map(|size| size.unwrap_or_default().to_bits());
            let shape = *of_size.entry((&row.model, sizes)).or_insert_with(|| {
                let entry = operators.get(&row.model).and_then(|entries| nearest_size(entries, row))?;
                shapes.push(Shape::of(entry, row));
                Some(shapes.len() - 1)
            });
            let sums = shape.map(|shape| {
                let numbers =
                    [row.batch_size, peaks.flops, peaks.bytes_per_s, peaks.activation_bytes, peaks.weight_bytes];
                let sum = || Arc::new(shapes[shape].sums(row.batch_size, peaks));
                summed.entry((shape, numbers.map(f64::to_bits))).or_insert_with(sum).clone()
            });
            Described { row, device, peaks, sums }
        })
        .collect()
}

/// The entry whose image size and sequence length are nearest to those of the row.
fn nearest_size<'a>(entries: &'a [ModelOperators], row: &MeasuredRow) -> Option<&'a ModelOperators> {
    let apart = |asked: Option<f64>, counted: Option<f64>| asked.zip(counted).map_or(0.0, |(a, c)| (a / c).ln().abs());
    let distance = |entry: &&ModelOperators| {
        apart(row.image_size, entry.image_size) + apart(row.sequence_length, entry.sequence_length)
    };
    entries.iter().filter(|entry| !entry.operators.is_empty()).min_by(|a, b| distance(a).total_cmp(&distance(b)))
}

#[cfg(test)]
pub(crate) mod tests {
    use messages::{OperatorCost, OperatorKind};

    use super::*;

    /// One model on one device with round numbers: a convolution of 20 ms and an element-wise operator of 4 ms.
    pub(crate) fn tables() -> (Vec<MeasuredRow>, DeviceTable, OperatorTable) {
        let row = MeasuredRow {
            model: "a".to_owned(),
            device: "Test GPU".to_owned(),
            precision: Some("fp32".to_owned()),
            batch_size: 2.0,
            image_size: Some(224.0),
            latency_ms: Some(48.0),
            ..MeasuredRow::default()
        };
        let device = PublishedDevice {
            fp32_tflops: Some(0.1),
            fp16_tflops: Some(0.2),
            memory_bandwidth_gb_per_s: Some(20.0),
            cores: Some(4.0),
            ..PublishedDevice::default()
        };
        let operator = |kind, macs, activation_elements, count| OperatorCost {
            kind,
            macs,
            activation_elements,
            weight_elements: 0,
            kernel_size: 3,
            count,
        };
        let operators = vec![
            operator(OperatorKind::Conv, 500_000_000, 5_000_000, 1),
            operator(OperatorKind::Elem, 0, 5_000_000, 2),
        ];
        (
            vec![row],
            DeviceTable::from([("Test GPU".to_owned(), device)]),
            OperatorTable::from([(
                "a".to_owned(),
                vec![ModelOperators {
                    image_size: Some(224.0),
                    sequence_length: None,
                    activation_peak_elements: None,
                    operators,
                }],
            )]),
        )
    }

    fn check(change: impl FnOnce(&mut MeasuredRow), expected_ms: f64) {
        let (mut rows, devices, operators) = tables();
        change(&mut rows[0]);
        let found = describe(&rows, &devices, &operators)[0].latency_base_ms();
        assert!((found / expected_ms - 1.0).abs() < 1e-9, "{found}");
    }

    #[test]
    fn the_base_is_the_sum_of_the_operators_rooflines() {
        // Batch 2: 2 × 1e9 / 0.1 TFLOP/s = 20 ms; 10e6 × 4 bytes / 20 GB/s = 2 ms, twice.
        check(|_| (), 24.0);
        check(|row| row.precision = Some("amp".to_owned()), 12.0);
        check(|row| row.image_size = Some(448.0), 96.0);
        check(|row| row.batch_size = 4.0, 48.0);
        check(|row| row.sequence_length = Some(64.0), 24.0);
    }

    #[test]
    fn threads_raise_the_peak_of_a_processor_up_to_its_cores() {
        let on = |platform: &'static str, threads: f64| {
            move |row: &mut MeasuredRow| {
                row.platform = Some(platform.to_owned());
                row.threads = Some(threads);
            }
        };
        // Of four cores one computes: 80 ms of arithmetic instead of 20 ms, and the same 4 ms of bytes.
        check(on("cpu", 1.0), 84.0);
        check(on("cpu", 4.0), 24.0);
        check(on("cpu", 64.0), 24.0);
        check(on("cuda", 1.0), 24.0);
    }

    #[test]
    fn without_operators_the_totals_of_the_table_stand_in() {
        check(
            |row| {
                row.model = "unknown".to_owned();
                row.gmacs = Some(0.5);
            },
            20.0,
        );
        check(|row| row.model = "unknown".to_owned(), 2.0);
    }
}
