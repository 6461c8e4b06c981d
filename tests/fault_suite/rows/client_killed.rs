//! A client that is killed while the broker confirms, and begins again with the same ids.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::{
    children::{SubmitOrder, submit_child},
    limits::CONFIRM_MAX,
    rig::{Rig, Setup, ensure_faults},
    row::{Outcome, Trial},
    verdict::Expected,
    world::Broker,
};

/// From the moment at which a client begins to publish to its end, at most: about as long as its confirms take. One
/// that had all of them is no fault, and the next has half as long.
const KILLED_AFTER_MAX: Duration = Duration::from_millis(15);
/// Clients started for each that must die before its confirms, at most.
const TRIES_PER_FAULT_MAX: usize = 10;

pub(super) fn run(trial: &Trial) -> Result<Outcome> {
    let faults = trial.amount.faults;
    let (part, tries_max) = (trial.amount.jobs / faults, faults * TRIES_PER_FAULT_MAX);
    let broker = Broker::undisturbed(trial)?;
    let mut rig = Rig::in_directory(&trial.directory, broker, Setup::default(), part * tries_max, trial.random())?;
    let (mut unconfirmed, mut killed_after_max) = (0, KILLED_AFTER_MAX);
    for _ in 0..tries_max {
        if unconfirmed == faults {
            break;
        }
        let order = SubmitOrder {
            url: rig.world.url.reveal(),
            run: rig.load.run.clone(),
            seed: rig.random.u64(..),
            jobs: part,
        };
        let ids = || order.job_ids().into_iter().map(|id| id.to_string());
        rig.load.expect(ids(), Expected::Passed);
        let mut client = submit_child(&rig.world, &order)?;
        client.wait_for_line("publishing", CONFIRM_MAX).context("the client did not begin")?;
        rig.pause(killed_after_max);
        client.kill()?;
        if client.wait_for_line("confirmed", CONFIRM_MAX).is_ok() {
            killed_after_max /= 2;
        } else {
            killed_after_max = (killed_after_max * 2).min(KILLED_AFTER_MAX);
            unconfirmed += 1;
            rig.progress.note_fault();
            let mut again = submit_child(&rig.world, &order)?;
            again.wait_for_line("confirmed", CONFIRM_MAX).context("the second client did not finish")?;
        }
        rig.load.confirm(ids());
    }
    ensure!(
        unconfirmed == faults,
        "only {unconfirmed} of {faults} clients were killed before all was confirmed, in {tries_max} tries"
    );
    ensure_faults(rig.finish()?)
}
