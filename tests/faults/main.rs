//! Bad input and faults: each gets a clear error or heals, and no confirmed job is lost.

#[path = "../support/mod.rs"]
mod support;

mod anomalies;
mod delivery;
mod input;
mod models;
mod outage;
mod stopping;
mod undecodable;
mod updater;
mod workers;
