//! Messages that no queue takes: whoever publishes one is told, and what was confirmed is there. A policy by which a
//! lane would lose what it confirmed is found by `topology check`.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use broker::{BrokerError, Outgoing, Patience, Publisher};
use futures_util::future::join_all;
use messages::{Job, Priority};
use testkit::PrivateNodeOptions;
use tokio_util::sync::CancellationToken;
use topology::{ArgumentValue, Observed, ObservedState, Plan, ServerVersion, Topology, names};

use crate::{
    daemons::{Fleet, FleetOptions, wait_until},
    jobs::Work,
    limits::STALL_MAX,
    load::outgoing,
    rig::{Rig, Setup},
    row::{Outcome, Trial},
    verdict::Expected,
    world::{Answer, Broker, World, free_port},
};

/// How many messages the lane with the drifted limit takes, and how many the lane under the policy keeps.
const LANE_MESSAGES_MAX: u8 = 3;
/// Messages that go one after the other, enough to fill such a lane.
const FILLING: usize = LANE_MESSAGES_MAX as usize + 2;
/// How long a message is published again and again to a lane that refuses it.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often the node looks at its queues for the management API, in milliseconds; every five seconds by default.
const LOOK_EVERY_MS: u64 = 500;
/// The policy's name.
const POLICY: &str = "drop";
/// Exit code of a check that found something.
const UNWELCOME: i32 = 1;

/// What a lane does with what is published to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    Some,
}

pub(super) fn run(trial: &Trial) -> Result<Outcome> {
    let nobody = FleetOptions { workers: 0, ..FleetOptions::default() };
    let management_port = free_port()?;
    let management_url = format!("http://guest:guest@127.0.0.1:{management_port}");
    let environment = vec![("AUGUR_BROKER__MANAGEMENT_URL", management_url)];
    let setup = Setup { fleet: nobody, environment, ..Setup::default() };
    let mut rig = Rig::new(trial, managed(trial, management_port)?, setup)?;
    let part = trial.amount.jobs / trial.amount.faults;

    refuses(&mut rig, part, |_| "cpu.sooner".to_owned(), Priority::Normal, Takes::Nothing)?;

    let [low, high, critical] = [Priority::Low, Priority::High, Priority::Critical].map(lane);
    delete_queue(&rig.world, &low)?;
    check_finds_drift(&rig.world, &low)?;
    refuses(&mut rig, part, Job::routing_key, Priority::Low, Takes::Nothing)?;
    rig.world.expect(&["topology", "apply"], 0)?;
    rig.world.expect(&["topology", "check"], 0)?;

    drop_by_policy(&rig.world, &critical)?;
    check_finds_policy(&rig.world, &critical)?;
    // No more than the lane keeps: what comes on top is confirmed, and the oldest is gone.
    let kept = part.min(LANE_MESSAGES_MAX.into());
    takes(&mut rig, kept, Priority::Critical)?;
    rig.world.node()?.ctl(&["clear_policy", "-p", rig.world.virtual_host(), POLICY])?;
    wait_until("the check finds no policy", STALL_MAX, || Ok(check(&rig.world)?.code == Some(0)))?;
    takes(&mut rig, part - kept, Priority::Critical)?;

    drift(&rig.world, &high)?;
    check_finds_drift(&rig.world, &high)?;
    refuses(&mut rig, part, Job::routing_key, Priority::High, Takes::Some)?;

    rig.fleet = Fleet::start(&rig.world, FleetOptions::default())?;
    let mut outcome = rig.finish()?;
    outcome.faults = trial.amount.faults;
    Ok(outcome)
}

/// A node of the row's own that shows what its policies do.
fn managed(trial: &Trial, port: u16) -> Result<Broker> {
    let listener = ["ip = 127.0.0.1".to_owned(), format!("port = {port}")].map(|line| format!("management.tcp.{line}"));
    let looks = format!("collect_statistics_interval = {LOOK_EVERY_MS}");
    let options = PrivateNodeOptions {
        plugins: vec!["rabbitmq_management".to_owned()],
        configuration: listener.into_iter().chain([looks]).collect(),
        ..PrivateNodeOptions::default()
    };
    let broker = Broker::own(trial, options)?;
    if let Broker::Own(node) = &broker {
        // Read by each quorum queue when it is declared.
        node.evaluate(&format!("application:set_env(rabbit, quorum_tick_interval, {LOOK_EVERY_MS})."))?;
    }
    Ok(broker)
}

/// Publishes jobs to a lane; each is confirmed and must run.
fn takes(rig: &mut Rig, count: usize, priority: Priority) -> Result<()> {
    let jobs: Vec<Job> = rig.load.jobs(count, &Work::Nothing).into_iter().map(|job| Job { priority, ..job }).collect();
    rig.load.publish(&jobs, Expected::Passed)
}

