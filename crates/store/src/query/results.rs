//! Ended jobs.

use std::collections::HashMap;

use duckdb::Connection;
use messages::{JobId, RunId, Timestamp};

use super::{Columns, select};
use crate::{ConditionsRow, PredictedRow, ResultRow, Store, StoreError, WebRow, json::WebDetails};

const RESULTS: &str = "
SELECT j.job_id::VARCHAR, j.run_uuid::VARCHAR, j.case_name, j.kind, j.status, j.platform, j.priority, j.attempt,
       j.worker_id, h.device_name, epoch_us(j.submitted_at), epoch_us(j.started_at), epoch_us(j.finished_at),
       j.model_name, j.model_sha256, j.backend, j.precision, j.batch_size, j.sequence_length, j.image_size, j.threads,
       j.browser,
       m.latency_mean_ms, m.latency_p50_ms, m.latency_p90_ms, m.latency_p99_ms, m.throughput_items_per_second,
       m.memory_peak_mb, m.power_w, m.load_ms, m.iterations, m.stop_reason, m.backend_version, m.accepted, m.rejection,
       m.standing, m.conditions::VARCHAR,
       j.exit_code, j.tests_total, j.tests_failed, j.failure_type, j.failure_message, j.suggestion, j.output_tail,
       w.browser_version, w.load_time_ms, w.initialization_time_ms, w.total_time_ms, w.metadata::VARCHAR
FROM jobs j
LEFT JOIN measurements m ON m.job_id = j.job_id
LEFT JOIN hardware_platforms h ON h.hardware_id = j.hardware_id
LEFT JOIN web_platform_results w ON w.result_id = j.web_result_id";

const PREDICTIONS: &str = "
SELECT p.job_id::VARCHAR, p.release_id, p.metric, p.value, p.lower, p.upper, e.measured, e.error_pct, e.inside
FROM predictions p
LEFT JOIN prediction_errors e ON e.job_id = p.job_id AND e.metric = p.metric";

impl Store {
    /// The ended jobs of a run, in the order in which they ended; also those whose one result another run brought,
    /// since it submitted the same unique key.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails.
    pub fn run_results(&self, run: RunId) -> Result<Vec<ResultRow>, StoreError> {
        let of_run = "j.run_uuid = $1::UUID OR j.job_id IN (SELECT job_id FROM run_jobs WHERE run_uuid = $1::UUID)";
        results(&self.reader()?, of_run, &run.to_string())
    }

    /// One ended job; `None` if its result was not stored (yet).
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails.
    pub fn job(&self, job: JobId) -> Result<Option<ResultRow>, StoreError> {
        Ok(results(&self.reader()?, "j.job_id = $1::UUID", &job.to_string())?.pop())
    }

    /// The jobs that ended last, newest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails.
    pub fn latest_results(&self, limit: usize) -> Result<Vec<ResultRow>, StoreError> {
        let connection = self.reader()?;
        let sql = format!("{RESULTS} ORDER BY j.finished_at DESC, j.job_id LIMIT ?");
        let rows = select(&connection, "read the latest results", &sql, [limit], result)?;
        let ids = rows.iter().map(|row| row.job_id.as_str()).collect::<Vec<_>>().join(",");
        if ids.is_empty() {
            return Ok(rows);
        }
        let sql = format!("{PREDICTIONS} WHERE p.job_id IN (SELECT unnest(string_split(?, ','))::UUID)");
        with_predictions(&connection, rows, &sql, &ids)
    }

    /// The timed iterations of a benchmark in order, in milliseconds per batch; none if it measured nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails.
    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method itself is not general enough over lifetimes"
    )]
    pub fn iterations_ms(&self, job: JobId) -> Result<Vec<f64>, StoreError> {
        let sql = "SELECT b.latency_ms FROM performance_batch_results b JOIN measurements m USING (result_id) \
                   WHERE m.job_id = ?::UUID ORDER BY b.batch_index";
        select(&self.reader()?, "read the iterations of a job", sql, [job.to_string()], |columns| columns.get())
    }
}

/// The jobs for which `condition` holds, in which `j` is a job and `$1` is `id`.
fn results(connection: &Connection, condition: &str, id: &str) -> Result<Vec<ResultRow>, StoreError> {
    let sql = format!("{RESULTS} WHERE {condition} ORDER BY j.finished_at, j.job_id");
    let rows = select(connection, "read results", &sql, [id], result)?;
    let predictions = format!("{PREDICTIONS} WHERE p.job_id IN (SELECT j.job_id FROM jobs j WHERE {condition})");
    with_predictions(connection, rows, &predictions, id)
}

