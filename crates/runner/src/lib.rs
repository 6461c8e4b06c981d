//! Executes one job and says how it ended; knows no queue and no table.
//!
//! A test job runs a profile of the worker's settings, a benchmark runs a model in a child process of its own.
//! Whatever goes wrong with a job is an [`Outcome::Failed`](messages::Outcome::Failed), never an error or a panic.

mod benchmark;
mod child;
mod device_wait;
mod error;
mod execute;
mod failure;
mod junit;
mod marks;
mod model;
mod probe;
mod process;
mod protocol;
mod runner;
mod selectors;
mod settings;
mod tail;
mod test_command;
mod test_job;
mod web;

pub use child::benchmark_child;
pub use device_wait::device_turn;
pub use error::RunnerError;
pub use execute::{Charge, Execute, Execution};
pub use probe::onnxruntime_version;
pub use runner::Runner;
pub use settings::{Profile, ProfileRunner, RunnerSettings};
pub use web::WebRunner;

/// The subcommand under which the executable of [`RunnerSettings::executable`] must call [`benchmark_child`].
pub const BENCHMARK_SUBCOMMAND: &str = "internal-benchmark";
