//! A broker that goes away and comes back.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use testkit::{PrivateNode, PrivateNodeError, PrivateNodeOptions};

use crate::{
    rig::{Rig, Setup, ensure_faults},
    row::{Outcome, Trial},
    world::Broker,
};

/// How long a broker stays away at most.
const AWAY_MAX: Duration = Duration::from_secs(2);
/// RabbitMQ 3.10.8 forgets a quorum queue that was declared less than half a second before a `kill -9`.
const QUEUES_SETTLE: Duration = Duration::from_secs(1);

/// Stopped in good order.
pub(super) fn restarted(trial: &Trial) -> Result<Outcome> {
    run(trial, PrivateNode::stop)
}

/// `kill -9`.
pub(super) fn killed(trial: &Trial) -> Result<Outcome> {
    run(trial, PrivateNode::kill)
}

fn run(trial: &Trial, end: fn(&PrivateNode) -> Result<(), PrivateNodeError>) -> Result<Outcome> {
    let mut rig = Rig::new(trial, Broker::own(trial, PrivateNodeOptions::default())?, Setup::default())?;
    thread::sleep(QUEUES_SETTLE);
    rig.under_load(trial, |rig, number| {
        let began = Instant::now();
        end(rig.world.node()?)?;
        rig.progress.note_lasting_fault(began);
        rig.pause(AWAY_MAX);
        rig.world.node()?.restart()?;
        rig.recover_after_odd(number)
    })?;
    ensure_faults(rig.finish()?)
}