fn with_predictions(
    connection: &Connection,
    mut rows: Vec<ResultRow>,
    sql: &str,
    param: &str,
) -> Result<Vec<ResultRow>, StoreError> {
    let sql = format!("{sql} ORDER BY p.metric");
    let mut predictions: HashMap<String, Vec<PredictedRow>> = HashMap::new();
    for (job_id, prediction) in select(connection, "read predictions", &sql, [param], prediction)? {
        predictions.entry(job_id).or_default().push(prediction);
    }
    for row in &mut rows {
        row.predictions = predictions.remove(&row.job_id).unwrap_or_default();
    }
    Ok(rows)
}

fn prediction(columns: &mut Columns<'_, '_>) -> duckdb::Result<(String, PredictedRow)> {
    Ok((
        columns.get()?,
        PredictedRow {
            release_id: columns.get()?,
            metric: columns.get()?,
            value: columns.number()?,
            lower: columns.number()?,
            upper: columns.number()?,
            measured: columns.number()?,
            error_pct: columns.number()?,
            inside: columns.get()?,
        },
    ))
}

fn result(columns: &mut Columns<'_, '_>) -> duckdb::Result<ResultRow> {
    let [job_id, run_id, case, kind, status, platform, priority] = texts(columns)?;
    let (attempt, worker_id, device) = (columns.get()?, columns.get()?, columns.get()?);
    let times = [columns.get()?, columns.get()?, columns.get()?].map(Timestamp::from_micros);
    let [submitted_at, started_at, finished_at] = times.map(|time| time.to_string());
    // The fields of a struct expression are evaluated in the order in which they are written.
    Ok(ResultRow {
        job_id,
        run_id,
        case,
        kind,
        status,
        platform,
        priority,
        attempt,
        worker_id,
        device,
        submitted_at,
        started_at,
        finished_at,
        queue_wait_s: times[1].seconds_since(times[0]),
        duration_s: times[2].seconds_since(times[1]),
        model: columns.get()?,
        model_sha256: columns.get()?,
        backend: columns.get()?,
        precision: columns.get()?,
        batch_size: columns.get()?,
        sequence_length: columns.get()?,
        image_size: columns.get()?,
        threads: columns.get()?,
        browser: columns.get()?,
        latency_mean_ms: columns.number()?,
        latency_p50_ms: columns.number()?,
        latency_p90_ms: columns.number()?,
        latency_p99_ms: columns.number()?,
        throughput_items_per_second: columns.number()?,
        memory_peak_mb: columns.number()?,
        power_w: columns.number()?,
        load_ms: columns.number()?,
        iterations: columns.get()?,
        stop_reason: columns.get()?,
        backend_version: columns.get()?,
        accepted: columns.get()?,
        rejection: columns.get()?,
        standing: columns.get()?,
        conditions: conditions(columns)?,
        exit_code: columns.get()?,
        tests_total: columns.get()?,
        tests_failed: columns.get()?,
        failure_type: columns.get()?,
        failure_message: columns.get()?,
        suggestion: columns.get()?,
        output_tail: columns.get()?,
        web: web(columns)?,
        predictions: Vec::new(),
    })
}

/// What the machine was doing; `None` where nobody looked.
fn conditions(columns: &mut Columns<'_, '_>) -> duckdb::Result<Option<ConditionsRow>> {
    Ok(columns.get::<Option<String>>()?.and_then(|json| serde_json::from_str(&json).ok()))
}

/// What a browser did; `None` for other jobs, and where no browser measured.
fn web(columns: &mut Columns<'_, '_>) -> duckdb::Result<Option<WebRow>> {
    let browser_version: Option<String> = columns.get()?;
    let (fetch_ms, session_ms, total_ms) = (columns.number()?, columns.number()?, columns.number()?);
    let metadata: Option<String> = columns.get()?;
    let details = metadata.and_then(|json| serde_json::from_str::<WebDetails>(&json).ok());
    Ok(details.map(|WebDetails { adapter, is_fallback, warmth, first_run_ms, nodes, recoveries }| WebRow {
        browser_version: browser_version.unwrap_or_default(),
        adapter,
        is_fallback,
        warmth,
        fetch_ms,
        session_ms,
        first_run_ms,
        total_ms,
        nodes,
        recoveries,
    }))
}

fn texts<const N: usize>(columns: &mut Columns<'_, '_>) -> duckdb::Result<[String; N]> {
    let mut texts = [const { String::new() }; N];
    for text in &mut texts {
        *text = columns.get()?;
    }
    Ok(texts)
}
