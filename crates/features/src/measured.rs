//! Measurement tables: what was measured, in the neutral columns of the command line's contract.

use std::path::Path;

use messages::Metric;

use crate::{
    FeatureError,
    tables::{BadRow, Table},
};

/// The columns that a measurement table may have.
pub const MEASUREMENT_COLUMNS: &[&str] = &[
    "model",
    "family",
    "device",
    "platform",
    "backend",
    "backend_version",
    "compiler",
    "precision",
    "layout",
    "batch_size",
    "image_size",
    "sequence_length",
    "threads",
    "params_m",
    "gmacs",
    "activations_m",
    "latency_ms",
    "throughput_items_per_second",
    "memory_peak_mb",
    "power_w",
];

/// The metrics that a measurement table may hold.
pub const TABLE_METRICS: [Metric; 4] =
    [Metric::LatencyMs, Metric::ThroughputItemsPerSecond, Metric::MemoryPeakMb, Metric::PowerW];

/// One row of a measurement table: a configuration and what was measured of it.
///
/// Unlike a [`messages::Configuration`] its words are open: a table may come from any runtime.
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
    /// How the runtime prepared the model, e.g. `eager`.
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
}

/// A measurement table: its usable rows, in their order, and what is wrong with the others.
#[derive(Debug, Clone, Default)]
pub struct MeasuredTable {
    /// The usable rows. Rows of one configuration that disagree are all kept: they are repeats.
    pub rows: Vec<MeasuredRow>,
    /// The others.
    pub bad: Vec<BadRow>,
}

impl MeasuredTable {
    /// Reads a CSV, gzipped CSV or Parquet file.
    ///
    /// # Errors
    ///
    /// [`FeatureError::File`] or [`FeatureError::Table`] if it cannot be read, [`FeatureError::UnknownColumn`] names
    /// a column that is not in [`MEASUREMENT_COLUMNS`], [`FeatureError::MissingColumn`] one that is needed. A bad row
    /// is no error: it is in [`Self::bad`].
    pub fn read(path: &Path) -> Result<Self, FeatureError> {
        let table = Table::read(path, MEASUREMENT_COLUMNS)?;
        let missing = |column: &str| FeatureError::MissingColumn { path: path.to_owned(), column: column.to_owned() };
        if let Some(column) = ["model", "device", "batch_size"].into_iter().find(|column| !table.has(column)) {
            return Err(missing(column));
        }
        if !TABLE_METRICS.iter().any(|metric| table.has(metric.as_str())) {
            return Err(missing("latency_ms"));
        }
        let mut rows = vec![(MeasuredRow::default(), None); table.rows()];
        for (name, field) in TEXTS {
            for (row, text) in rows.iter_mut().zip(table.texts(path, name)?) {
                *field(&mut row.0) = text;
            }
        }
        for (name, needed) in [("model", NAME_OF_MODEL), ("device", NAME_OF_DEVICE)] {
            for ((row, bad), text) in rows.iter_mut().zip(table.texts(path, name)?) {
                match text {
                    Some(text) => *needed(row) = text,
                    None => *bad = Some(format!("`{name}` is empty")),
                }
            }
        }
        for (name, field) in NUMBERS {
            for ((row, bad), number) in rows.iter_mut().zip(table.numbers(path, name)?) {
                match number {
                    Ok(number) if number.is_none_or(|number| number > 0.0) => *field(row) = number,
                    Ok(number) => *bad = Some(format!("`{name}` is {}, not above 0", number.unwrap_or_default())),
                    Err(text) => *bad = Some(format!("`{name}` is `{text}`, not a finite number")),
                }
            }
        }
        for ((row, bad), number) in rows.iter_mut().zip(table.numbers(path, "batch_size")?) {
            match number {
                Ok(Some(number)) if number >= 1.0 => row.batch_size = number,
                Ok(_) | Err(_) => *bad = Some("`batch_size` is not a number of at least 1".to_owned()),
            }
            if bad.is_none() && TABLE_METRICS.iter().all(|metric| row.measured(*metric).is_none()) {
                *bad = Some("it has no metric".to_owned());
            }
        }
        let mut read = Self::default();
        for (index, (row, bad)) in rows.into_iter().enumerate() {
            match bad {
                None => read.rows.push(row),
                Some(reason) => read.bad.push(BadRow { line: Table::line(index), reason }),
            }
        }
        Ok(read)
    }
}

