//! Predictors that learn from measurement tables: many models on few devices, whoever measured them.
//!
//! The target is the log ratio of the measured value to physics. How a row is predicted depends on what of it is new
//! ([`Novelty`]): for a new configuration, the same model's residuals elsewhere are asked first; for a new model, the
//! graph's features; for a new device, the features without those of devices, and then a correction from a few
//! measurements. Each has its own intervals, from errors on rows that were new in the same way.

mod amendment;
mod baselines;
mod basis;
mod data;
mod domain;
mod efficiency;
mod estimator;
mod few_shot;
mod forest;
mod held_out;
mod known;
mod laboratory;
mod learned;
mod learner;
mod linear;
mod names;
mod network;
mod new_device;
mod novelty;
mod protocol;
mod questions;
mod references;
mod reliability;
mod report;
mod residuals;
mod sample;
mod shots;
mod trained;
mod warm_start;

pub use data::TableData;
pub use estimator::{ROWS_NEEDED, TablePrediction, TablePredictor};
pub use learner::{Learner, TrainSettings};
pub use novelty::Novelty;
pub use protocol::{Choose, Protocol, evaluate, evaluate_split};
pub use questions::{Answer, MemoryFit, Questions};
pub use report::{Baseline, Baselines, Group, Held, Report};
pub use trained::Predictors;
pub use warm_start::{Shots, WarmStart};
