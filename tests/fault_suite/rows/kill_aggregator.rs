//! An aggregator that dies: at random, before a commit, and between a commit and its ack. Among the jobs are real
//! benchmarks, and an updater that dies with it: no measurement is lost between the three.

use std::time::Duration;

use anyhow::{Result, ensure};
use pipeline::failpoint::{AGGREGATOR_AFTER_COMMIT, AGGREGATOR_BEFORE_COMMIT};

use crate::{
    measurements::{BENCHMARKS, Measuring},
    rig::{Rig, Setup, ensure_faults},
    row::{Outcome, Trial},
    world::Broker,
};

/// Small batches: many commits, and many places to die at.
const BATCH_MESSAGES_MAX: usize = 50;
/// Chance to die at each commit, by the kind of death.
const PROBABILITY: f64 = 0.5;
/// How long an aggregator with fail points is given to die by them before it is killed: it may have nothing to commit.
const FAILPOINT_DEATH_MAX: Duration = Duration::from_millis(600);
/// At full size at least one in so many of them must die by its fail point.
const ARMED_PER_DEATH_MAX: usize = 3;

pub(super) fn run(trial: &Trial) -> Result<Outcome> {
    let setup = Setup {
        environment: vec![
            ("AUGUR_AGGREGATOR__BATCH_MESSAGES_MAX", BATCH_MESSAGES_MAX.to_string()),
            // What is measured here is disturbed, and must count all the same.
            ("AUGUR_WORKER__WAITED_PCT_MAX", "100".to_owned()),
            ("AUGUR_WORKER__ARITHMETIC_PCT_MIN", "0".to_owned()),
        ],
        aggregator_failpoints: failpoints(0),
        ..Setup::default()
    };
    let (broker, jobs) = (Broker::undisturbed(trial)?, trial.amount.jobs + BENCHMARKS);
    let mut rig = Rig::in_directory(&trial.directory, broker, setup, jobs, trial.random())?;
    let mut measuring = Measuring::start(&rig.world, &mut rig.load)?;
    let (mut armed, mut died_armed) = (0, 0);
    rig.under_load(trial, |rig, number| {
        let died = rig.aggregator.died_at_failpoint(FAILPOINT_DEATH_MAX)?;
        armed += usize::from(!failpoints(number).is_empty());
        died_armed += usize::from(died);
        rig.progress.note_fault();
        if !died {
            rig.aggregator.kill()?;
        }
        measuring.kill_updater(&rig.world)?;
        // The last one lives.
        let next = number + 1;
        let failpoints = if next < trial.amount.faults { failpoints(next) } else { String::new() };
        rig.aggregator.start(&rig.world, &failpoints)
    })?;
    ensure!(
        !trial.is_full || died_armed * ARMED_PER_DEATH_MAX >= armed,
        "only {died_armed} of {armed} aggregators with a fail point died there: too few prove nothing"
    );
    rig.load.wait_for_confirms()?;
    if let Err(stalled) = rig.wait_for_results() {
        rig.note_stall(&stalled);
    }
    let wrong = measuring.finish(&rig.world)?;
    rig.unexpected.extend(wrong);
    ensure_faults(rig.finish()?)
}

/// Every third aggregator dies before a commit, every third after one, every third at random by our hand.
fn failpoints(number: usize) -> String {
    match number % 3 {
        0 => format!("{AGGREGATOR_BEFORE_COMMIT}:{PROBABILITY}"),
        1 => format!("{AGGREGATOR_AFTER_COMMIT}:{PROBABILITY}"),
        _ => String::new(),
    }
}