type TextField = fn(&mut MeasuredRow) -> &mut Option<String>;
type NumberField = fn(&mut MeasuredRow) -> &mut Option<f64>;

const NAME_OF_MODEL: fn(&mut MeasuredRow) -> &mut String = |row| &mut row.model;
const NAME_OF_DEVICE: fn(&mut MeasuredRow) -> &mut String = |row| &mut row.device;

const TEXTS: &[(&str, TextField)] = &[
    ("family", |row| &mut row.family),
    ("platform", |row| &mut row.platform),
    ("backend", |row| &mut row.backend),
    ("backend_version", |row| &mut row.backend_version),
    ("compiler", |row| &mut row.compiler),
    ("precision", |row| &mut row.precision),
    ("layout", |row| &mut row.layout),
];

const NUMBERS: &[(&str, NumberField)] = &[
    ("image_size", |row| &mut row.image_size),
    ("sequence_length", |row| &mut row.sequence_length),
    ("threads", |row| &mut row.threads),
    ("params_m", |row| &mut row.params_m),
    ("gmacs", |row| &mut row.gmacs),
    ("activations_m", |row| &mut row.activations_m),
    ("latency_ms", |row| &mut row.latency_ms),
    ("throughput_items_per_second", |row| &mut row.throughput_items_per_second),
    ("memory_peak_mb", |row| &mut row.memory_peak_mb),
    ("power_w", |row| &mut row.power_w),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<MeasuredTable, FeatureError> {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("table.csv");
        std::fs::write(&path, text).expect("written");
        MeasuredTable::read(&path)
    }

    fn check_error(text: &str, expected: &str) {
        let error = read(text).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_table_needs_three_columns_and_a_metric() {
        let table = read("model,device,batch_size,latency_ms\nresnet50,Tesla T4,8,12.5\n").expect("read");
        let [row] = &table.rows[..] else { panic!("{table:?}") };
        assert_eq!((row.model.as_str(), row.device.as_str(), row.batch_size), ("resnet50", "Tesla T4", 8.0));
        assert_eq!(row.measured(Metric::LatencyMs), Some(12.5));
        assert_eq!(row.measured(Metric::ThroughputItemsPerSecond), Some(640.0), "it follows from latency");
        assert_eq!(row.measured(Metric::PowerW), None, "unknown, never a guess");
        check_error("model,batch_size,latency_ms\na,1,1\n", "`device`");
        check_error("model,device,batch_size\na,b,1\n", "`latency_ms`");
        check_error("model,device,batch_size,latency_ms,colour\na,b,1,1,red\n", "`colour`");
    }

    #[test]
    fn a_bad_row_is_named_by_its_line_and_the_others_are_kept() {
        let table = read(
            "model,device,batch_size,latency_ms,power_w\n\
             a,b,1,1.5,\n\
             a,b,1,-1,\n\
             a,b,1,NaN,\n\
             a,b,0,1,\n\
             ,b,1,1,\n\
             a,b,1,,\n\
             a,b,1,quick,\n\
             a,b,1,2.5,40\n",
        )
        .expect("read");
        let bad: Vec<_> = table.bad.iter().map(|bad| (bad.line, bad.reason.as_str())).collect();
        assert_eq!(
            bad,
            [
                (3, "`latency_ms` is -1, not above 0"),
                (4, "`latency_ms` is `NaN`, not a finite number"),
                (5, "`batch_size` is not a number of at least 1"),
                (6, "`model` is empty"),
                (7, "it has no metric"),
                (8, "`latency_ms` is `quick`, not a finite number"),
            ]
        );
        let kept: Vec<_> = table.rows.iter().map(|row| row.latency_ms).collect();
        assert_eq!(kept, [Some(1.5), Some(2.5)], "rows that disagree are repeats");
    }
}
