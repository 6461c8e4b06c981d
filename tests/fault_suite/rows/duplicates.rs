//! Every job published three times, and every dead letter there twice and replayed twice: each counts once.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use broker::{Outgoing, Patience, Settlement, Start, Subscription};
use messages::{Encoded, Job, Message};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use topology::names;

use crate::{
    daemons::wait_until,
    evidence,
    jobs::Work,
    limits::{CONFIRM_MAX, SILENCE_MAX},
    rig::{Rig, Setup},
    row::{Outcome, Trial},
    verdict::Expected,
    world::{Broker, World},
};

/// How often each job is published.
const COPIES: usize = 3;
/// Of this many jobs, one fails until its machine is mended and so becomes a dead letter first.
const DEAD_LETTER_EVERY: usize = 50;
/// How long the failing jobs may take to become dead letters: two attempts of half a second each and a delay, of
/// eight at a time in each worker.
const DEAD_LETTERS_MAX: Duration = Duration::from_mins(10);

pub(super) fn run(trial: &Trial) -> Result<Outcome> {
    let mut rig = Rig::new(trial, Broker::undisturbed(trial)?, Setup::default())?;
    let failing = (trial.amount.jobs / DEAD_LETTER_EVERY).max(2);
    let jobs = rig.load.jobs(failing, &Work::HangUntilMended);
    rig.load.publish(&jobs, Expected::Passed)?;
    // The last one comes behind all copies of the others: once it is counted, they have been seen.
    let jobs = rig.load.jobs(trial.amount.jobs - failing - 1, &Work::Nothing);
    for _ in 0..COPIES {
        let mut copy = jobs.clone();
        rig.random.shuffle(&mut copy);
        rig.load.publish(&copy, Expected::Passed)?;
    }
    wait_until("every failing job is a dead letter", DEAD_LETTERS_MAX, || {
        Ok(rig.world.runtime.block_on(evidence::dead_letters(&rig.world.url, rig.load.run.run_id))?.len() >= failing)
    })?;
    let doubled = double_dead_letters(&rig)?;
    std::fs::write(rig.world.directory.join("mended"), "").context("failed to mend the machine")?;
    for round in ["first", "second"] {
        replay_dead_letters(&rig.world).with_context(|| format!("{round} replay"))?;
    }
    rig.publish_nothing(1);
    let mut outcome = rig.finish()?;
    outcome.faults = (COPIES - 1) * jobs.len() + doubled;
    Ok(outcome)
}

/// Puts a copy of each dead letter beside it, as dead-lettering at least once may; gives how many.
fn double_dead_letters(rig: &Rig) -> Result<usize> {
    let copies = rig.world.runtime.block_on(take_copies(&rig.world))?;
    let count = copies.len();
    copies.into_iter().try_for_each(|copy| rig.load.publish_raw(copy).context("a copy was not stored"))?;
    Ok(count)
}

async fn take_copies(world: &World) -> Result<Vec<Outgoing>> {
    let (patience, stop) = (Patience::For(CONFIRM_MAX), CancellationToken::new());
    let queue = names::DEAD_LETTERS;
    let mut letters =
        Subscription::start(&world.url, "fault suite copies", queue, Start::Queue, u16::MAX, patience, &stop).await?;
    let (mut copies, mut held) = (Vec::new(), Vec::new());
    while let Ok(Some(letter)) = timeout(SILENCE_MAX, letters.next()).await {
        let schema_version = letter.schema_version().context("a dead letter has no schema version")?;
        let message = Encoded { message_type: Job::TYPE, schema_version, body: letter.body().to_vec() };
        let message_id = letter.message_id().context("a dead letter has no id")?.to_owned();
        copies.push(Outgoing::new(queue, letter.routing_key(), message_id, message).attempt(letter.attempt()));
        held.push(letter);
    }
    for letter in held {
        letter.settle(Settlement::Return).await?;
    }
    Ok(copies)
}

/// Two people replay the dead letters at the same time.
fn replay_dead_letters(world: &World) -> Result<()> {
    let replay = || world.augur(&["dead-letter", "replay"]);
    let (one, other) = std::thread::scope(|scope| {
        let other = scope.spawn(replay);
        (replay(), other.join())
    });
    for answer in [one, other.unwrap_or_else(|_| Err(anyhow::anyhow!("the other replay panicked")))] {
        let answer = answer?;
        ensure!(answer.code == Some(0), "dead letters were not replayed: {answer:#?}");
    }
    Ok(())
}
