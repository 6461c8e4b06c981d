//! The daemons and what they share: worker, aggregator, updater, active learner; suites and their submission.
//!
//! Each stage is a function that runs until its [`CancellationToken`](tokio_util::sync::CancellationToken) says
//! stop, then finishes what it holds. None of them knows the command line.

mod aggregator;
mod client;
mod costs;
pub mod dead_letters;
pub(crate) mod delivery;
mod drift;
mod election;
mod error;
mod export;
pub mod failpoint;
mod follow;
mod learner;
mod regression;
mod replay;
mod retention;
mod suite;
mod updater;
mod worker;

pub use aggregator::{AggregatorSettings, aggregate};
pub use client::{RunContext, Submission, cancel, lift_quarantine, submit};
pub use drift::{DatedError, Drift, drift};
pub use error::PipelineError;
pub use export::{ExportSummary, export_results};
pub use follow::{DeadJob, Progress, RunFollower, RunNews};
pub use learner::{
    LearnerReport, LearnerSettings, Ledger, PlanRequest, Planned, Roster, SearchSettings, Target, learn, plan_next,
    read_constraints,
};
pub use regression::{CompareSettings, Compared, Comparison, Repeats, Verdict, compare_repeats};
pub use replay::{
    ReplayFrom, ReplayRange, ReplaySummary, ReplayUntil, read_archived_results, read_results, replay_archive_into,
    replay_into,
};
pub use suite::{Case, CaseSpec, Suite, SuiteError, prediction_subject, resolve_shape};
pub use updater::{UpdaterSettings, model_family, training_table, update};
pub use worker::{WorkerSettings, work};
