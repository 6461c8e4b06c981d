//! Dead letters: looking at them, sending them back to their lanes, deleting them.
//!
//! The queue is the truth, not the database: it holds whole messages, also those that nobody could decode. Looking takes
//! nothing: what is not settled returns to the queue in its order. A letter is settled only once what became of it is
//! confirmed, so that dying in between leaves it where it was; sent back twice, its job still counts once.

mod letter;

use std::collections::HashSet;

use broker::{AmqpUrl, BrokerError, Delivery, Patience, Publisher, QueueReader, Settlement};
use futures_util::{StreamExt, stream::FuturesUnordered};
use messages::{DeadLetterReplayed, Job, JobId, RunId, Timestamp};
use tokio_util::sync::CancellationToken;
use topology::names;

use crate::{
    PipelineError,
    delivery::{ensure_fits, outgoing_record, outgoing_submitted},
};
pub use letter::DeadLetter;

/// Letters on their way back at once.
const WINDOW_LETTERS_MAX: usize = 500;

/// Which letters; all that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Jobs of this run.
    pub run: Option<RunId>,
    /// This job.
    pub job: Option<JobId>,
    /// Letters with this reason, see [`DeadLetter::reason`].
    pub reason: Option<String>,
    /// At most so many of those, from the head of the queue.
    pub limit: Option<usize>,
}

impl Filter {
    /// Whether a letter is one of them, the limit aside.
    pub fn matches(&self, letter: &DeadLetter) -> bool {
        self.run.is_none_or(|run| letter.run_id == Some(run))
            && self.job.is_none_or(|job| letter.job_id == Some(job))
            && self.reason.as_ref().is_none_or(|reason| *reason == letter.reason)
    }
}

/// What becomes of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It stays and was looked at.
    Listed,
    /// Its job goes back to its lane.
    Replayed,
    /// It is deleted: the same letter has gone back already. The broker moves letters at least once.
    Duplicate,
    /// It stays: nobody can decode it, or no worker takes it because it is too large.
    Undecodable,
    /// It is deleted.
    Purged,
}

/// What was done, or in a dry run would have been.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Letters in the queue at the beginning, without those that somebody else has in hand.
    pub in_queue: u64,
    /// Letters looked at. Fewer than in the queue if a limit was reached, or if somebody else took the rest in hand.
    pub looked_at: u64,
    /// Letters that match the filter.
    pub matching: u64,
    /// Of those: sent back to their lanes.
    pub replayed: u64,
    /// Of those: deleted as duplicates of such.
    pub duplicates: u64,
    /// Of those: not decodable, or too large, and so left where they are.
    pub undecodable: u64,
    /// Of those: deleted.
    pub purged: u64,
}

impl Summary {
    fn count(&mut self, fate: Fate) {
        self.matching += 1;
        match fate {
            Fate::Listed => {}
            Fate::Replayed => self.replayed += 1,
            Fate::Duplicate => self.duplicates += 1,
            Fate::Undecodable => self.undecodable += 1,
            Fate::Purged => self.purged += 1,
        }
    }
}

/// Hands the letters that match to `tell`, from the head of the queue; they stay there.
///
/// # Errors
///
/// [`PipelineError::Broker`] if the broker is not there, lacks the queue, or is lost.
pub async fn list(
    url: &AmqpUrl,
    filter: &Filter,
    patience: Patience,
    stop: &CancellationToken,
    tell: impl FnMut(&DeadLetter, Fate),
) -> Result<Summary, PipelineError> {
    handle(url, filter, patience, stop, None, |_| Fate::Listed, tell).await
}

/// Sends the jobs of the letters that match back to their lanes, to a first attempt with their history, and tells the
/// result stream so. Letters that do not decode are left. `tell` hears of each letter before it goes.
///
/// # Errors
///
/// [`PipelineError::Broker`] if the broker is not there, lacks a queue, or is lost: what was not confirmed by then is
/// still among the dead letters.
pub async fn replay(
    url: &AmqpUrl,
    filter: &Filter,
    dry_run: bool,
    patience: Patience,
    stop: &CancellationToken,
    tell: impl FnMut(&DeadLetter, Fate),
) -> Result<Summary, PipelineError> {
    let publisher = if dry_run {
        None
    } else {
        let publisher = Publisher::start(url, "augur dead letters publish", patience, stop.clone()).await;
        Some(publisher.map_err(failed())?)
    };
    let mut lives = HashSet::new();
    let fate = |letter: &DeadLetter| match &letter.job {
        Err(_) => Fate::Undecodable,
        Ok(job) if ensure_fits(job, letter.body_bytes).is_err() => Fate::Undecodable,
        Ok(job) if lives.insert((job.job_id, job.run.run_id, job.dispatch.replays)) => Fate::Replayed,
        Ok(_) => Fate::Duplicate,
    };
    let settling = publisher.map(|publisher| Settling { publisher: Some(publisher) });
    handle(url, filter, patience, stop, settling, fate, tell).await
}

