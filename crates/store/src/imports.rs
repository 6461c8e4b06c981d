//! Measurements that people bring, and all measurements in the columns of a measurement table.
//!
//! Rows are known by their content: the same row counts once, from whichever file, however often it comes. Rows of one
//! configuration whose metrics differ are repeats and are all kept.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use duckdb::{AccessMode, Connection, Row, params};
use messages::{MeasuredRow, TABLE_METRICS};
use sha2::{Digest, Sha256};

use crate::{
    CoverageCell, Store, StoreError,
    archive::{file_failed, quoted},
    error::{failed, open_failed},
    open::config,
    query::select,
};

/// Columns that describe the model: they say nothing of what was measured.
const DESCRIPTIVE: &[&str] = &["family", "params_m", "gmacs", "activations_m"];

/// The columns of a measurement table, in the order of the command line's contract.
const COLUMNS: &str = "model, family, device, platform, backend, backend_version, compiler, \"precision\", layout, \
                       batch_size, image_size, sequence_length, threads, params_m, gmacs, activations_m, latency_ms, \
                       throughput_items_per_second, memory_peak_mb, power_w";

/// The order of exported rows.
const ORDER: &str = "ORDER BY model, device, platform, \"precision\", backend, backend_version, compiler, layout, \
                     image_size, sequence_length, batch_size, threads, latency_ms, throughput_items_per_second";

/// Rows of one file.
#[derive(Debug, Clone, Copy)]
pub struct ImportedTable<'a> {
    /// Name of the file.
    pub source: &'a str,
    /// Its rows, none of which has a flaw.
    pub rows: &'a [MeasuredRow],
}

/// What became of one file's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImportSummary {
    /// Rows stored.
    pub new: usize,
    /// Rows left out because the same row is there already.
    pub known: usize,
    /// Of the stored ones: those that measure again what another row measured.
    pub repeats: usize,
}

/// The measurements of a database: those that can be used, and what is wrong with the others.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReadTable {
    /// The usable rows.
    pub rows: Vec<MeasuredRow>,
    /// The others: their `result_id`, and why.
    pub bad: Vec<(i64, String)>,
}

impl Store {
    /// Stores the rows of tables, all or none; gives what became of each table's.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if a write fails.
    pub fn import(&self, tables: &[ImportedTable<'_>]) -> Result<Vec<ImportSummary>, StoreError> {
        import(self.writer().connection(), tables).map_err(failed("import measurements"))
    }

    /// Reads every measurement that may be learned from: of the queue, of an adopted database, imported.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails.
    pub fn table_rows(&self) -> Result<ReadTable, StoreError> {
        self.rows_where("true")
    }

    /// Reads the measurements that the queue did not make: of an adopted database, imported.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails.
    pub fn brought_rows(&self) -> Result<ReadTable, StoreError> {
        self.rows_where("result_id IS NULL OR result_id NOT IN (SELECT result_id FROM measurements)")
    }

    fn rows_where(&self, condition: &str) -> Result<ReadTable, StoreError> {
        let sql =
            format!("SELECT coalesce(result_id, 0), {COLUMNS} FROM measurement_table WHERE {condition} {ORDER}, 1");
        let rows = select(&self.reader()?, "read the measurements", &sql, [], |columns| {
            Ok((columns.get::<i64>()?, table_row(columns.row)?))
        })?;
        let mut read = ReadTable::default();
        for (result_id, row) in rows {
            match row.flaw() {
                None => read.rows.push(row),
                Some(flaw) => read.bad.push((result_id, flaw)),
            }
        }
        Ok(read)
    }

    /// Writes every measurement that may be learned from as a measurement table: Parquet, CSV or gzipped CSV by the
    /// name of the file, which appears whole or not at all. Gives the number of rows.
    ///
    /// # Errors
    ///
    /// [`StoreError::File`] if its name ends in none of these or it cannot be renamed, another if it cannot be written.
    pub fn export(&self, path: &Path) -> Result<usize, StoreError> {
        let form = form_of(path)?;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".tmp-{}", std::process::id()));
        let partial = path.with_file_name(name);
        let measured = TABLE_METRICS.map(|metric| format!("{metric} > 0")).join(" OR ");
        let copy = format!(
            "COPY (SELECT {COLUMNS} FROM measurement_table WHERE model IS NOT NULL AND device IS NOT NULL \
             AND batch_size >= 1 AND ({measured}) {ORDER}) TO {} ({form})",
            quoted(&partial)?
        );
        let rows = self.reader()?.execute(&copy, []).map_err(failed(format!("write {}", path.display())))?;
        fs::rename(&partial, path).map_err(file_failed("rename to", path))?;
        Ok(rows)
    }

    /// Counts what was measured by model, device and precision, in this order.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails.
    pub fn coverage(&self) -> Result<Vec<CoverageCell>, StoreError> {
        let sql = "SELECT model, any_value(family), device, any_value(platform), \"precision\", \
                   count(DISTINCT (backend, backend_version, compiler, layout, batch_size, image_size, \
                   sequence_length, threads))::UINTEGER, count(*)::UINTEGER \
                   FROM measurement_table WHERE model IS NOT NULL AND device IS NOT NULL \
                   GROUP BY model, device, \"precision\" ORDER BY model, device, \"precision\"";
        select(&self.reader()?, "count the measurements", sql, [], |columns| {
            Ok(CoverageCell {
                model: columns.get()?,
                family: columns.get()?,
                device: columns.get()?,
                platform: columns.get()?,
                precision: columns.get()?,
                configurations: columns.get()?,
                measurements: columns.get()?,
            })
        })
    }
}

