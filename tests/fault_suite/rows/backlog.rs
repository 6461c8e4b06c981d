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
    daemons::{FleetOptions, wait_until},
    jobs::Work,
    limits::STALL_MAX,
    measurements::start_updater,
    rig::{Rig, Setup, ensure_faults, parts},
    row::{Outcome, Trial},
    samples::Samples,
    verdict::Expected,
    world::{Broker, terminate},
};

/// Jobs published between two samples.
const CHUNK_JOBS: usize = 10_000;
/// Between two samples while the backlog is worked off.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// Samples while the aggregator stands still, and results pile up on the stream.
const SAMPLES_STANDING_FULL: usize = 15;
const SAMPLES_STANDING_QUICK: usize = 1;
/// A worker that takes as much as it can.
const FLEET: (usize, usize) = (64, 500);

/// A daemon that stands still until this is dropped.
struct Standing(Pid);

impl Standing {
    fn new(pid: u32) -> Result<Self> {
        let pid = Pid::from_raw(i32::try_from(pid)?);
        kill(pid, Signal::SIGSTOP).with_context(|| format!("process {pid} cannot be stopped"))?;
        Ok(Self(pid))
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        // One that is gone by now is missed elsewhere.
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

pub(super) fn run(trial: &Trial) -> Result<Outcome> {
    let (concurrency, prefetch) = FLEET;
    let fleet = FleetOptions { workers: 1, concurrency, prefetch, ..FleetOptions::default() };
    let setup = Setup { fleet, ..Setup::default() }.watched();
    let mut rig = Rig::new(trial, Broker::own(trial, PrivateNodeOptions::default())?, setup)?;
    let mut updater = start_updater(&rig.world, 0)?;
    let mut samples = Samples::create(&trial.directory.join("backlog.csv"), Some(updater.pid()))?;
    let started = Instant::now();

    let worker = Standing::new(*rig.fleet.pids().first().context("there is no worker")?)?;
    publish(&mut rig, trial.amount.jobs, &mut samples, started)?;
    wait_until("every job is queued at once", STALL_MAX, || Ok(rig.world.jobs_queued()? >= trial.amount.jobs))?;
    rig.note_growth(&samples);
    drop(worker);

    let mut until = 0;
    let shares = parts(trial.amount.jobs, trial.amount.faults + 1);
    for (fault, share) in shares.into_iter().take(trial.amount.faults).enumerate() {
        until += share as u64;
        work_off(&rig, until, &mut samples, started)?;
        if fault == 0 {
            // Everybody has all that it needs to work.
            samples.begin_anew();
        }
        rig.progress.note_fault();
        let _aggregator = Standing::new(rig.aggregator.pid()?)?;
        for _ in 0..trial.pick(SAMPLES_STANDING_FULL, SAMPLES_STANDING_QUICK) {
            thread::sleep(SAMPLE_EVERY);
            samples.take(&rig, started.elapsed())?;
        }
    }
    work_off(&rig, rig.results_expected(), &mut samples, started)?;
    samples.take(&rig, started.elapsed())?;
    terminate(&mut updater).context("the updater")?;
    rig.note_growth(&samples);
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

/// Looks at everybody once a second until so many jobs are counted.
fn work_off(rig: &Rig, until: u64, samples: &mut Samples, started: Instant) -> Result<()> {
    let mut done = rig.progress.done();
    while done < until {
        samples.take(rig, started.elapsed())?;
        thread::sleep(SAMPLE_EVERY);
        let now_done = rig.progress.done();
        if now_done == done {
            rig.progress.wait_for(done + 1, STALL_MAX)?;
        }
        done = now_done;
    }
    Ok(())
}
