//! The training table: accepted measurements as Parquet, keyed by job id.

use std::{
    collections::HashSet,
    fs::{self, File},
    path::{Path, PathBuf},
};

use messages::{AcceptedMeasurement, JobId};
use polars::prelude::{DataFrame, KeyValueMetadata, ParquetReader, ParquetWriter, SerReader};

use crate::{
    FeatureError,
    table_columns::{from_frame, to_frame},
};

/// Accepted measurements in the order of their arrival, each job once.
#[derive(Debug, Clone, Default)]
pub struct TrainingTable {
    measurements: Vec<AcceptedMeasurement>,
    job_ids: HashSet<JobId>,
}

impl TrainingTable {
    /// A table without rows.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Reads a table that [`Self::write`] wrote.
    ///
    /// # Errors
    ///
    /// [`FeatureError::File`] if the file cannot be opened (its source says whether it is missing),
    /// [`FeatureError::Parquet`] if it is not Parquet or lacks a column, [`FeatureError::Cell`] names the first cell
    /// that does not hold what its column says.
    pub fn read(path: &Path) -> Result<Self, FeatureError> {
        let file = File::open(path).map_err(|source| FeatureError::File {
            action: "open training table",
            path: path.to_owned(),
            source,
        })?;
        let frame = ParquetReader::new(file).finish().map_err(|source| parquet("read", path, source))?;
        let mut table = Self::empty();
        table.append(&from_frame(path, &frame)?);
        Ok(table)
    }

    /// Writes the table, whole or not at all: into a temporary file beside `path`, synced, then renamed.
    ///
    /// # Errors
    ///
    /// [`FeatureError::File`] or [`FeatureError::Parquet`]; an older table at `path` is still there then.
    pub fn write(&self, path: &Path) -> Result<(), FeatureError> {
        let mut frame = to_frame(&self.measurements).map_err(|source| parquet("write", path, source))?;
        write_parquet(&mut frame, path)
    }

    /// Appends measurements whose job is not in the table yet; returns how many.
    pub fn append(&mut self, measurements: &[AcceptedMeasurement]) -> usize {
        let before = self.measurements.len();
        for measurement in measurements {
            if self.job_ids.insert(measurement.job_id) {
                self.measurements.push(measurement.clone());
            }
        }
        self.measurements.len() - before
    }

    /// Number of rows.
    pub const fn len(&self) -> usize {
        self.measurements.len()
    }

    /// Whether there is no row.
    pub const fn is_empty(&self) -> bool {
        self.measurements.is_empty()
    }

    /// The rows.
    pub fn measurements(&self) -> &[AcceptedMeasurement] {
        &self.measurements
    }
}

/// Writes a frame as Parquet into a temporary file in the same directory, syncs it and renames it to `path`.
pub(crate) fn write_parquet(frame: &mut DataFrame, path: &Path) -> Result<(), FeatureError> {
    write_parquet_with(frame, path, Vec::new())
}

/// As [`write_parquet`], with keys and values in the file's metadata.
pub(crate) fn write_parquet_with(
    frame: &mut DataFrame,
    path: &Path,
    metadata: Vec<(String, String)>,
) -> Result<(), FeatureError> {
    let mut temporary_name = path.file_name().unwrap_or_default().to_owned();
    temporary_name.push(format!(".tmp-{}", std::process::id()));
    let temporary = path.with_file_name(temporary_name);
    let written = write_synced(frame, &temporary, metadata).and_then(|()| {
        fs::rename(&temporary, path).map_err(|source| file("rename a temporary file to", path, source))?;
        sync_directory_of(path)
    });
    if written.is_err() && temporary.exists() {
        // The first error is the one worth reporting; what is left is named like a temporary file.
        drop(fs::remove_file(&temporary));
    }
    written
}

fn write_synced(frame: &mut DataFrame, path: &Path, metadata: Vec<(String, String)>) -> Result<(), FeatureError> {
    let target = File::create(path).map_err(|source| file("create", path, source))?;
    let metadata = (!metadata.is_empty()).then(|| KeyValueMetadata::from_static(metadata));
    ParquetWriter::new(&target)
        .with_key_value_metadata(metadata)
        .finish(frame)
        .map_err(|source| parquet("write", path, source))?;
    target.sync_all().map_err(|source| file("sync", path, source))
}

/// A rename is durable once its directory is.
fn sync_directory_of(path: &Path) -> Result<(), FeatureError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    File::open(&directory)
        .and_then(|opened| opened.sync_all())
        .map_err(|source| file("sync directory", &directory, source))
}

