//! Bad input and faults: each gets a clear error or heals, and no confirmed job is lost.

#[path = "../support/mod.rs"]
mod support;

mod alarm;
mod anomalies;
mod claims;
mod delivery;
mod input;
mod models;
mod outage;
mod policies;
mod retention;
mod stopping;
mod submitting;
mod undecodable;
mod updater;
mod workers;
