//! Attempts: counted, retried and dead ones.

use messages::{JobId, RunId};

use super::{Columns, select};
use crate::{AttemptCounts, AttemptRow, Store, StoreError};

/// A counted attempt's run, case and failure are in its job's row.
const ATTEMPTS: &str = "
SELECT a.job_id::VARCHAR, coalesce(a.run_uuid, j.run_uuid)::VARCHAR, coalesce(a.case_name, j.case_name), a.attempt,
       a.replays, a.worker_id, epoch_us(a.started_at), epoch_us(a.finished_at), a.status, a.next,
       CASE WHEN a.next IS NULL THEN j.failure_type ELSE a.failure_type END,
       CASE WHEN a.next IS NULL THEN j.failure_message ELSE a.failure_message END,
       CASE WHEN a.next IS NULL THEN j.output_tail ELSE a.output_tail END
FROM attempts a LEFT JOIN jobs j ON j.job_id = a.job_id";

const DEAD: &str = "
SELECT job_id::VARCHAR, run_uuid::VARCHAR, case_name, attempt, replays, worker_id, epoch_us(started_at),
       epoch_us(finished_at), status, next, failure_type, failure_message, output_tail
FROM dead_letters WHERE run_uuid = ?::UUID
QUALIFY row_number() OVER (PARTITION BY job_id ORDER BY replays DESC, finished_at DESC, worker_id) = 1
ORDER BY finished_at DESC, job_id LIMIT ?";

const COUNTS: &str = "
SELECT (SELECT count(*) FROM jobs WHERE run_uuid = $1::UUID)::UINTEGER,
       count(*) FILTER (next = 'retry')::UINTEGER, count(*) FILTER (next = 'dead-letter')::UINTEGER
FROM attempts WHERE run_uuid = $1::UUID";

impl Store {
    /// The attempts of a job in the order in which they began; none if it is not known.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails.
    pub fn attempts(&self, job: JobId) -> Result<Vec<AttemptRow>, StoreError> {
        let sql = format!("{ATTEMPTS} WHERE a.job_id = ?::UUID ORDER BY a.started_at, a.replays, a.attempt");
        select(&self.reader()?, "read the attempts of a job", &sql, [job.to_string()], attempt)
    }

    /// The attempts of a run's jobs in the order in which they began.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails.
    pub fn run_attempts(&self, run: RunId) -> Result<Vec<AttemptRow>, StoreError> {
        let sql = format!(
            "{ATTEMPTS} WHERE coalesce(a.run_uuid, j.run_uuid) = ?::UUID ORDER BY a.started_at, a.job_id, a.attempt"
        );
        select(&self.reader()?, "read the attempts of a run", &sql, [run.to_string()], attempt)
    }

    /// The last attempt of each job of a run that is dead now, the job that died last first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails.
    pub fn dead_letters(&self, run: RunId, limit: usize) -> Result<Vec<AttemptRow>, StoreError> {
        let params = duckdb::params![run.to_string(), limit];
        select(&self.reader()?, "read the dead jobs of a run", DEAD, params, attempt)
    }

    /// How many attempts of a run there were, by what came of them.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails.
    pub fn attempt_counts(&self, run: RunId) -> Result<AttemptCounts, StoreError> {
        let mut rows = select(&self.reader()?, "count attempts", COUNTS, [run.to_string()], |columns| {
            Ok(AttemptCounts { counted: columns.get()?, retried: columns.get()?, dead_lettered: columns.get()? })
        })?;
        Ok(rows.pop().unwrap_or_default())
    }
}

fn attempt(columns: &mut Columns<'_, '_>) -> duckdb::Result<AttemptRow> {
    Ok(AttemptRow {
        job_id: columns.get()?,
        run_id: columns.get()?,
        case: columns.get()?,
        attempt: columns.get()?,
        replays: columns.get()?,
        worker_id: columns.get()?,
        started_at: columns.moment()?,
        finished_at: columns.moment()?,
        status: columns.get()?,
        next: columns.get()?,
        failure_type: columns.get()?,
        failure_message: columns.get()?,
        output_tail: columns.get()?,
    })
}
