//! Runs.

use messages::RunId;

use super::{Columns, select};
use crate::{RunSummary, Store, StoreError};

const COLUMNS: &str = "run_uuid::VARCHAR, suite, origin, epoch_us(submitted_at), epoch_us(completed_at), \
    (epoch_us(completed_at) - epoch_us(submitted_at)) / 1e6, jobs_total, done, passed, failed, error, cancelled, \
    git_commit, git_branch";

impl Store {
    /// The latest runs, newest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails.
    pub fn runs(&self, limit: usize) -> Result<Vec<RunSummary>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM runs ORDER BY submitted_at DESC, run_uuid DESC LIMIT ?");
        select(&self.reader()?, "read the runs", &sql, [limit], summary)
    }

    /// One run; `None` if nothing of it was stored.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails.
    pub fn run(&self, run: RunId) -> Result<Option<RunSummary>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM runs WHERE run_uuid = ?::UUID");
        Ok(select(&self.reader()?, "read a run", &sql, [run.to_string()], summary)?.pop())
    }
}

fn summary(columns: &mut Columns<'_, '_>) -> duckdb::Result<RunSummary> {
    Ok(RunSummary {
        run_id: columns.get()?,
        suite: columns.get()?,
        origin: columns.get()?,
        submitted_at: columns.moment()?,
        completed_at: columns.moment_or_none()?,
        duration_s: columns.number()?,
        jobs_total: columns.get()?,
        done: columns.get()?,
        passed: columns.get()?,
        failed: columns.get()?,
        error: columns.get()?,
        cancelled: columns.get()?,
        git_commit: columns.get()?,
        git_branch: columns.get()?,
    })
}
