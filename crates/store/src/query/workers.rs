//! Workers.

use messages::Timestamp;

use super::{parse, select};
use crate::{
    RunningRow, Store, StoreError, WorkerRow,
    json::{OfferJson, RunningJson},
};

impl Store {
    /// All workers ever heard of, the one heard of last first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails or a stored list is not what Augur writes.
    pub fn workers(&self) -> Result<Vec<WorkerRow>, StoreError> {
        let sql = "SELECT worker_id, host, pid, version, epoch_us(started_at), epoch_us(last_seen_at), concurrency, \
                   draining, jobs_done, platforms::VARCHAR, running::VARCHAR, offer::VARCHAR \
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
                memory_mb: None,
                device_memory_mb: None,
                browsers: Vec::new(),
                tags: Vec::new(),
                running: Vec::new(),
            };
            Ok((worker, columns.get::<String>()?, columns.get::<String>()?, columns.get::<Option<String>>()?))
        })?;
        rows.into_iter()
            .map(|(worker, platforms, running, offer)| {
                let platforms = parse("a list of platforms", platforms)?;
                let running: Vec<RunningJson> = parse("a list of running jobs", running)?;
                let running = running.into_iter().map(RunningRow::from).collect();
                // A worker that an earlier version heard of last told nothing of this.
                let offer = offer.map_or_else(|| Ok(OfferJson::default()), |offer| parse("an offer", offer))?;
                let OfferJson { memory_mb, device_memory_mb, browsers, tags } = offer;
                Ok(WorkerRow { platforms, memory_mb, device_memory_mb, browsers, tags, running, ..worker })
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
            attempt: job.attempt,
            started_at: Timestamp::from_micros(job.started_at).to_string(),
            progress_done: job.progress.map(|[done, _]| done),
            progress_total: job.progress.map(|[_, total]| total),
            leased: job.leased,
        }
    }
}
