//! One row of a measurement table: a configuration in open words, and what was measured of it.

use crate::Metric;

/// The metrics that a measurement table may hold.
pub const TABLE_METRICS: [Metric; 4] =
    [Metric::LatencyMs, Metric::ThroughputItemsPerSecond, Metric::MemoryPeakMb, Metric::PowerW];

/// One row of a measurement table: a configuration and what was measured of it.
///
/// Unlike a [`crate::Configuration`] its words are open: a table may come from any runtime.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MeasuredRow {
    /// The model's name.
    pub model: String,
    /// The family that the model belongs to, e.g. `resnet`.
    pub family: Option<String>,
    /// The device's name.
    pub device: String,
    /// Kind of execution target, e.g. `cuda`.
    pub platform: Option<String>,
    /// The runtime.
    pub backend: Option<String>,
    /// Its version.
    pub backend_version: Option<String>,
    /// What prepared the model for the runtime, e.g. `eager`; of `ort-web` the browser, whose engine compiles WebAssembly
    /// and shaders.
    pub compiler: Option<String>,
    /// Number format; `amp` is mixed.
    pub precision: Option<String>,
    /// Order of tensor axes, e.g. `nchw`.
    pub layout: Option<String>,
    /// Items per batch.
    pub batch_size: f64,
    /// Pixels per image edge.
    pub image_size: Option<f64>,
    /// Tokens per item.
    pub sequence_length: Option<f64>,
    /// Threads of the session.
    pub threads: Option<f64>,
    /// Parameters, in millions.
    pub params_m: Option<f64>,
    /// Multiply-accumulates of one item, in 10^9.
    pub gmacs: Option<f64>,
    /// Elements of one item's activations, in millions.
    pub activations_m: Option<f64>,
    /// Milliseconds per batch.
    pub latency_ms: Option<f64>,
    /// Items per second.
    pub throughput_items_per_second: Option<f64>,
    /// Peak memory, in MB (10^6 bytes).
    pub memory_peak_mb: Option<f64>,
    /// Mean power, in watts.
    pub power_w: Option<f64>,
}

impl MeasuredRow {
    /// The texts beside `model` and `device`, by column.
    pub fn texts(&self) -> [(&'static str, Option<&str>); 7] {
        [
            ("family", self.family.as_deref()),
            ("platform", self.platform.as_deref()),
            ("backend", self.backend.as_deref()),
            ("backend_version", self.backend_version.as_deref()),
            ("compiler", self.compiler.as_deref()),
            ("precision", self.precision.as_deref()),
            ("layout", self.layout.as_deref()),
        ]
    }

    /// The numbers beside `batch_size`, by column; all are above 0.
    pub const fn numbers(&self) -> [(&'static str, Option<f64>); 10] {
        [
            ("image_size", self.image_size),
            ("sequence_length", self.sequence_length),
            ("threads", self.threads),
            ("params_m", self.params_m),
            ("gmacs", self.gmacs),
            ("activations_m", self.activations_m),
            ("latency_ms", self.latency_ms),
            ("throughput_items_per_second", self.throughput_items_per_second),
            ("memory_peak_mb", self.memory_peak_mb),
            ("power_w", self.power_w),
        ]
    }

    /// What was measured of a metric. Of latency and throughput one follows from the other.
    pub fn measured(&self, metric: Metric) -> Option<f64> {
        let turned_over = |value: Option<f64>| value.map(|value| self.batch_size * 1e3 / value);
        match metric {
            Metric::LatencyMs => self.latency_ms.or_else(|| turned_over(self.throughput_items_per_second)),
            Metric::ThroughputItemsPerSecond => {
                self.throughput_items_per_second.or_else(|| turned_over(self.latency_ms))
            }
            Metric::MemoryPeakMb => self.memory_peak_mb,
            Metric::PowerW => self.power_w,
            Metric::LoadMs => None,
        }
    }

    /// What one device did alike: everything of the configuration that has a name, so not the shape of the batch.
    pub fn class(&self) -> [Option<&str>; 6] {
        [
            Some(&self.device),
            self.backend.as_deref(),
            self.backend_version.as_deref(),
            self.compiler.as_deref(),
            self.precision.as_deref(),
            self.layout.as_deref(),
        ]
    }

    /// Why the row is no measurement, naming the column; `None` if it is one.
    pub fn flaw(&self) -> Option<String> {
        if self.model.is_empty() || self.device.is_empty() {
            return Some(format!("`{}` is empty", if self.model.is_empty() { "model" } else { "device" }));
        }
        if !(self.batch_size.is_finite() && self.batch_size >= 1.0) {
            return Some("`batch_size` is not a number of at least 1".to_owned());
        }
        for (name, number) in self.numbers() {
            match number {
                Some(number) if !number.is_finite() => {
                    return Some(format!("`{name}` is `{number}`, not a finite number"));
                }
                Some(number) if number <= 0.0 => return Some(format!("`{name}` is {number}, not above 0")),
                _ => {}
            }
        }
        let is_measured = TABLE_METRICS.iter().any(|metric| self.measured(*metric).is_some());
        (!is_measured).then(|| "it has no metric".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut MeasuredRow), flaw: Option<&str>) {
        let mut row = MeasuredRow {
            model: "resnet50".to_owned(),
            device: "Tesla T4".to_owned(),
            batch_size: 8.0,
            latency_ms: Some(12.5),
            ..MeasuredRow::default()
        };
        change(&mut row);
        assert_eq!(row.flaw().as_deref(), flaw);
    }

    #[test]
    fn a_flaw_names_its_column() {
        check(|_| {}, None);
        check(|row| row.model.clear(), Some("`model` is empty"));
        check(|row| row.device.clear(), Some("`device` is empty"));
        check(|row| row.batch_size = 0.0, Some("`batch_size` is not a number of at least 1"));
        check(|row| row.power_w = Some(f64::NAN), Some("`power_w` is `NaN`, not a finite number"));
        check(|row| row.latency_ms = Some(-3.0), Some("`latency_ms` is -3, not above 0"));
        check(|row| row.latency_ms = None, Some("it has no metric"));
    }
}
