//! Measurements and how they compare with predictions.

use messages::RunId;

use super::{Columns, select};
use crate::{MeasuredRow, PredictionErrorRow, Store, StoreError};

const MEASURED: &str = "
SELECT j.model_name, j.model_sha256, j.platform, j.backend, j.precision, j.batch_size, j.sequence_length, j.image_size,
       j.threads, j.browser, h.device_name, count(*)::UINTEGER, median(m.latency_p50_ms), median(m.throughput_items_per_second),
       median(m.memory_peak_mb), median(m.power_w), median(m.load_ms), epoch_us(max(j.finished_at))
FROM measurements m
JOIN jobs j ON j.job_id = m.job_id
JOIN hardware_platforms h ON h.hardware_id = j.hardware_id
WHERE m.accepted
GROUP BY j.model_name, j.model_sha256, j.platform, j.backend, j.precision, j.batch_size, j.sequence_length,
         j.image_size, j.threads, j.browser, h.device_name
ORDER BY j.model_name, j.model_sha256, j.platform, j.backend, j.precision, j.sequence_length, j.image_size,
         j.batch_size, j.threads, j.browser, h.device_name";

const PREDICTION_ERRORS: &str = "
SELECT e.job_id::VARCHAR, e.run_uuid::VARCHAR, j.case_name, j.platform, j.model_name, e.release_id, e.metric, e.predicted, e.lower,
       e.upper, e.measured, e.error_pct, e.inside, epoch_us(e.created_at)
FROM prediction_errors e JOIN jobs j ON j.job_id = e.job_id";

impl Store {
    /// Every configuration on every device that was measured and accepted, with its median metrics.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails.
    pub fn measured(&self) -> Result<Vec<MeasuredRow>, StoreError> {
        select(&self.reader()?, "read the measured configurations", MEASURED, [], measured)
    }

    /// Predictions held against measurements, of one run or of all, oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails.
    pub fn prediction_errors(&self, run: Option<RunId>) -> Result<Vec<PredictionErrorRow>, StoreError> {
        let connection = self.reader()?;
        let order = "ORDER BY e.created_at, e.job_id, e.metric";
        match run {
            None => {
                let sql = format!("{PREDICTION_ERRORS} {order}");
                select(&connection, "read prediction errors", &sql, [], prediction_error)
            }
            Some(run) => {
                let sql = format!("{PREDICTION_ERRORS} WHERE e.run_uuid = ?::UUID {order}");
                select(&connection, "read prediction errors", &sql, [run.to_string()], prediction_error)
            }
        }
    }
}

fn measured(columns: &mut Columns<'_, '_>) -> duckdb::Result<MeasuredRow> {
    Ok(MeasuredRow {
        model: columns.get()?,
        model_sha256: columns.get()?,
        platform: columns.get()?,
        backend: columns.get()?,
        precision: columns.get()?,
        batch_size: columns.get()?,
        sequence_length: columns.get()?,
        image_size: columns.get()?,
        threads: columns.get()?,
        browser: columns.get()?,
        device: columns.get()?,
        measurements: columns.get()?,
        latency_ms: columns.get()?,
        throughput_items_per_second: columns.get()?,
        memory_peak_mb: columns.number()?,
        power_w: columns.number()?,
        load_ms: columns.number()?,
        last_measured_at: columns.moment()?,
    })
}

fn prediction_error(columns: &mut Columns<'_, '_>) -> duckdb::Result<PredictionErrorRow> {
    Ok(PredictionErrorRow {
        job_id: columns.get()?,
        run_id: columns.get()?,
        case: columns.get()?,
        platform: columns.get()?,
        model: columns.get()?,
        release_id: columns.get()?,
        metric: columns.get()?,
        predicted: columns.number()?,
        lower: columns.number()?,
        upper: columns.number()?,
        measured: columns.number()?,
        error_pct: columns.number()?,
        inside: columns.get()?,
        measured_at: columns.moment()?,
    })
}
