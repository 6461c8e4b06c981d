//! Measurements that predictors do not learn from.

use messages::RunId;

use super::{Columns, select};
use crate::{HeldBackRow, Store, StoreError};

const HELD_BACK: &str = "
SELECT j.job_id::VARCHAR, j.run_uuid::VARCHAR, j.case_name, j.model_name, j.platform, h.device_name, m.latency_p50_ms,
       m.standing, coalesce(m.rejection, ''), epoch_us(j.finished_at)
FROM measurements m
JOIN jobs j ON j.job_id = m.job_id
LEFT JOIN hardware_platforms h ON h.hardware_id = j.hardware_id";

const ORDER: &str = "ORDER BY j.finished_at, j.job_id";

impl Store {
    /// The first measurements of a run that are not learned from, whatever keeps them, in the order in which their jobs
    /// ended.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails.
    pub fn held_back(&self, run: RunId, rows_max: usize) -> Result<Vec<HeldBackRow>, StoreError> {
        let sql = format!(
            "{HELD_BACK} WHERE NOT m.accepted AND (j.run_uuid = $1::UUID \
             OR j.job_id IN (SELECT job_id FROM run_jobs WHERE run_uuid = $1::UUID)) {ORDER} LIMIT {rows_max}"
        );
        select(&self.reader()?, "read the measurements that do not count", &sql, [run.to_string()], row)
    }

    /// The measurements in quarantine, of one run or of all, in the order in which their jobs ended.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails.
    pub fn quarantined(&self, run: Option<RunId>) -> Result<Vec<HeldBackRow>, StoreError> {
        let sql =
            format!("{HELD_BACK} WHERE m.standing = 'quarantined' AND ($1 IS NULL OR j.run_uuid = $1::UUID) {ORDER}");
        let run = run.map(|run| run.to_string());
        select(&self.reader()?, "read the quarantined measurements", &sql, [run], row)
    }
}

fn row(columns: &mut Columns<'_, '_>) -> duckdb::Result<HeldBackRow> {
    Ok(HeldBackRow {
        job_id: columns.get()?,
        run_id: columns.get()?,
        case: columns.get()?,
        model: columns.get()?,
        platform: columns.get()?,
        device: columns.get()?,
        latency_p50_ms: columns.number()?,
        standing: columns.get()?,
        reason: columns.get()?,
        measured_at: columns.moment()?,
    })
}
