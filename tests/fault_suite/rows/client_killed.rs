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

/// From the moment at which a client begins to publish to its end: about as long as its confirms take.
const KILLED_AFTER_MAX: Duration = Duration::from_millis(15);

pub(super) fn run(trial: &Trial) -> Result<Outcome> {
    let mut rig = Rig::new(trial, Broker::undisturbed(trial)?, Setup::default())?;
    let part = trial.amount.jobs / trial.amount.faults;
    let mut unconfirmed = 0;
    for _ in 0..trial.amount.faults {
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
        rig.pause(KILLED_AFTER_MAX);
        rig.progress.note_fault();
        client.kill()?;
        unconfirmed += usize::from(client.wait_for_line("confirmed", CONFIRM_MAX).is_err());
        let mut again = submit_child(&rig.world, &order)?;
        again.wait_for_line("confirmed", CONFIRM_MAX).context("the second client did not finish")?;
        rig.load.confirm(ids());
    }
    let enough = trial.pick(trial.amount.faults / 2, 1);
    ensure!(
        unconfirmed >= enough,
        "only {unconfirmed} clients were killed before all was confirmed: too few prove nothing"
    );
    ensure_faults(rig.finish()?)
}
