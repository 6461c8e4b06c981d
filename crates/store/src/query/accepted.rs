//! Accepted measurements with everything that features need, as predictors learn from them.

use duckdb::Connection;
use messages::{AcceptedMeasurement, Configuration, GraphCosts, JobId, ModelRef, Timestamp};

use super::{Columns, select};
use crate::{Store, StoreError, json};

const ACCEPTED: &str = "
SELECT j.job_id::VARCHAR, j.run_uuid::VARCHAR, epoch_us(j.finished_at), j.model_name, j.model_sha256, j.platform,
       j.backend, j.precision, j.batch_size, j.sequence_length, j.image_size, j.threads, h.metadata::VARCHAR,
       g.parameters, g.operators::VARCHAR, m.backend_version, m.iterations, m.latency_p50_ms,
       m.throughput_items_per_second, m.memory_peak_mb, m.power_w, coalesce(m.load_ms, 0), j.browser
FROM measurements m
JOIN jobs j ON j.job_id = m.job_id
JOIN hardware_platforms h ON h.hardware_id = j.hardware_id
JOIN graph_costs g ON g.costs_sha256 = m.costs_sha256
WHERE m.accepted";

const ORDER: &str = "ORDER BY j.finished_at, j.job_id";

impl Store {
    /// Every accepted measurement, in the order in which the jobs ended.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unreadable`] if a row does not hold what its columns say, else [`StoreError`] if the read fails.
    pub fn accepted_measurements(&self) -> Result<Vec<AcceptedMeasurement>, StoreError> {
        let sql = format!("{ACCEPTED} {ORDER}");
        let rows = select(&self.reader()?, "read the accepted measurements", &sql, [], cells)?;
        rows.into_iter().map(measurement).collect()
    }
}

/// Those of these jobs, as far as they are accepted.
///
/// # Errors
///
/// As [`Store::accepted_measurements`].
pub(crate) fn accepted_of(connection: &Connection, jobs: &[JobId]) -> Result<Vec<AcceptedMeasurement>, StoreError> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let ids = jobs.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let sql = format!("{ACCEPTED} AND j.job_id IN (SELECT unnest(string_split(?, ','))::UUID) {ORDER}");
    let rows = select(connection, "read released measurements", &sql, [ids], cells)?;
    rows.into_iter().map(measurement).collect()
}

/// A row as the tables have it.
struct Cells {
    ids: [String; 2],
    finished_at: i64,
    /// Model, its hash, platform, backend, precision.
    words: [String; 5],
    batch_size: u32,
    sequence_length: Option<u32>,
    image_size: Option<u32>,
    threads: u32,
    device: String,
    parameters: u64,
    operators: String,
    backend_version: String,
    iterations: u32,
    latency_ms: f64,
    throughput_items_per_second: f64,
    memory_peak_mb: Option<f64>,
    power_w: Option<f64>,
    load_ms: f64,
    browser: Option<String>,
}

fn cells(columns: &mut Columns<'_, '_>) -> duckdb::Result<Cells> {
    Ok(Cells {
        ids: [columns.get()?, columns.get()?],
        finished_at: columns.get()?,
        words: [columns.get()?, columns.get()?, columns.get()?, columns.get()?, columns.get()?],
        batch_size: columns.get()?,
        sequence_length: columns.get()?,
        image_size: columns.get()?,
        threads: columns.get()?,
        device: columns.get()?,
        parameters: columns.get()?,
        operators: columns.get()?,
        backend_version: columns.get()?,
        iterations: columns.get()?,
        latency_ms: columns.get()?,
        throughput_items_per_second: columns.get()?,
        memory_peak_mb: columns.number()?,
        power_w: columns.number()?,
        load_ms: columns.get()?,
        browser: columns.get()?,
    })
}

fn measurement(cells: Cells) -> Result<AcceptedMeasurement, StoreError> {
    let [job_id, run_id] = cells.ids;
    let [model, sha256, platform, backend, precision] = cells.words;
    let device = json::parse_device(&cells.device);
    let operators = json::parse_operators(&cells.operators);
    Ok(AcceptedMeasurement {
        job_id: word("a job id", &job_id)?,
        run_id: word("a run id", &run_id)?,
        measured_at: Timestamp::from_micros(cells.finished_at),
        configuration: Configuration {
            model: ModelRef { name: model, sha256: word("a content hash", &sha256)? },
            platform: word("a platform", &platform)?,
            backend: word("a backend", &backend)?,
            precision: word("a precision", &precision)?,
            batch_size: cells.batch_size,
            sequence_length: cells.sequence_length,
            image_size: cells.image_size,
            threads: cells.threads,
            browser: cells.browser,
        },
        device: device.ok_or(StoreError::Unreadable { what: "a device", found: cells.device })?,
        costs: GraphCosts {
            parameters: cells.parameters,
            operators: operators
                .ok_or(StoreError::Unreadable { what: "a list of operators", found: cells.operators })?,
            memory: None,
        },
        backend_version: cells.backend_version,
        iterations: cells.iterations,
        latency_ms: cells.latency_ms,
        throughput_items_per_second: cells.throughput_items_per_second,
        memory_peak_mb: cells.memory_peak_mb,
        power_w: cells.power_w,
        load_ms: cells.load_ms,
    })
}

fn word<T: std::str::FromStr>(what: &'static str, found: &str) -> Result<T, StoreError> {
    found.parse().map_err(|_| StoreError::Unreadable { what, found: found.to_owned() })
}
