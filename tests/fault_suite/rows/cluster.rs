//! One node of a cluster of three that is killed and comes back.

use std::{thread, time::Duration};

use anyhow::Result;
use testkit::Cluster;

use crate::{
    rig::{Rig, Setup, ensure_faults},
    row::{Outcome, Trial},
    world::Broker,
};

/// Nodes: the fewest of which one may go.
const NODES: usize = 3;
/// How long a node stays away at most.
const AWAY_MAX: Duration = Duration::from_secs(5);
/// What has just been declared must be on the disks of all nodes.
const QUEUES_SETTLE: Duration = Duration::from_secs(2);

pub(super) fn run(trial: &Trial) -> Result<Outcome> {
    let cluster = Cluster::start(NODES)?;
    let mut rig = Rig::new(trial, Broker::Cluster(cluster), Setup::default())?;
    thread::sleep(QUEUES_SETTLE);
    rig.under_load(trial, |rig, number| {
        let killed = rig.random.usize(..NODES);
        rig.progress.note_fault();
        rig.world.nodes()[killed].kill()?;
        rig.pause(AWAY_MAX);
        rig.world.nodes()[killed].restart()?;
        rig.recover_after_odd(number)
    })?;
    ensure_faults(rig.finish()?)
}
