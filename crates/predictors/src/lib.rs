//! Trains, calibrates, evaluates, saves and asks the predictors: one trained estimator per metric.
//!
//! What is learned is the log ratio of a measured value to physics, so efficiency rather than scale, and a prediction
//! starts from physics. Intervals are conformal: calibrated on rows that were held out in the way in which the question
//! is new. `throughput_items_per_second` has no estimator of its own: it is `batch size × 1000 / latency_ms` by
//! definition, and so is its prediction; its errors are evaluated on their own.
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
mod tables;
mod update;

pub use calibration::GROUPS_MIN;
pub use error::PredictorError;
pub use evaluation::{Evaluation, Grouping};
pub use manifest::{FewShotDevice, Manifest, ReleaseFile, Source};
pub use predicted::{Predicted, PredictedWithSpread};
pub use releases::{KnownJobs, Provenance, Release, Releases};
pub use tables::{
    Answer, Baseline, Baselines, Choose, Group, Held, Learner, MemoryFit, Novelty, Predictors, Protocol, Questions,
    ROWS_NEEDED, Report, Shots, TableData, TablePrediction, TablePredictor, TrainSettings, WarmStart, evaluate,
    evaluate_split,
};
pub use update::{Judged, Miss, Update, UpdateStrategy, judge};
