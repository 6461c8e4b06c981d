//! A broker that has no memory or no disk left, and blocks whoever publishes; nobody's memory grows by that.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use testkit::{PrivateNode, PrivateNodeOptions};

use crate::{
    rig::{Rig, Setup, ensure_faults},
    row::{Outcome, Trial},
    samples::Samples,
    world::Broker,
};

/// How long an alarm lasts at most.
const ALARM_MAX: Duration = Duration::from_secs(5);

pub(super) fn run(trial: &Trial) -> Result<Outcome> {
    let mut rig = Rig::new(trial, Broker::own(trial, PrivateNodeOptions::default())?, Setup::default().watched())?;
    let (mut samples, started) = (Samples::create(&trial.directory.join("alarms.csv"), None)?, Instant::now());
    samples.take(&rig, started.elapsed())?;
    rig.under_load(trial, |rig, number| {
        let resource = ["memory", "disk"][number % 2];
        let began = Instant::now();
        set_alarm(rig.world.node()?, resource)?;
        rig.progress.note_lasting_fault(began);
        rig.pause(ALARM_MAX);
        // At its end: what could not be published is held somewhere.
        samples.take(rig, started.elapsed())?;
        clear_alarm(rig.world.node()?, resource)
    })?;
    rig.note_growth(&samples);
    ensure_faults(rig.finish()?)
}

/// Raises an alarm as the node's own monitors do.
///
/// # Errors
///
/// If it is not raised.
pub(crate) fn set_alarm(node: &PrivateNode, resource: &str) -> Result<()> {
    node.evaluate(&format!("rabbit_alarm:set_alarm({{{{resource_limit, {resource}, node()}}, []}})."))?;
    let raised = node.evaluate("rabbit_alarm:get_alarms().")?;
    ensure!(raised.contains(resource), "the alarm was not raised: {raised}");
    Ok(())
}

/// Ends it.
///
/// # Errors
///
/// What the node says.
pub(crate) fn clear_alarm(node: &PrivateNode, resource: &str) -> Result<()> {
    node.evaluate(&format!("rabbit_alarm:clear_alarm({{resource_limit, {resource}, node()}})."))?;
    Ok(())
}
