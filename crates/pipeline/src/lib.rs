//! The daemons and what they share: worker, aggregator, updater, active learner; suites and their submission.
//!
//! Each stage is a function that runs until its [`CancellationToken`](tokio_util::sync::CancellationToken) says
//! stop, then finishes what it holds. None of them knows the command line.

mod aggregator;
mod client;
mod error;
mod follow;
mod learner;
mod replay;
mod suite;
mod updater;
mod worker;

pub use aggregator::{AggregatorSettings, aggregate};
pub use client::{RunContext, Submission, cancel, submit};
pub use error::PipelineError;
pub use follow::{Progress, RunFollower};
pub use learner::{LearnerReport, LearnerSettings, Planned, SearchSettings, learn, plan_next};
pub use replay::{ReplayFrom, ReplaySummary, read_results, replay_into};
pub use suite::{Case, CaseSpec, Suite, SuiteError, prediction_subject, resolve_shape};
pub use updater::{UpdaterSettings, training_table, update};
pub use worker::{WorkerSettings, work};
