//! Workers.

use messages::Timestamp;
use serde::de::DeserializeOwned;

use super::select;
use crate::{RunningRow, Store, StoreError, WorkerRow, json::RunningJson};

impl Store {
    /// All workers ever heard of, the one heard of last first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails or a stored list is not what Augur writes.
    pub fn workers(&self) -> Result<Vec<WorkerRow>, StoreError> {
        let sql = "SELECT worker_id, host, pid, version, epoch_us(started_at), epoch_us(last_seen_at), concurrency, \
                   draining, jobs_done, platforms::VARCHAR, running::VARCHAR \
                   FROM workers ORDER BY last_seen_at DESC, worker_id";
        let rows = select(&self.reader()?, "read the workers", sql, [], |columns| {
            let worker = WorkerRow {
                worker_id: columns.get()?,
                host: columns.get()?,
                pid: columns.get()?,
                version: columns.get()?,
                started_at: columns.moment()?,
                last_seen_at: columns.moment()?,
                concurrency: columns.get()?,
                draining: columns.get()?,
                jobs_done: columns.get()?,
                platforms: Vec::new(),
                running: Vec::new(),
            };
            Ok((worker, columns.get::<String>()?, columns.get::<String>()?))
        })?;
        rows.into_iter()
            .map(|(worker, platforms, running)| {
                let platforms = parse("a list of platforms", platforms)?;
                let running: Vec<RunningJson> = parse("a list of running jobs", running)?;
                let running = running.into_iter().map(RunningRow::from).collect();
                Ok(WorkerRow { platforms, running, ..worker })
            })
            .collect()
    }
}

impl From<RunningJson> for RunningRow {
    fn from(job: RunningJson) -> Self {
        Self {
            job_id: job.job_id,
            run_id: job.run_id,
            case: job.case,
            started_at: Timestamp::from_micros(job.started_at).to_string(),
        }
    }
}

fn parse<T: DeserializeOwned>(what: &'static str, found: String) -> Result<T, StoreError> {
    serde_json::from_str(&found).map_err(|_| StoreError::Unreadable { what, found })
}
