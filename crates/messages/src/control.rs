//! Orders to workers about jobs.

use crate::{JobId, RunId, Timestamp};

/// What to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelTarget {
    /// One job.
    Job(JobId),
    /// Every job of a run.
    Run(RunId),
}

/// Asks workers to end a job, running or still queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancel {
    /// What to cancel.
    pub target: CancelTarget,
    /// When it was asked for.
    pub requested_at: Timestamp,
}
