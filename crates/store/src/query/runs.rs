//! Runs.

use messages::RunId;

use super::{Columns, select};
use crate::{RunSummary, Store, StoreError};

const RUNS: &str = "
SELECT r.run_uuid::VARCHAR, r.suite, r.origin, epoch_us(r.submitted_at), epoch_us(r.due_at), epoch_us(r.completed_at),
       (epoch_us(r.completed_at) - epoch_us(r.submitted_at)) / 1e6, epoch_us(least(c.requested_at, o.requested_at)), r.jobs_total, r.done,
       r.passed, r.failed, r.error, r.cancelled, r.dead, r.retried, r.git_commit, r.git_branch,
       (SELECT count(*) FROM regressions g WHERE g.run_uuid = r.run_uuid)::UINTEGER
FROM runs r
LEFT JOIN (SELECT target_id, min(requested_at) AS requested_at FROM cancels WHERE target = 'run' GROUP BY target_id) c
    ON c.target_id = r.run_uuid
LEFT JOIN (SELECT target_id, min(requested_at) AS requested_at FROM cancels WHERE target = 'job' GROUP BY target_id) o
    ON o.target_id = r.only_job";

impl Store {
    /// The latest runs, newest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails.
    pub fn runs(&self, limit: usize) -> Result<Vec<RunSummary>, StoreError> {
        let sql = format!("{RUNS} ORDER BY r.submitted_at DESC, r.run_uuid DESC LIMIT ?");
        select(&self.reader()?, "read the runs", &sql, [limit], summary)
    }

    /// One run; `None` if nothing of it was stored.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails.
    pub fn run(&self, run: RunId) -> Result<Option<RunSummary>, StoreError> {
        let sql = format!("{RUNS} WHERE r.run_uuid = ?::UUID");
        Ok(select(&self.reader()?, "read a run", &sql, [run.to_string()], summary)?.pop())
    }
}

fn summary(columns: &mut Columns<'_, '_>) -> duckdb::Result<RunSummary> {
    Ok(RunSummary {
        run_id: columns.get()?,
        suite: columns.get()?,
        origin: columns.get()?,
        submitted_at: columns.moment()?,
        due_at: columns.moment_or_none()?,
        completed_at: columns.moment_or_none()?,
        duration_s: columns.number()?,
        cancelled_at: columns.moment_or_none()?,
        jobs_total: columns.get()?,
        done: columns.get()?,
        passed: columns.get()?,
        failed: columns.get()?,
        error: columns.get()?,
        cancelled: columns.get()?,
        dead: columns.get()?,
        retried: columns.get()?,
        git_commit: columns.get()?,
        git_branch: columns.get()?,
        regressions: columns.get()?,
    })
}
