//! Reads the result stream batch by batch: decode, commit, tell, ack. What cannot be read or stored becomes a dead letter.

use std::{sync::Arc, time::Duration};

use broker::{Delivery, Outgoing, Publisher, Settlement, Subscription};
use messages::{AfterFailure, DeadLettered, Encoded, Timestamp};
use store::{CommitSummary, OutboxMode, Record, Refused, Store, StoreError, StreamPosition};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use topology::names;
use tracing::{debug, error, warn};

use super::{AggregatorSettings, leases::Leases};
use crate::{delivery::outgoing_record, failpoint, replay::decode_record, retention, worker::chain};

/// A batch goes without waiting longer once nothing has come for this long, so that a lone result is stored at once
/// and a steady flow fills batches: a commit takes several milliseconds of work before its first row.
const BATCH_SILENCE_MAX: Duration = Duration::from_millis(25);
/// First wait between two attempts to commit.
const COMMIT_WAIT_MIN: Duration = Duration::from_millis(250);
/// Longest wait between two attempts to commit, e.g. while the disk is full.
const COMMIT_WAIT_MAX: Duration = Duration::from_secs(30);
/// Wait before a dead letter is published again that the broker did not take.
const REFUSED_WAIT: Duration = Duration::from_secs(5);
/// Results that are committed within this time of their publishing, in seconds, are current; clocks may differ a bit.
const LAG_S_MAX: f64 = 60.0;
/// Why an undecodable message is with the dead letters.
const REASON_UNDECODABLE: &str = "undecodable";
/// Why a message is with the dead letters that decodes and that the database refuses.
const REASON_UNSTORABLE: &str = "unstorable";

/// The reader and whom it tells.
pub(super) struct Reader {
    pub(super) results: Subscription,
    /// Behind the last message that was read.
    pub(super) next_offset: u64,
    pub(super) store: Store,
    pub(super) publisher: Publisher,
    pub(super) settings: AggregatorSettings,
    pub(super) changes: watch::Sender<u64>,
    /// Filled by a commit.
    pub(super) outbox: Arc<Notify>,
    /// Runs may have become complete.
    pub(super) ended: Arc<Notify>,
    pub(super) leases: Arc<Leases>,
    pub(super) stop: CancellationToken,
}

/// What a batch holds.
struct Decoded<'b> {
    records: Vec<Record>,
    /// The message of each record.
    deliveries: Vec<&'b Delivery>,
    next_offset: u64,
    /// What tells the message before that offset from others.
    last_message: Option<String>,
    /// When that message was published.
    published_at: Option<Timestamp>,
}

impl Reader {
    /// Reads until the stop.
    pub(super) async fn run(mut self) {
        while let Some(batch) = self.next_batch().await {
            self.look_for_gap(&batch[0]);
            let Some(decoded) = self.decode(&batch).await else { return };
            let (next_offset, published_at) = (decoded.next_offset, decoded.published_at);
            self.next_offset = next_offset;
            failpoint::hit(failpoint::AGGREGATOR_BEFORE_COMMIT);
            let Some((summary, records)) = self.commit(decoded).await else { return };
            failpoint::hit(failpoint::AGGREGATOR_AFTER_COMMIT);
            debug!(messages = batch.len(), new = summary.results_new, next_offset, "batch committed");
            self.tell(&summary, &records, published_at);
            let last = batch.into_iter().next_back().expect("a batch is never empty");
            if let Err(error) = last.settle(Settlement::DoneThrough).await {
                // The offset is in the database; the subscription goes on behind it.
                warn!(%error, "batch could not be acked");
            }
        }
    }

    /// Says so if retention took what should come before this message.
    fn look_for_gap(&self, first: &Delivery) {
        let first_offset = first.stream_offset().expect("stream messages have offsets");
        if let Some(offsets_missing) = retention::offsets_missing(self.next_offset, first_offset) {
            warn!(
                offsets_missing,
                from_offset = self.next_offset,
                "retention took results from the stream before they were read; what `augur result export` archived comes \
                 back by `augur result replay --archive DIR --into` this database, with the aggregator stopped"
            );
        }
    }

