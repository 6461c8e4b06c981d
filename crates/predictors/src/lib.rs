//! Trains, calibrates, evaluates, saves and asks the predictors: one trained estimator per metric.
//!
//! What the boosted trees learn is the log ratio of a measured value to the roofline, so efficiency rather than
//! scale, and a prediction starts from physics. An ensemble of boosters, each trained on rows weighted at random,
//! gives the value (its mean) and the spread. The interval is conformal: the spread, scaled so that 90 % of
//! out-of-fold errors were inside. Two such calibrations exist, one for a new configuration of a model that the
//! device already ran, one for a model never seen, since errors of the second kind are larger.
//!
//! `throughput_items_per_second` has no booster of its own: it is `batch size × 1000 / latency_ms` by definition, and
//! so is its prediction; its errors are evaluated on their own.
//!
//! [`Releases`] keeps trained predictors on disk, whole or not at all.

mod boosters;
mod calibration;
mod error;
mod evaluation;
mod files;
mod folds;
mod manifest;
mod predicted;
mod releases;
#[cfg(test)]
mod synthetic;
pub mod tables;
mod training;

pub use error::PredictorError;
pub use evaluation::{Evaluation, Grouping};
pub use manifest::{KnownModel, Manifest, MeasuredJobs, MeasuredTables, ReleaseFile, Source};
pub use predicted::{Predicted, PredictedWithSpread};
pub use releases::{Release, Releases, TableRelease};
pub use training::{Predictors, ROWS_NEEDED, TrainSettings};
