//! Measurement tables: what was measured, in the neutral columns of the command line's contract.

use std::path::Path;

use messages::{MeasuredRow, TABLE_METRICS};

use crate::{
    FeatureError,
    tables::{BadRow, Table},
    timm,
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
        Self::from_table(path, &Table::open(path)?)
    }

    /// As [`Self::read`], but also reads the result files of timm as they are published.
    ///
    /// # Errors
    ///
    /// As [`Self::read`]; [`FeatureError::Unlabelled`] if a file of timm's has a name that does not say what was
    /// measured, or has the results of training.
    pub fn read_published(path: &Path) -> Result<Self, FeatureError> {
        let table = Table::open(path)?;
        if timm::is_timm(&table) { timm::read(path, &table) } else { Self::from_table(path, &table) }
    }

    fn from_table(path: &Path, table: &Table) -> Result<Self, FeatureError> {
        table.refuse_unknown(path, MEASUREMENT_COLUMNS)?;
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
    use messages::Metric;

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