    fn tell(&self, summary: &CommitSummary, records: &[Record], published_at: Option<Timestamp>) {
        self.changes.send_modify(|version| *version += 1);
        if summary.measurements_accepted > 0 {
            self.outbox.notify_one();
        }
        if !summary.runs_touched.is_empty() {
            self.ended.notify_one();
        }
        self.leases.note(records);
        let lag_s = published_at.map(|at| Timestamp::now().seconds_since(at));
        self.leases.set_current(lag_s.is_none_or(|lag_s| lag_s <= LAG_S_MAX));
    }

    /// Waits for a message, then takes what else arrives within the batch's limits and without a pause.
    async fn next_batch(&mut self) -> Option<Vec<Delivery>> {
        if self.stop.is_cancelled() {
            return None;
        }
        let first = if let Some(first) = self.results.next_in_line() {
            first
        } else {
            self.leases.set_current(true);
            tokio::select! {
                () = self.stop.cancelled() => return None,
                first = self.results.next() => first?,
            }
        };
        let mut batch = vec![first];
        let deadline = Instant::now() + self.settings.batch_wait_max;
        while batch.len() < self.settings.batch_messages_max {
            if let Some(delivery) = self.results.next_in_line() {
                batch.push(delivery);
                continue;
            }
            let patience = deadline.min(Instant::now() + BATCH_SILENCE_MAX);
            match tokio::time::timeout_at(patience, self.results.next()).await {
                Ok(Some(delivery)) => batch.push(delivery),
                Ok(None) | Err(_) => break,
            }
        }
        Some(batch)
    }

