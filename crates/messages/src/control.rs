//! Orders about jobs: to workers, and about what came of them.

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

/// Somebody looked at a quarantined measurement and says that it is to be learned from after all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuarantineLifted {
    /// The job that measured.
    pub job_id: JobId,
    /// When it was said.
    pub lifted_at: Timestamp,
}
