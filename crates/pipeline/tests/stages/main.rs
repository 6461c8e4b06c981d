//! Stages against a real broker: leases that lapse, dead letters of ours and of the broker's, history and its archive,
//! releases that follow measurements.

#![expect(clippy::unwrap_used, reason = "tests")]

mod dead_letters;
mod deaths;
mod history;
mod learner;
mod leases;
mod support;
mod updates;