    /// Decodes a batch; what does not decode goes to the dead letters, so that nothing vanishes.
    async fn decode<'b>(&self, batch: &'b [Delivery]) -> Option<Decoded<'b>> {
        let (mut records, mut deliveries) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for delivery in batch {
            match decode_record(delivery) {
                Ok(record) => {
                    records.push(record);
                    deliveries.push(delivery);
                }
                Err(error) => {
                    warn!(offset = delivery.stream_offset(), error = %chain(&error), "result does not decode; it becomes a dead letter");
                    self.bury(delivery, REASON_UNDECODABLE).await?;
                }
            }
        }
        let last = batch.last().expect("a batch is never empty");
        Some(Decoded {
            records,
            deliveries,
            next_offset: last.stream_offset().expect("stream messages have offsets") + 1,
            last_message: last.stream_fingerprint(),
            published_at: last.published_at(),
        })
    }

    /// Keeps a message with the dead letters.
    async fn bury(&self, delivery: &Delivery, reason: &'static str) -> Option<()> {
        let message = Encoded { message_type: reason, schema_version: 0, body: delivery.body().to_vec() };
        let message_id = delivery.message_id().unwrap_or_default();
        self.publish(Outgoing::new(names::DEAD_LETTERS, names::RESULTS, message_id, message).reason(reason)).await
    }

    /// Publishes until the broker has it; `None` if the stop came first.
    async fn publish(&self, outgoing: Outgoing) -> Option<()> {
        while let Err(error) = self.publisher.publish(outgoing.clone()).await {
            warn!(message_id = outgoing.message_id, %error, "dead letter was not stored; publishing it again");
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = tokio::time::sleep(REFUSED_WAIT) => {}
            }
        }
        Some(())
    }

    /// Commits until it succeeds and gives the records back; `None` if the stop came first (nothing is lost: the offset
    /// has not moved).
    ///
    /// A record that cannot be stored must not keep all others from it for ever: it becomes a dead letter.
    async fn commit(&self, decoded: Decoded<'_>) -> Option<(CommitSummary, Arc<Vec<Record>>)> {
        let Decoded { records, deliveries, next_offset, last_message, .. } = decoded;
        let (records, last_message) = (Arc::new(records), Arc::new(last_message));
        let with_position = |records: Arc<Vec<Record>>| {
            let last_message = Arc::clone(&last_message);
            move |store: &Store| {
                let position =
                    StreamPosition { stream: names::RESULTS, next_offset, last_message: last_message.as_deref() };
                store.commit(&records, Some(position), OutboxMode::Feed)
            }
        };
        let refused = |error: &StoreError| !records.is_empty() && error.is_of_records();
        let error = match self.stored(with_position(Arc::clone(&records)), refused).await? {
            Ok(summary) => return Some((summary, records)),
            Err(error) => error,
        };
        warn!(error = %chain(&error), messages = records.len(), "batch was refused; storing what can be stored of it");
        let parts = Arc::clone(&records);
        let salvage = move |store: &Store| store.salvage(&parts, OutboxMode::Feed);
        let salvaged = self.stored(salvage, |_| false).await?.expect("it was tried until it succeeded");
        for Refused { index, error } in salvaged.refused {
            let (record, delivery) = (&records[index], deliveries[index]);
            error!(offset = delivery.stream_offset(), error = %chain(&error), "record cannot be stored; it becomes a dead letter");
            self.bury(delivery, REASON_UNSTORABLE).await?;
            if let Some(news) = news(record, &error) {
                self.publish(news).await?;
            }
        }
        let position = self.stored(with_position(Arc::default()), |_| false).await?;
        position.expect("it was tried until it succeeded");
        Some((salvaged.summary, records))
    }

    /// Works with the database until that succeeds or fails in a way that `gives_up`; `None` if the stop came first.
    async fn stored<T: Send + 'static>(
        &self,
        work: impl Fn(&Store) -> Result<T, StoreError> + Send + Sync + 'static,
        gives_up: impl Fn(&StoreError) -> bool,
    ) -> Option<Result<T, StoreError>> {
        let work = Arc::new(work);
        let mut wait = COMMIT_WAIT_MIN;
        loop {
            let (store, working) = (self.store.clone(), Arc::clone(&work));
            match tokio::task::spawn_blocking(move || working(&store)).await {
                Ok(Ok(done)) => return Some(Ok(done)),
                Ok(Err(failure)) if gives_up(&failure) => return Some(Err(failure)),
                Ok(Err(failure)) => {
                    error!(error = %chain(&failure), wait_ms = wait.as_millis(), "batch was not committed; trying again");
                }
                Err(panic) => error!(%panic, "commit panicked; trying again"),
            }
            // Until it is committed nobody knows what it says, e.g. that a claimed job is done.
            self.leases.set_current(false);
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = tokio::time::sleep(wait) => {}
            }
            wait = (wait * 2).min(COMMIT_WAIT_MAX);
        }
    }
}

/// What the result stream is told of a job whose end cannot be stored: its run would wait for it for ever.
fn news(record: &Record, error: &StoreError) -> Option<Outgoing> {
    let result = match record {
        Record::Result(result) => result,
        Record::Attempt(attempt) if attempt.next == AfterFailure::DeadLetter => &attempt.result,
        _ => return None,
    };
    let job = &result.job;
    let dead = DeadLettered {
        job_id: job.job_id,
        run_id: job.run.run_id,
        replays: job.dispatch.replays,
        attempt: result.attempt,
        platform: job.platform,
        case: Some(job.case.clone()),
        reason: REASON_UNSTORABLE.to_owned(),
        message: chain(error),
        died_at: Timestamp::now(),
    };
    match outgoing_record(job.job_id.to_string(), &dead) {
        Ok(outgoing) => Some(outgoing.attempt(dead.attempt)),
        Err(error) => {
            warn!(job_id = %job.job_id, error = %chain(&error), "news of a dead letter cannot be sent");
            None
        }
    }
}
