//! Random faults under a steady load for a long time: nothing is lost, and nothing grows.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use broker::AmqpUrl;
use testkit::{PrivateNode, PrivateNodeOptions, TcpProxy};

use crate::{
    daemons::FleetOptions,
    measurements::start_updater,
    report,
    rig::{Rig, Setup},
    row::scratch_directory,
    rows::{CLOSE_ALL_CONNECTIONS, alarms},
    samples::Samples,
    world::{Broker, terminate},
};

/// Jobs per second: a load under which two cores are mostly idle, so that queues stay short.
const JOBS_PER_SECOND: usize = 20;
/// Between two samples.
const SAMPLE_EVERY: Duration = Duration::from_secs(10);
/// Between two faults, at least and at most.
const FAULT_EVERY_S: std::ops::RangeInclusive<u64> = 5..=20;
/// The aggregator and the broker end in the first half only, so that in the end their age shows.
const DEATHS_UNTIL: f64 = 0.5;
/// How long an alarm lasts, or the broker stays away, at most.
const LASTS_MAX: Duration = Duration::from_secs(5);
/// One step of the loop.
const STEP: Duration = Duration::from_secs(1);
/// Lease of a claim, in seconds.
const LEASE_S: u64 = 12;

/// The faults of a soak.
#[derive(Debug, Clone, Copy)]
enum Fault {
    KillWorker,
    RollWorker,
    KillAggregator,
    CloseConnections,
    ResetConnections,
    Alarm(&'static str),
    RestartBroker,
    KillBroker,
}

/// Whether nothing was lost and nothing grew.
///
/// # Errors
///
/// If something does not start, or the samples cannot be written.
pub(crate) fn run(minutes: f64, seed: u64) -> Result<bool> {
    let duration = Duration::try_from_secs_f64(minutes * 60.0).context("this is no number of minutes")?;
    let directory = scratch_directory("soak")?;
    println!("soak of {minutes} minutes, seed {seed}; samples and logs: {}", directory.display());
    let options = PrivateNodeOptions { directory: Some(directory.join("node")), ..PrivateNodeOptions::default() };
    let node = PrivateNode::start_with(&options)?;
    let proxy = TcpProxy::start_at(node.port())?;
    let through = proxy.url_through(&node.url().parse::<AmqpUrl>()?).reveal();
    let setup = Setup {
        // The first lives to the end; faults meet the other.
        fleet: FleetOptions { workers: 2, ..FleetOptions::default() },
        environment: vec![("AUGUR_WORKER__LEASE_S", LEASE_S.to_string())],
        through: Some(through),
        ..Setup::default()
    };
    let steps = usize::try_from(duration.as_secs() / STEP.as_secs())?;
    let random = fastrand::Rng::with_seed(seed);
    let mut rig = Rig::in_directory(&directory, Broker::Own(node), setup, steps * JOBS_PER_SECOND, random)?;
    let mut updater = start_updater(&rig.world, 0)?;
    let mut samples = Samples::create(&directory.join("soak.csv"), Some(updater.pid()))?;
    let started = Instant::now();
    let (mut next_sample, mut next_fault) = (SAMPLE_EVERY, Duration::from_secs(rig.random.u64(FAULT_EVERY_S)));
    for step in 0..steps {
        rig.publish_nothing(JOBS_PER_SECOND);
        let elapsed = started.elapsed();
        if elapsed >= next_fault {
            inject(&mut rig, &proxy, elapsed.as_secs_f64() / duration.as_secs_f64())?;
            next_fault = started.elapsed() + Duration::from_secs(rig.random.u64(FAULT_EVERY_S));
        }
        if elapsed >= next_sample {
            samples.take(&rig, elapsed)?;
            next_sample += SAMPLE_EVERY;
        }
        let due = STEP * u32::try_from(step + 1)?;
        thread::sleep(due.saturating_sub(started.elapsed()));
    }
    if let Err(error) = terminate(&mut updater) {
        rig.unexpected.push(format!("the updater: {error:#}"));
    }
    let outcome = rig.finish()?;
    let grown = samples.print_growth();
    let verdict = &outcome.verdict;
    println!(
        "{} jobs, {} faults: {} lost, {} counted twice, {} unexpected",
        verdict.submitted,
        outcome.faults,
        verdict.lost.len(),
        verdict.counted_twice.len(),
        verdict.unexpected.len()
    );
    report::print_crimes(verdict);
    Ok(verdict.is_clean() && grown.is_empty())
}

/// Injects one fault; `share` says how much of the soak is over.
fn inject(rig: &mut Rig, proxy: &TcpProxy, share: f64) -> Result<()> {
    let mut faults = vec![
        Fault::KillWorker,
        Fault::RollWorker,
        Fault::CloseConnections,
        Fault::ResetConnections,
        Fault::Alarm("memory"),
        Fault::Alarm("disk"),
    ];
    if share < DEATHS_UNTIL {
        faults.extend([Fault::KillAggregator, Fault::RestartBroker, Fault::KillBroker]);
    }
    let fault = faults[rig.random.usize(..faults.len())];
    rig.progress.note_fault();
    match fault {
        Fault::KillWorker => rig.fleet.kill_last(&rig.world),
        Fault::RollWorker => rig.fleet.roll_last(&rig.world),
        Fault::CloseConnections => Ok(rig.world.node()?.evaluate(CLOSE_ALL_CONNECTIONS).map(drop)?),
        Fault::ResetConnections => {
            proxy.reset_all();
            Ok(())
        }
        Fault::Alarm(resource) => {
            alarms::set_alarm(rig.world.node()?, resource)?;
            rig.pause(LASTS_MAX);
            alarms::clear_alarm(rig.world.node()?, resource)
        }
        Fault::RestartBroker => {
            rig.world.node()?.stop()?;
            rig.pause(LASTS_MAX);
            Ok(rig.world.node()?.restart()?)
        }
        Fault::KillBroker => {
            rig.world.node()?.kill()?;
            rig.pause(LASTS_MAX);
            Ok(rig.world.node()?.restart()?)
        }
        Fault::KillAggregator => {
            rig.aggregator.kill()?;
            rig.aggregator.start(&rig.world, "")
        }
    }
    .with_context(|| format!("{fault:?}"))
}
