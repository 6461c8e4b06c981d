//! What happens to a job between its submission and its result.

use crate::{Job, JobId, JobResult, Platform, RunId, Timestamp, WorkerId};

/// An attempt that failed and is not the job's result.
///
/// Nothing is counted by it: either another attempt follows, or the job has become a dead letter.
#[derive(Debug, Clone, PartialEq)]
pub struct FailedAttempt {
    /// The attempt, whose outcome is a failure.
    pub result: JobResult,
    /// What follows.
    pub next: AfterFailure,
}

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AfterFailure {
    /// Another attempt, once a delay is over.
    Retry,
    /// None: the job lies with the dead letters.
    DeadLetter,
}

impl AfterFailure {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::DeadLetter => "dead-letter",
        }
    }
}

/// A worker took a long job off its queue and holds it under a lease, renewed by its heartbeats.
#[derive(Debug, Clone, PartialEq)]
pub struct JobClaimed {
    /// The job, whole: from here it returns to its queue if the lease lapses.
    pub job: Job,
    /// Which attempt, counted from 1 by us.
    pub attempt: u32,
    /// Who holds it.
    pub worker_id: WorkerId,
    /// Since when.
    pub claimed_at: Timestamp,
    /// How long the lease lasts after the last sign of life, in milliseconds.
    pub lease_ms: u64,
}

/// The broker itself moved a job to the dead letters: no worker could read it, it came back too often, or to no lane.
///
/// Tells what the message's properties say; a job that nobody can read tells no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLettered {
    /// The job.
    pub job_id: JobId,
    /// Its run.
    pub run_id: RunId,
    /// How often it had been sent back from the dead letters.
    pub replays: u32,
    /// The attempt that it was waiting for or in, counted from 1 by us.
    pub attempt: u32,
    /// The kind of execution target of its lane.
    pub platform: Platform,
    /// Name of its case, if the job can be read.
    pub case: Option<String>,
    /// Why, in one word, e.g. `undecodable` or `delivery-limit`.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// When, in whole seconds.
    pub died_at: Timestamp,
}

/// A dead letter was sent back to its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLetterReplayed {
    /// The job.
    pub job_id: JobId,
    /// Its run.
    pub run_id: RunId,
    /// How often it was sent back, this time included.
    pub replays: u32,
    /// When.
    pub replayed_at: Timestamp,
}

/// A claimed job was handed back unfinished: its worker drains. No attempt is charged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimReturned {
    /// The job.
    pub job_id: JobId,
    /// Its run.
    pub run_id: RunId,
    /// Which attempt was claimed.
    pub attempt: u32,
    /// Who held it.
    pub worker_id: WorkerId,
    /// When.
    pub returned_at: Timestamp,
}