/// Reads the measurements of the database at `path`, ours or another program's, which stays as it is.
///
/// # Errors
///
/// [`StoreError::Locked`] if a process has it open to write, else as [`Store::open`], and [`StoreError::File`] if it
/// cannot be copied.
pub fn read_database(path: &Path) -> Result<ReadTable, StoreError> {
    fs::metadata(path).map_err(file_failed("find", path))?;
    let read_only =
        config().and_then(|config| config.access_mode(AccessMode::ReadOnly)).map_err(failed("configure DuckDB"))?;
    // Keeps writers away until the copy is made; fails if there is one.
    let held = Connection::open_with_flags(path, read_only).map_err(open_failed(path))?;
    let directory = tempfile::tempdir().map_err(file_failed("make a directory for a copy of", path))?;
    let copy = directory.path().join("copy.duckdb");
    fs::copy(path, &copy).map_err(file_failed("copy", path))?;
    let log = write_ahead_log(path);
    if log.try_exists().map_err(file_failed("look for", &log))? {
        fs::copy(&log, write_ahead_log(&copy)).map_err(file_failed("copy", &log))?;
    }
    drop(held);
    // Opening it brings its schema up to date, and so gives every older one the columns that are read.
    Store::open(&copy)?.table_rows()
}

fn write_ahead_log(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".wal");
    name.into()
}

/// What `COPY` needs to be told to write a file of this name.
fn form_of(path: &Path) -> Result<&'static str, StoreError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let ends = |extension| name.ends_with(extension);
    match () {
        () if ends(".parquet") => Ok("FORMAT parquet, COMPRESSION zstd"),
        () if ends(".csv") => Ok("FORMAT csv, HEADER"),
        () if ends(".csv.gz") => Ok("FORMAT csv, HEADER, COMPRESSION gzip"),
        () => Err(file_failed("choose the form of", path)(std::io::Error::new(
            std::io::ErrorKind::InvalidFilename,
            "a measurement table is a .csv, .csv.gz or .parquet file",
        ))),
    }
}

