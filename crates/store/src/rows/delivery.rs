//! Rows about the way of jobs to workers: attempts, claims, needs, workers.

use messages::{JobClaimed, Offer, Requirements};
use serde::{Deserialize, Serialize};

/// One attempt at a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRow {
    /// The job.
    pub job_id: String,
    /// Its run.
    pub run_id: String,
    /// Name of its case; null if nobody could read the job.
    pub case: Option<String>,
    /// Which attempt, counted from 1.
    pub attempt: u32,
    /// How often the job had been sent back from the dead letters by then.
    pub replays: u32,
    /// Who made it; `broker` if the broker ended it by making its job a dead letter.
    pub worker_id: String,
    /// When it began.
    pub started_at: String,
    /// When it ended.
    pub finished_at: String,
    /// `passed`, `failed`, `error` or `cancelled`.
    pub status: String,
    /// `retry` or `dead-letter` if it failed and something else follows; null if it is the job's counted result.
    pub next: Option<String>,
    /// Kind of failure.
    pub failure_type: Option<String>,
    /// What happened.
    pub failure_message: Option<String>,
    /// The end of what the process printed.
    pub output_tail: Option<String>,
}

impl AttemptRow {
    /// The name of the job's case, or its id where that is not known.
    pub fn name(&self) -> &str {
        self.case.as_deref().unwrap_or(&self.job_id)
    }
}

/// How many attempts a run took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AttemptCounts {
    /// Attempts that are their job's result.
    pub counted: u32,
    /// Attempts that failed and were followed by another.
    pub retried: u32,
    /// Attempts that failed and made their job a dead letter, also of jobs that were sent back since.
    pub dead_lettered: u32,
}

/// Jobs of a run that ask for the same of their worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeedRow {
    /// The kind of execution target.
    pub platform: String,
    /// Memory of the machine, in MB.
    pub memory_mb_min: Option<u64>,
    /// Memory of the device, in MB.
    pub device_memory_mb_min: Option<u64>,
    /// A browser.
    pub browser: Option<String>,
    /// Words that the worker's settings give it.
    pub tags: Vec<String>,
    /// How many jobs, ended ones included.
    pub jobs: u32,
}

impl NeedRow {
    /// What they ask for beyond the platform.
    pub fn requirements(&self) -> Requirements {
        Requirements {
            memory_mb_min: self.memory_mb_min,
            device_memory_mb_min: self.device_memory_mb_min,
            browser: self.browser.clone(),
            tags: self.tags.clone(),
        }
    }
}

/// A claim that nothing has ended: its job comes back if the lease lapses.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenClaim {
    /// Who holds what.
    pub claim: JobClaimed,
}

/// A job that a worker runs now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningRow {
    /// The job.
    pub job_id: String,
    /// Its run.
    pub run_id: String,
    /// Name of its case.
    pub case: String,
    /// Which attempt, counted from 1.
    pub attempt: u32,
    /// When the attempt began.
    pub started_at: String,
    /// Timed iterations done, where that is known.
    pub progress_done: Option<u32>,
    /// Timed iterations at most, where that is known.
    pub progress_total: Option<u32>,
    /// Whether the worker holds it under a lease.
    pub leased: bool,
}

/// A worker at its last sign of life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRow {
    /// Who.
    pub worker_id: String,
    /// Its machine.
    pub host: String,
    /// Its process there.
    pub pid: u32,
    /// Augur's version.
    pub version: String,
    /// When it started.
    pub started_at: String,
    /// When it was last heard of.
    pub last_seen_at: String,
    /// What it takes jobs for.
    pub platforms: Vec<String>,
    /// Memory of its machine, in MB.
    pub memory_mb: Option<u64>,
    /// Memory of its largest device, in MB.
    pub device_memory_mb: Option<u64>,
    /// Its browsers.
    pub browsers: Vec<String>,
    /// Words from its settings.
    pub tags: Vec<String>,
    /// Jobs that it runs at once, at most.
    pub concurrency: u32,
    /// Whether it takes nothing new.
    pub draining: bool,
    /// What it ran then.
    pub running: Vec<RunningRow>,
    /// Jobs that it has ended.
    pub jobs_done: u64,
}

impl WorkerRow {
    /// What it has beyond its platforms.
    pub fn offer(&self) -> Offer {
        Offer {
            memory_mb: self.memory_mb,
            device_memory_mb: self.device_memory_mb,
            browsers: self.browsers.clone(),
            tags: self.tags.clone(),
        }
    }
}

/// Where a stream is to be read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPosition {
    /// Offset of the first message that is not stored.
    pub next_offset: u64,
    /// Names the message before it, if that was told when it was stored.
    pub last_message: Option<String>,
}