/// Deletes the letters that match; the attempts that they had stay in the history. `tell` hears of each letter before
/// it goes.
///
/// # Errors
///
/// [`PipelineError::Broker`] if the broker is not there, lacks the queue, or is lost.
pub async fn purge(
    url: &AmqpUrl,
    filter: &Filter,
    dry_run: bool,
    patience: Patience,
    stop: &CancellationToken,
    tell: impl FnMut(&DeadLetter, Fate),
) -> Result<Summary, PipelineError> {
    let settling = (!dry_run).then_some(Settling { publisher: None });
    handle(url, filter, patience, stop, settling, |_| Fate::Purged, tell).await
}

fn failed() -> impl FnOnce(BrokerError) -> PipelineError {
    PipelineError::broker("dead letters")
}

/// Goes through the queue, decides on each letter that matches, and settles it if `settling` is there.
async fn handle(
    url: &AmqpUrl,
    filter: &Filter,
    patience: Patience,
    stop: &CancellationToken,
    settling: Option<Settling>,
    mut decide: impl FnMut(&DeadLetter) -> Fate,
    mut tell: impl FnMut(&DeadLetter, Fate),
) -> Result<Summary, PipelineError> {
    let mut reader = QueueReader::open(url, names::DEAD_LETTERS, u64::MAX, patience).await.map_err(failed())?;
    let mut summary = Summary { in_queue: reader.messages(), ..Summary::default() };
    let limit = filter.limit.map_or(u64::MAX, |limit| limit as u64);
    let mut settled = FuturesUnordered::new();
    while summary.matching < limit && !stop.is_cancelled() {
        tokio::select! {
            // Settled letters make room for others.
            biased;
            Some(done) = settled.next(), if !settled.is_empty() => done?,
            arrived = reader.next(), if settled.len() < WINDOW_LETTERS_MAX => {
                let Some(delivery) = arrived.map_err(failed())? else { break };
                summary.looked_at += 1;
                let letter = DeadLetter::of(&delivery);
                // A delivery that is not settled returns to the queue when the reader is closed.
                if !filter.matches(&letter) {
                    continue;
                }
                let fate = decide(&letter);
                summary.count(fate);
                tell(&letter, fate);
                if let (Some(settling), Fate::Replayed | Fate::Duplicate | Fate::Purged) = (&settling, fate) {
                    let job = letter.job.ok().filter(|_| fate == Fate::Replayed);
                    settled.push(settling.settle(delivery, job));
                }
            }
        }
    }
    while let Some(done) = settled.next().await {
        done?;
    }
    reader.close().await.map_err(failed())?;
    Ok(summary)
}

/// Ends letters.
struct Settling {
    publisher: Option<Publisher>,
}

impl Settling {
    /// Sends a job back, if there is one to send, and then settles its letter.
    ///
    /// The job goes first: the news alone would make it look as if it waited in its lane.
    async fn settle(&self, delivery: Delivery, job: Option<Job>) -> Result<(), PipelineError> {
        if let (Some(publisher), Some(mut job)) = (&self.publisher, job) {
            job.dispatch.replays += 1;
            let replayed = DeadLetterReplayed {
                job_id: job.job_id,
                run_id: job.run.run_id,
                replays: job.dispatch.replays,
                replayed_at: Timestamp::now(),
            };
            publisher.publish(outgoing_submitted(&job)?).await.map_err(failed())?;
            let news = outgoing_record(job.job_id.to_string(), &replayed)?;
            publisher.publish(news).await.map_err(failed())?;
        }
        delivery.settle(Settlement::Done).await.map_err(failed())
    }
}