fn import(connection: &Connection, tables: &[ImportedTable<'_>]) -> duckdb::Result<Vec<ImportSummary>> {
    // Dropped before its commit, a transaction rolls back.
    let transaction = connection.unchecked_transaction()?;
    let hashes = |column: &str| -> duckdb::Result<HashSet<String>> {
        let sql = format!("SELECT {column} FROM imported_measurements");
        transaction.prepare(&sql)?.query_map([], |row| row.get(0))?.collect()
    };
    let mut known = Known { configurations: hashes("configuration_sha256")?, rows: hashes("row_sha256")? };
    let summaries =
        tables.iter().map(|table| append(&transaction, table, &mut known)).collect::<duckdb::Result<_>>()?;
    transaction.commit()?;
    Ok(summaries)
}

/// Hashes of what is stored.
struct Known {
    configurations: HashSet<String>,
    rows: HashSet<String>,
}

fn append(connection: &Connection, table: &ImportedTable<'_>, known: &mut Known) -> duckdb::Result<ImportSummary> {
    let mut names = vec!["configuration_sha256", "row_sha256", "source", "model", "device", "batch_size"];
    names.extend(MeasuredRow::default().texts().map(|(name, _)| name));
    names.extend(MeasuredRow::default().numbers().map(|(name, _)| name));
    let mut appender = connection.appender_with_columns("imported_measurements", &names)?;
    let mut summary = ImportSummary::default();
    for row in table.rows {
        let (configuration, identity) = (configuration_hash(row), row_hash(row));
        if !known.rows.insert(identity.clone()) {
            summary.known += 1;
            continue;
        }
        summary.new += 1;
        summary.repeats += usize::from(!known.configurations.insert(configuration.clone()));
        let [family, platform, backend, backend_version, compiler, precision, layout] =
            row.texts().map(|(_, text)| text);
        let [image_size, sequence_length, threads, params_m, gmacs, activations_m, latency, throughput, memory, power] =
            row.numbers().map(|(_, number)| number);
        appender.append_row(params![
            configuration,
            identity,
            table.source,
            row.model,
            row.device,
            row.batch_size,
            family,
            platform,
            backend,
            backend_version,
            compiler,
            precision,
            layout,
            image_size,
            sequence_length,
            threads,
            params_m,
            gmacs,
            activations_m,
            latency,
            throughput,
            memory,
            power,
        ])?;
    }
    appender.flush()?;
    Ok(summary)
}

/// Hash of what was measured: the configuration, without its metrics and without what describes the model.
fn configuration_hash(row: &MeasuredRow) -> String {
    let is_metric = |name: &str| TABLE_METRICS.iter().any(|metric| metric.as_str() == name);
    hash(row, |name| !is_metric(name) && !DESCRIPTIVE.contains(&name))
}

/// Hash of the configuration and its metrics.
fn row_hash(row: &MeasuredRow) -> String {
    hash(row, |name| !DESCRIPTIVE.contains(&name))
}

fn hash(row: &MeasuredRow, is_part: impl Fn(&str) -> bool) -> String {
    let texts = row.texts().into_iter().map(|(name, text)| (name, text.map(str::to_owned)));
    // Rust writes the shortest text that reads back as the same number.
    let numbers = row.numbers().into_iter().map(|(name, number)| (name, number.map(|number| number.to_string())));
    let needed =
        [("model", row.model.clone()), ("device", row.device.clone()), ("batch_size", row.batch_size.to_string())];
    let mut hash = Sha256::new();
    for (name, cell) in needed.map(|(name, cell)| (name, Some(cell))).into_iter().chain(texts).chain(numbers) {
        if is_part(name) {
            // Lengths first, so that no two rows spell the same.
            let cell = cell.unwrap_or_default();
            hash.update((cell.len() as u64).to_le_bytes());
            hash.update(cell);
        }
    }
    messages::ContentHash(hash.finalize().into()).to_string()
}

/// Reads [`COLUMNS`] after a first column.
fn table_row(row: &Row<'_>) -> duckdb::Result<MeasuredRow> {
    let needed = |index: usize| row.get::<_, Option<String>>(index).map(Option::unwrap_or_default);
    Ok(MeasuredRow {
        model: needed(1)?,
        family: row.get(2)?,
        device: needed(3)?,
        platform: row.get(4)?,
        backend: row.get(5)?,
        backend_version: row.get(6)?,
        compiler: row.get(7)?,
        precision: row.get(8)?,
        layout: row.get(9)?,
        batch_size: row.get::<_, Option<f64>>(10)?.unwrap_or_default(),
        image_size: row.get(11)?,
        sequence_length: row.get(12)?,
        threads: row.get(13)?,
        params_m: row.get(14)?,
        gmacs: row.get(15)?,
        activations_m: row.get(16)?,
        latency_ms: row.get(17)?,
        throughput_items_per_second: row.get(18)?,
        memory_peak_mb: row.get(19)?,
        power_w: row.get(20)?,
    })
}
