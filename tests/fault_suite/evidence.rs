//! Gathers what is left after a row: the table, the result stream and the dead letters, each read for itself.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use broker::{AmqpUrl, Delivery, Patience, Settlement, Start, Subscription, stream_end};
use messages::{FailedAttempt, Job, JobResult, Message, RunId};
use store::Store;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use topology::names;

use crate::{
    limits::{CONFIRM_MAX, EVIDENCE_PREFETCH, FIRST_DELIVERY_MAX, LOOK_AGAIN, SILENCE_MAX, STREAM_UP_MAX},
    verdict::{Counted, Evidence, Letter},
    world::World,
};

/// Stream messages between two acks.
const ACK_EVERY_MESSAGES: usize = 500;

/// Gathers everything about one run; its aggregator must have stopped.
///
/// # Errors
///
/// What the database or the broker says.
pub(crate) fn gather(world: &World, run: RunId) -> Result<Evidence> {
    let mut evidence = table(world, run)?;
    world.runtime.block_on(async {
        read_stream(&world.url, &mut evidence).await?;
        evidence.dead = dead_letters(&world.url, run).await?;
        Ok(evidence)
    })
}

/// The rows of the run in the aggregator's table, and how many results and dead jobs the run counts.
fn table(world: &World, run: RunId) -> Result<Evidence> {
    let store = Store::open(&world.database())?;
    let (done, dead) = store.run(run)?.map_or((0, 0), |run| (run.done, run.dead));
    let rows = store.run_results(run)?;
    let rows = rows.into_iter().map(|row| Counted { job_id: row.job_id, status: row.status });
    let (results_counted, dead_counted) = (usize::try_from(done)?, usize::try_from(dead)?);
    Ok(Evidence { counted: rows.collect(), results_counted, dead_counted, ..Evidence::default() })
}

/// Reads the result stream from its first message to its last.
async fn read_stream(url: &AmqpUrl, evidence: &mut Evidence) -> Result<()> {
    let Some(end) = end_once_up(url).await? else { return Ok(()) };
    let mut stream = subscribe(url, names::RESULTS, Start::StreamFirst).await?;
    for read in 1_usize.. {
        let next = timeout(FIRST_DELIVERY_MAX, stream.next()).await;
        let delivery = next.context("the result stream falls silent before its end")?.context("the stream ended")?;
        let offset = delivery.stream_offset().context("a message of a stream has no offset")?;
        let record = match delivery.message_type() {
            Some(JobResult::TYPE) => Some(delivery.decode::<JobResult>()?),
            Some(FailedAttempt::TYPE) => {
                let FailedAttempt { result, .. } = delivery.decode()?;
                note_attempt(evidence, &result);
                None
            }
            Some(_) => None,
            None => bail!("message {offset} of the result stream has no type"),
        };
        if let Some(result) = record {
            note_attempt(evidence, &result);
            evidence.on_stream.entry(result.job.job_id.to_string()).or_default().push(result.attempt);
        }
        if offset >= end {
            return Ok(());
        }
        if read % ACK_EVERY_MESSAGES == 0 {
            delivery.settle(Settlement::DoneThrough).await?;
        }
    }
    Ok(())
}

/// A broker that has just started takes connections before its streams are up.
async fn end_once_up(url: &AmqpUrl) -> Result<Option<u64>> {
    let deadline = Instant::now() + STREAM_UP_MAX;
    loop {
        match stream_end(url, names::RESULTS).await {
            Err(error) if error.is_transient() && Instant::now() < deadline => sleep(LOOK_AGAIN).await,
            answer => return Ok(answer?.map(|end| end.offset)),
        }
    }
}

fn note_attempt(evidence: &mut Evidence, result: &JobResult) {
    let highest = evidence.attempts.entry(result.job.job_id.to_string()).or_default();
    *highest = result.attempt.max(*highest);
}

/// Looks at all dead letters and leaves them where they are: by message id, whichever are of this run.
///
/// # Errors
///
/// What the broker says.
pub(crate) async fn dead_letters(url: &AmqpUrl, run: RunId) -> Result<BTreeMap<String, Letter>> {
    let mut queue = subscribe(url, names::DEAD_LETTERS, Start::Queue).await?;
    let mut letters: BTreeMap<String, Letter> = BTreeMap::new();
    // Kept unsettled, so that each is delivered once; all return when the subscription is dropped.
    let mut held = Vec::new();
    while let Ok(Some(delivery)) = timeout(SILENCE_MAX, queue.next()).await {
        let id = delivery.message_id().unwrap_or("without an id").to_owned();
        let job = delivery.decode::<Job>().ok();
        let letter = letters.entry(id).or_default();
        letter.reasons.insert(reason(&delivery, job.is_some()));
        let of = job.map_or_else(|| delivery.run_id(), |job| Some(job.run.run_id));
        letter.is_of_run |= of == Some(run);
        held.push(delivery);
    }
    Ok(letters)
}

/// Why a letter lies there, as `docs/operator.md` has it: the word of whoever sent it there, else the broker's for what
/// can be read.
fn reason(letter: &Delivery, decodes: bool) -> String {
    match (letter.reason(), letter.death()) {
        (Some(ours), _) => ours.to_owned(),
        (None, _) if !decodes => "undecodable".to_owned(),
        (None, Some(death)) => death.reason.replace('_', "-"),
        (None, None) => "unknown".to_owned(),
    }
}

async fn subscribe(url: &AmqpUrl, queue: &str, start: Start) -> Result<Subscription> {
    // Dead letters are not settled while they are looked at: all must fit.
    let prefetch = if start == Start::Queue { u16::MAX } else { EVIDENCE_PREFETCH };
    let stop = CancellationToken::new();
    let patience = Patience::For(CONFIRM_MAX);
    Ok(Subscription::start(url, "fault suite evidence", queue, start, prefetch, patience, &stop).await?)
}
