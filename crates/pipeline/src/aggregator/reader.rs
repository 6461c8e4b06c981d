//! Reads the result stream batch by batch: decode, commit, tell, ack.

use std::{sync::Arc, time::Duration};

use broker::{Delivery, Outgoing, Publisher, Settlement, Subscription};
use messages::{Encoded, Timestamp};
use store::{CommitSummary, OutboxMode, Record, Store, StreamPosition};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use topology::names;
use tracing::{debug, error, warn};

use super::{AggregatorSettings, leases::Leases};
use crate::{failpoint, replay::decode_record, worker::chain};

/// A batch goes without waiting longer once nothing has come for this long, so that a lone result is stored at once
/// and a steady flow fills batches: a commit takes several milliseconds of work before its first row.
const BATCH_SILENCE_MAX: Duration = Duration::from_millis(25);
/// Longest wait between two attempts to commit, e.g. while the disk is full.
const COMMIT_WAIT_MAX: Duration = Duration::from_secs(30);
/// Wait before an undecodable message is published again that the dead letters did not take.
const BURY_REFUSED_WAIT: Duration = Duration::from_secs(5);
/// Results that are committed within this time of their publishing, in seconds, are current; clocks may differ a bit.
const LAG_S_MAX: f64 = 60.0;
/// Why an undecodable message is with the dead letters.
const REASON_UNDECODABLE: &str = "undecodable";

/// The reader and whom it tells.
pub(super) struct Reader {
    pub(super) results: Subscription,
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
struct Decoded {
    records: Vec<Record>,
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
            let Some(decoded) = self.decode(&batch).await else { return };
            let (next_offset, published_at) = (decoded.next_offset, decoded.published_at);
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
    async fn decode(&self, batch: &[Delivery]) -> Option<Decoded> {
        let mut records = Vec::with_capacity(batch.len());
        for delivery in batch {
            match decode_record(delivery) {
                Ok(record) => records.push(record),
                Err(error) => {
                    warn!(offset = delivery.stream_offset(), error = %chain(&error), "result does not decode; it becomes a dead letter");
                    self.bury(delivery).await?;
                }
            }
        }
        let last = batch.last().expect("a batch is never empty");
        Some(Decoded {
            records,
            next_offset: last.stream_offset().expect("stream messages have offsets") + 1,
            last_message: last.stream_fingerprint(),
            published_at: last.published_at(),
        })
    }

    async fn bury(&self, delivery: &Delivery) -> Option<()> {
        let outgoing = || {
            let message = Encoded { message_type: "undecodable", schema_version: 0, body: delivery.body().to_vec() };
            let message_id = delivery.message_id().unwrap_or_default().to_owned();
            Outgoing::new(names::DEAD_LETTERS, names::RESULTS, message_id, message).reason(REASON_UNDECODABLE)
        };
        while let Err(error) = self.publisher.publish(outgoing()).await {
            warn!(%error, "dead letter was not stored; publishing it again");
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = tokio::time::sleep(BURY_REFUSED_WAIT) => {}
            }
        }
        Some(())
    }

    /// Commits until it succeeds and gives the records back; `None` if the stop came first (nothing is lost: the offset
    /// has not moved).
    async fn commit(&self, decoded: Decoded) -> Option<(CommitSummary, Arc<Vec<Record>>)> {
        let Decoded { records, next_offset, last_message, .. } = decoded;
        let (records, last_message) = (Arc::new(records), Arc::new(last_message));
        let mut wait = Duration::from_millis(250);
        loop {
            let store = self.store.clone();
            let (committing, last_message) = (Arc::clone(&records), Arc::clone(&last_message));
            let committed = tokio::task::spawn_blocking(move || {
                let last_message = last_message.as_deref();
                let position = StreamPosition { stream: names::RESULTS, next_offset, last_message };
                store.commit(&committing, Some(position), OutboxMode::Feed)
            });
            match committed.await {
                Ok(Ok(summary)) => return Some((summary, records)),
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
