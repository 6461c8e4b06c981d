//! Workers that die.

use std::time::Duration;

use anyhow::{Result, ensure};
use pipeline::failpoint::WORKER_AFTER_CONFIRM;

use crate::{
    daemons::{FleetOptions, wait_until},
    jobs::{Work, times_begun},
    limits::STALL_MAX,
    rig::{Rig, Setup, ensure_faults},
    row::{Outcome, Trial},
    verdict::Expected,
    world::Broker,
};

/// A lease short enough that a claim whose worker died comes back within a quick row; heartbeats come every 5 s.
pub(super) const LEASE_S: u64 = 12;

/// Jobs for each fault that are long enough to be at work when it comes.
const LONG_PER_FAULT: usize = 2;
/// How long each of them takes, in milliseconds: longer than the time from one fault to the next.
const LONG_MS: u64 = 700;

/// `kill -9` at random moments.
pub(super) fn killed_at_random(trial: &Trial) -> Result<Outcome> {
    let setup = Setup {
        fleet: FleetOptions { workers: 3, ..FleetOptions::default() },
        environment: vec![("AUGUR_WORKER__LEASE_S", LEASE_S.to_string())],
        ..Setup::default()
    };
    let jobs = trial.amount.jobs + trial.amount.faults * LONG_PER_FAULT;
    let mut rig = Rig::in_directory(&trial.directory, Broker::undisturbed(trial)?, setup, jobs, trial.random())?;
    rig.under_load(trial, |rig, _| {
        rig.progress.note_fault();
        rig.fleet.kill_one(&rig.world, &mut rig.random)?;
        let long = rig.load.jobs(LONG_PER_FAULT, &Work::Long { duration_ms: LONG_MS });
        rig.load.publish_in_background(long, Expected::Passed, Duration::ZERO);
        Ok(())
    })?;
    let mut outcome = rig.finish()?;
    let begun_again: usize = times_begun(&trial.directory)?.values().map(|times| times - 1).sum();
    outcome.verdict.redeliveries += begun_again;
    ensure!(begun_again > 0 || !trial.is_full, "no worker was killed at work: the row proves little");
    ensure_faults(outcome)
}

/// Workers that abort once a result is confirmed and before its job is acked.
pub(super) fn killed_between_confirm_and_ack(trial: &Trial) -> Result<Outcome> {
    let probability = trial.amount.faults as f64 / trial.amount.jobs as f64;
    let setup = Setup {
        fleet: FleetOptions {
            workers: 2,
            concurrency: 2,
            prefetch: 4,
            failpoints: format!("{WORKER_AFTER_CONFIRM}:{probability}"),
        },
        environment: vec![("AUGUR_WORKER__LEASE_S", LEASE_S.to_string())],
        ..Setup::default()
    };
    let mut rig = Rig::new(trial, Broker::undisturbed(trial)?, setup)?;
    let jobs = rig.load.jobs(trial.amount.jobs, &Work::Nothing);
    rig.load.publish_in_background(jobs, Expected::Passed, Duration::ZERO);
    let mut died = 0;
    // As long as jobs are left to die by; each death needs a worker's start, hence the generous limit.
    let limit = STALL_MAX + Duration::from_secs(2) * u32::try_from(trial.amount.faults)?;
    wait_until("all jobs are counted or enough workers died", limit, || {
        let revived = rig.fleet.revive(&rig.world)?;
        for _ in 0..revived {
            rig.progress.note_fault();
        }
        died += revived;
        Ok(died >= trial.amount.faults || rig.progress.done() >= trial.amount.jobs as u64)
    })?;
    let (wanted, enough) = (trial.amount.faults, trial.amount.faults * 9 / 10);
    ensure!(!trial.is_full || died >= enough, "only {died} of {wanted} workers died: too few prove little");
    rig.fleet.disarm();
    rig.fleet.replace_all(&rig.world)?;
    ensure_faults(rig.finish()?)
}
