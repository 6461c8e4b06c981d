//! Jobs that run longer than the broker waits for an ack: each is claimed, runs once, and is counted once.

use anyhow::{Result, ensure};
use testkit::PrivateNodeOptions;

use crate::{
    daemons::{Fleet, FleetOptions},
    jobs::{Work, times_begun},
    rig::{Rig, Setup},
    row::{Outcome, Trial},
    verdict::Expected,
    world::Broker,
};

/// RabbitMQ's acknowledgement timeout, in milliseconds.
const ACK_TIMEOUT_MS: u64 = 3_000;
/// How often RabbitMQ looks for overdue deliveries, in milliseconds; a minute by default.
const TICK_MS: u64 = 500;
/// When a worker claims a job, in seconds: well before the timeout.
const CLAIM_AFTER_S: u64 = 1;
/// How long each job takes, in milliseconds: the timeout strikes twice.
const JOB_MS: u64 = 7_500;

pub(super) fn run(trial: &Trial) -> Result<Outcome> {
    let options = PrivateNodeOptions { consumer_timeout_ms: Some(ACK_TIMEOUT_MS), ..PrivateNodeOptions::default() };
    let fleet = FleetOptions { workers: 2, concurrency: 8, prefetch: 8, failpoints: String::new() };
    let setup = Setup {
        fleet: FleetOptions { workers: 0, ..fleet.clone() },
        environment: vec![("AUGUR_WORKER__CLAIM_AFTER_S", CLAIM_AFTER_S.to_string())],
        ..Setup::default()
    };
    let mut rig = Rig::new(trial, Broker::own(trial, options)?, setup)?;
    // Read by each channel when it opens, so before any worker comes.
    rig.world.node()?.evaluate(&format!("application:set_env(rabbit, channel_tick_interval, {TICK_MS})."))?;
    let timeout = rig.world.node()?.evaluate("application:get_env(rabbit, consumer_timeout).")?;
    ensure!(timeout == format!("{{ok, {ACK_TIMEOUT_MS}}}"), "the node's ack timeout is {timeout}");
    rig.fleet = Fleet::start(&rig.world, fleet)?;
    let jobs = rig.load.jobs(trial.amount.jobs, &Work::Long { duration_ms: JOB_MS });
    rig.load.publish(&jobs, Expected::Passed)?;
    rig.wait_for_results()?;
    let times = times_begun(&rig.world.directory)?;
    rig.unexpected
        .extend(times.iter().filter(|(_, times)| **times > 1).map(|(id, times)| format!("{id} ran {times} times")));
    let mut outcome = rig.finish()?;
    outcome.faults = times.len();
    if outcome.verdict.redeliveries > 0 {
        outcome.verdict.unexpected.push("a job that outlasts the ack timeout was handed out again".to_owned());
    }
    Ok(outcome)
}
