//! A worker's sign of life.

use crate::{JobId, Offer, Platform, RunId, Timestamp, WorkerId};

/// A job that a worker is running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningJob {
    /// The job.
    pub job_id: JobId,
    /// Its run.
    pub run_id: RunId,
    /// Name of its case.
    pub case: String,
    /// Which attempt, counted from 1 by us.
    pub attempt: u32,
    /// When this attempt began.
    pub started_at: Timestamp,
    /// How far it is, where that is known.
    pub progress: Option<Progress>,
    /// Whether the worker holds it under a lease instead of unacked.
    pub leased: bool,
}

/// How far an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Timed iterations done.
    pub done: u32,
    /// Timed iterations at most.
    pub total: u32,
}

/// What a worker says of itself every few seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Who speaks.
    pub worker_id: WorkerId,
    /// Its machine's name.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
    /// Augur's version.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
    /// When this heartbeat was sent.
    pub sent_at: Timestamp,
    /// What it takes jobs for.
    pub platforms: Vec<Platform>,
    /// What else it has.
    pub offer: Offer,
    /// Jobs that it runs at once, at most.
    pub concurrency: u32,
    /// Whether it finishes up and takes nothing new.
    pub draining: bool,
    /// What it runs now.
    pub running: Vec<RunningJob>,
    /// Jobs that it has ended since it started.
    pub jobs_done: u64,
}