fn file(action: &'static str, path: &Path, source: std::io::Error) -> FeatureError {
    FeatureError::File { action, path: path.to_owned(), source }
}

fn parquet(action: &'static str, path: &Path, source: polars::error::PolarsError) -> FeatureError {
    FeatureError::Parquet { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use messages::{OperatorKind, Precision, RunId, Timestamp};

    use super::*;
    use crate::subject::tests::subject;

    fn measurement(latency_ms: f64) -> AcceptedMeasurement {
        let subject = subject();
        AcceptedMeasurement {
            job_id: JobId::new(),
            run_id: RunId::new(),
            measured_at: Timestamp::from_micros(1_700_000_000_123_456),
            configuration: subject.configuration,
            device: subject.device,
            costs: subject.costs,
            backend_version: "1.31.1".to_owned(),
            iterations: 17,
            latency_ms,
            throughput_items_per_second: 2_000.0 / latency_ms,
            memory_peak_mb: Some(123.5),
            power_w: None,
            load_ms: 45.6,
        }
    }

    #[test]
    fn rows_survive_the_file_bit_for_bit() {
        let mut rows: Vec<_> = [1.1, 2.0 / 3.0, 1e-3].into_iter().map(measurement).collect();
        rows[1].configuration.sequence_length = Some(128);
        rows[1].configuration.image_size = None;
        rows[1].configuration.browser = Some("firefox".to_owned());
        rows[1].configuration.precision = Precision::Int4;
        rows[1].memory_peak_mb = None;
        rows[1].power_w = Some(55.5);
        rows[2].costs.operators[0].kind = OperatorKind::Sdpa;
        rows[2].costs.operators[0].macs = u64::MAX;
        rows[2].device.simd = Some("avx2 \"quoted\"".to_owned());
        rows[2].device.peak_source = Some(messages::PeakSource::Published);
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("training.parquet");
        let mut table = TrainingTable::empty();
        assert_eq!(table.append(&rows), 3);
        table.write(&path).expect("written");
        assert_eq!(TrainingTable::read(&path).expect("read").measurements(), rows);
        let names: Vec<_> =
            fs::read_dir(directory.path()).expect("listed").map(|e| e.expect("entry").file_name()).collect();
        assert_eq!(names, ["training.parquet"], "no temporary file is left");
    }

    #[test]
    fn a_table_from_before_browsers_is_read() {
        let rows = [measurement(1.5)];
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("training.parquet");
        let mut earlier = to_frame(&rows).and_then(|frame| frame.drop("browser")).expect("a frame");
        write_parquet(&mut earlier, &path).expect("written");
        assert_eq!(TrainingTable::read(&path).expect("read").measurements(), rows);
    }

    #[test]
    fn an_empty_table_survives_the_file() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("training.parquet");
        TrainingTable::empty().write(&path).expect("written");
        assert!(TrainingTable::read(&path).expect("read").is_empty());
    }

    #[test]
    fn a_job_counts_once() {
        let (first, second) = (measurement(1.0), measurement(2.0));
        let mut table = TrainingTable::empty();
        assert_eq!(table.append(&[first.clone(), second.clone(), first.clone()]), 2);
        assert_eq!(table.append(&[second, first]), 0);
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn a_file_that_is_no_table_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("training.parquet");
        let missing = TrainingTable::read(&path).expect_err("missing");
        assert!(matches!(missing, FeatureError::File { .. }), "{missing:?}");
        fs::write(&path, b"PAR1 but not really").expect("written");
        let broken = TrainingTable::read(&path).expect_err("broken");
        assert!(broken.to_string().contains("training.parquet"), "{broken}");
        let tables = crate::OwnTables::asked(&[subject()]);
        let other = crate::FeatureFrame::build(&tables.rows, &tables.devices, &tables.operators).expect("frame");
        other.write_parquet(&path).expect("written");
        let wrong = TrainingTable::read(&path).expect_err("another table");
        assert!(matches!(wrong, FeatureError::Parquet { .. }), "{wrong:?}");
    }

    #[test]
    fn a_cell_that_lies_is_named() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("training.parquet");
        let mut frame = to_frame(&[measurement(1.0), measurement(2.0)]).expect("frame");
        let column = polars::prelude::Column::new("platform".into(), ["cpu", "abacus"]);
        frame.with_column(column).expect("replaced");
        write_parquet(&mut frame, &path).expect("written");
        let error = TrainingTable::read(&path).expect_err("no such platform").to_string();
        assert!(error.starts_with("row 1 of training table") && error.contains("wrong `platform`"), "{error}");
    }
}