/// Publishes jobs; each is confirmed and must run, or refused with an error and must not.
fn refuses(
    rig: &mut Rig,
    count: usize,
    routing_key: impl Fn(&Job) -> String,
    priority: Priority,
    takes: Takes,
) -> Result<()> {
    let jobs: Vec<Job> = rig.load.jobs(count, &Work::Nothing).into_iter().map(|job| Job { priority, ..job }).collect();
    rig.load.expect(jobs.iter().map(|job| job.job_id.to_string()), Expected::Passed);
    let messages = jobs.iter().map(|job| Ok(Outgoing { routing_key: routing_key(job), ..outgoing(job)? }));
    let messages: Vec<Outgoing> = messages.collect::<Result<_>>()?;
    let answers = rig.world.runtime.block_on(async {
        let patience = Patience::For(PATIENCE);
        let publisher = Publisher::start(&rig.world.url, "fault suite", patience, CancellationToken::new()).await?;
        let mut messages = messages.into_iter().map(|message| publisher.publish(message));
        let mut answers = Vec::new();
        // A quorum queue refuses from the message after the one that filled it, and lets pass what comes with that.
        for publishing in messages.by_ref().take(FILLING) {
            answers.push(publishing.await);
        }
        answers.extend(join_all(messages).await);
        Ok::<_, BrokerError>(answers)
    })?;
    let mut refused = 0;
    for (job, answer) in jobs.iter().zip(answers) {
        match answer {
            Ok(()) => rig.load.confirm(std::iter::once(job.job_id.to_string())),
            Err(BrokerError::Unroutable { .. } | BrokerError::Refused { .. }) => refused += 1,
            Err(error) => rig.unexpected.push(format!("job {} was not refused but: {error}", job.job_id)),
        }
    }
    let right = if takes == Takes::Nothing { refused == count } else { refused > 0 };
    if !right {
        rig.unexpected.push(format!("{refused} of {count} messages to a broken lane ({priority}) were refused"));
    }
    Ok(())
}

fn lane(priority: Priority) -> String {
    names::lane(messages::Platform::Cpu, priority)
}

fn delete_queue(world: &World, queue: &str) -> Result<()> {
    world.node()?.ctl(&["delete_queue", queue, "-p", world.virtual_host()])?;
    Ok(())
}

fn check_finds_drift(world: &World, queue: &str) -> Result<()> {
    let found = world.expect(&["topology", "check"], UNWELCOME)?;
    ensure!(found.contains(queue), "the check does not name {queue}:\n{found}");
    Ok(())
}

/// Declares a lane anew with another limit, as an older or a foreign `queues.yaml` would.
fn drift(world: &World, queue: &str) -> Result<()> {
    delete_queue(world, queue)?;
    let mut topology = Topology::embedded()?;
    topology.exchanges.clear();
    topology.queues.retain(|declared| declared.name == queue);
    topology.bindings.retain(|binding| binding.queue == queue);
    let lane = topology.queues.first_mut().with_context(|| format!("queues.yaml has no {queue}"))?;
    lane.arguments.insert("x-max-length".to_owned(), ArgumentValue::Int(LANE_MESSAGES_MAX.into()));
    let mut observed = Observed::new();
    observed.set_queue(queue, ObservedState::Absent);
    let plan: Plan = topology::plan(&topology, &ServerVersion::OLDEST, &observed)?;
    world.runtime.block_on(broker::apply(&world.url, &plan))?;
    Ok(())
}

/// Lets a lane lose its oldest jobs in silence, as an operator might, past `queues.yaml`.
fn drop_by_policy(world: &World, queue: &str) -> Result<()> {
    let pattern = format!("^{}$", queue.replace('.', "\\."));
    let definition = format!("{{\"overflow\":\"drop-head\",\"max-length\":{LANE_MESSAGES_MAX}}}");
    let policy = ["set_policy", "-p", world.virtual_host(), "--apply-to", "queues", POLICY, &pattern, &definition];
    world.node()?.ctl(&policy)?;
    Ok(())
}

/// The management API shows a policy only after a while.
fn check_finds_policy(world: &World, queue: &str) -> Result<()> {
    let mut found = String::new();
    wait_until("the check finds the policy", STALL_MAX, || {
        let answer = check(world)?;
        found = answer.stdout;
        Ok(answer.code == Some(UNWELCOME))
    })?;
    let named = format!("queue {queue}: policy `{POLICY}` sets overflow to \"drop-head\"");
    ensure!(found.contains(&named), "the check does not say \"{named}\":\n{found}");
    Ok(())
}

fn check(world: &World) -> Result<Answer> {
    world.augur(&["topology", "check"])
}
