//! Workers that are told to drain and are replaced: what they cannot finish goes back without a charge.

use std::time::Duration;

use anyhow::Result;

use crate::{
    jobs::Work,
    rig::{PART_SPREAD, Rig, Setup, ensure_faults},
    row::{Outcome, Trial},
    verdict::Expected,
    world::Broker,
};

/// How long a draining worker lets its jobs run, in seconds.
const GRACE_S: u64 = 1;
/// A job that mostly ends within the grace period, in milliseconds.
const SHORT_MS: u64 = 200;
/// A job that mostly does not, in milliseconds.
const LONG_MS: u64 = 2_500;
/// From the publishing of a part to the signal, at most.
const SIGNAL_AFTER_MAX: Duration = Duration::from_millis(300);

pub(super) fn run(trial: &Trial) -> Result<Outcome> {
    let environment = vec![("AUGUR_WORKER__GRACE_S", GRACE_S.to_string())];
    let mut rig = Rig::new(trial, Broker::undisturbed(trial)?, Setup { environment, ..Setup::default() })?;
    let part = trial.amount.jobs / trial.amount.faults;
    for _ in 0..trial.amount.faults {
        let mut jobs = rig.load.jobs(1, &Work::Long { duration_ms: LONG_MS });
        jobs.extend(rig.load.jobs(1, &Work::Long { duration_ms: SHORT_MS }));
        jobs.extend(rig.load.jobs(part - 2, &Work::Nothing));
        rig.random.shuffle(&mut jobs);
        rig.load.publish_in_background(jobs, Expected::Passed, PART_SPREAD);
        rig.pause(SIGNAL_AFTER_MAX);
        rig.progress.note_fault();
        rig.fleet.roll_one(&rig.world, &mut rig.random)?;
    }
    let mut outcome = ensure_faults(rig.finish()?)?;
    if outcome.verdict.redeliveries > 0 {
        let redeliveries = outcome.verdict.redeliveries;
        outcome.verdict.unexpected.push(format!("{redeliveries} jobs were charged for a rolling restart"));
    }
    Ok(outcome)
}
