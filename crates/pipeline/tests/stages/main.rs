//! Stages against a real broker: leases that lapse, dead letters, history and its archive.

#![expect(clippy::unwrap_used, reason = "tests")]

mod dead_letters;
mod history;
mod leases;
mod support;
