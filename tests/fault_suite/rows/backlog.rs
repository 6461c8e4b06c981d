//! More jobs than can be run, and an aggregator that does not keep up: everybody's memory stays as it is.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use testkit::PrivateNodeOptions;

use crate::{
    daemons::FleetOptions,
    jobs::Work,
    rig::{Rig, Setup, ensure_faults, parts},
    row::{Outcome, Trial},
    samples::Samples,
    verdict::Expected,
    world::Broker,
};

/// Jobs published between two samples.
const CHUNK_JOBS: usize = 10_000;
/// Between two samples while the backlog is worked off.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// A worker that takes as much as it can.
const FLEET: (usize, usize) = (64, 500);

pub(super) fn run(trial: &Trial) -> Result<Outcome> {
    let (concurrency, prefetch) = FLEET;
    let fleet = FleetOptions { workers: 1, concurrency, prefetch, ..FleetOptions::default() };
    let setup = Setup { fleet, ..Setup::default() };
    let mut rig = Rig::new(trial, Broker::own(trial, PrivateNodeOptions::default())?, setup)?;
    let mut samples = Samples::create(&trial.directory.join("backlog.csv"))?;
    let started = Instant::now();
    let aggregator = Pid::from_raw(i32::try_from(rig.aggregator.pid()?)?);
    // In the second half it has to catch up with everything.
    for part in parts(trial.amount.jobs / 2, trial.amount.faults) {
        rig.progress.note_fault();
        kill(aggregator, Signal::SIGSTOP).context("the aggregator cannot be stopped")?;
        publish(&mut rig, part, &mut samples, started)?;
        kill(aggregator, Signal::SIGCONT).context("the aggregator cannot go on")?;
    }
    publish(&mut rig, trial.amount.jobs - trial.amount.jobs / 2, &mut samples, started)?;
    let mut done = 0;
    while done < rig.results_expected() {
        samples.take(&rig, started.elapsed())?;
        thread::sleep(SAMPLE_EVERY);
        let now_done = rig.progress.done();
        if now_done == done {
            rig.progress.wait_for(done + 1, crate::limits::STALL_MAX)?;
        }
        done = now_done;
    }
    samples.take(&rig, started.elapsed())?;
    rig.note_growth(&samples)?;
    ensure_faults(rig.finish()?)
}

fn publish(rig: &mut Rig, jobs: usize, samples: &mut Samples, started: Instant) -> Result<()> {
    for count in parts(jobs, jobs.div_ceil(CHUNK_JOBS)) {
        let jobs = rig.load.jobs(count, &Work::Nothing);
        rig.load.publish(&jobs, Expected::Passed)?;
        samples.take(rig, started.elapsed())?;
    }
    Ok(())
}
