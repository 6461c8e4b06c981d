//! Augur's words as types, and how they travel.
//!
//! The domain types here ([`Job`], [`JobResult`], …) derive no `Serialize`: what goes over the wire is
//! [`wire`]'s business, versioned and frozen once released. [`encode`] and [`decode`] go between the two.

mod attempt;
mod codec;
mod conditions;
mod configuration;
mod control;
mod costs;
mod device;
mod dispatch;
mod heartbeat;
mod ids;
mod job;
mod measured_row;
mod measurement;
mod release;
mod result;
mod run;
mod stopping;
mod time;
mod web;
pub mod wire;
mod words;

pub use attempt::{AfterFailure, ClaimReturned, DeadLetterReplayed, DeadLettered, FailedAttempt, JobClaimed};
pub use codec::{BODY_BYTES_MAX, DecodeError, EncodeError, Encoded, Message, decode, encode};
pub use conditions::{Conditions, MachineState, Mark};
pub use configuration::{Configuration, ConfigurationError, ContentHash, ModelRef, limits};
pub use control::{Cancel, CancelTarget, QuarantineLifted};
pub use costs::{GraphCosts, GraphMemory, OperatorCost, OperatorKind};
pub use device::{Device, PeakSource};
pub use dispatch::{Dispatch, Need, Offer, PastAttempt, Requirements};
pub use heartbeat::{Heartbeat, Progress, RunningJob};
pub use ids::{IdError, JobId, ReleaseId, RunId, WorkerId};
pub use job::{BenchmarkSpec, Job, JobKind, JobSpec, RunRef, TestSpec};
pub use measured_row::{MeasuredRow, TABLE_METRICS};
pub use measurement::{AcceptedMeasurement, PredictedMetric, Prediction};
pub use release::{MetricEvaluation, ReleasePublished};
pub use result::{
    BenchmarkOutcome, Failure, FailureKind, JobResult, LatencySummary, Outcome, Status, StopReason, TestCase,
    TestCaseStatus, TestOutcome,
};
pub use run::{Origin, RunSubmitted};
pub use stopping::{Iterations, StoppingRule};
pub use time::Timestamp;
pub use web::{Adapter, Warmth, WebOutcome, WebPhases, WebSpec};
pub use words::{Backend, Metric, Platform, Precision, Priority, UnknownWord};
