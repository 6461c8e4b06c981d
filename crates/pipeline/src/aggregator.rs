//! The result aggregator: reads the result stream into the database, feeds accepted measurements onward.
//!
//! Rows and the next stream offset are committed together, so a crash at any point repeats nothing and skips
//! nothing. Accepted measurements wait in an outbox of the same database until the broker has confirmed them.

use std::{sync::Arc, time::Duration};

use broker::{
    AmqpUrl, Delivery, Outgoing, Patience, Publisher, Settlement, Start, Subscription, WINDOW_MESSAGES_MAX, resume,
};
use futures_util::{StreamExt, stream};
use messages::{Encoded, Heartbeat, JobResult, Message, ReleasePublished, RunSubmitted};
use store::{CommitSummary, OutboxMode, Record, Store, StoreError, StreamPosition};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use topology::names;
use tracing::{debug, error, info, warn};

use crate::{PipelineError, worker::chain};

/// Results read ahead.
const RESULTS_PREFETCH: u16 = 4_000;
/// Heartbeats and releases read ahead.
const NEWS_PREFETCH: u16 = 100;
/// A batch goes without waiting longer once nothing has come for this long, so that a lone result is stored at once
/// and a steady flow fills batches: a commit takes several milliseconds of work before its first row.
const BATCH_SILENCE_MAX: Duration = Duration::from_millis(25);
/// Longest wait between two attempts to commit, e.g. while the disk is full.
const COMMIT_WAIT_MAX: Duration = Duration::from_secs(30);
/// Wait before the outbox is tried again after the broker refused a measurement.
const OUTBOX_REFUSED_WAIT: Duration = Duration::from_secs(5);

/// How the aggregator batches.
#[derive(Debug, Clone)]
pub struct AggregatorSettings {
    /// Most messages in one transaction.
    pub batch_messages_max: usize,
    /// Longest wait for a batch to fill, from its first message.
    pub batch_wait_max: Duration,
    /// How long the broker may take to appear.
    pub patience: Patience,
}

impl Default for AggregatorSettings {
    fn default() -> Self {
        Self { batch_messages_max: 2_000, batch_wait_max: Duration::from_millis(250), patience: Patience::Endless }
    }
}

/// Aggregates until `stop`; `changes` is bumped after every commit.
///
/// # Errors
///
/// [`PipelineError::Broker`] if no broker answers in time or it lacks the streams, [`PipelineError::Store`] if the
/// stored offset cannot be read. A commit that fails later is tried again until it succeeds.
pub async fn aggregate(
    url: &AmqpUrl,
    store: Store,
    settings: AggregatorSettings,
    changes: watch::Sender<u64>,
    stop: CancellationToken,
) -> Result<(), PipelineError> {
    let failed = || PipelineError::broker("aggregator");
    let publisher =
        Publisher::start(url, "augur aggregator publish", settings.patience, stop.clone()).await.map_err(failed())?;
    let position = store.next_offset(names::RESULTS).map_err(PipelineError::store("aggregator"))?;
    let start = resume(url, names::RESULTS, position).await.map_err(failed())?;
    let subscribe = |queue: &'static str, start, prefetch| {
        Subscription::start(url, "augur aggregator read", queue, start, prefetch, settings.patience, &stop)
    };
    let results = subscribe(names::RESULTS, start, RESULTS_PREFETCH).await.map_err(failed())?;
    let heartbeats = subscribe(names::HEARTBEATS, Start::Queue, NEWS_PREFETCH).await.map_err(failed())?;
    let releases = subscribe(names::RELEASES, Start::StreamFirst, NEWS_PREFETCH).await.map_err(failed())?;
    info!(next_offset = position.unwrap_or_default(), "aggregator ready");

    let outbox = Arc::new(Notify::new());
    outbox.notify_one();
    let feeding = tokio::spawn(feed(store.clone(), publisher.clone(), Arc::clone(&outbox), stop.clone()));
    let beating = tokio::spawn(keep_news(heartbeats, store.clone(), changes.clone(), |store, news: Heartbeat| {
        store.upsert_worker(&news)
    }));
    let releasing =
        tokio::spawn(keep_news(releases, store.clone(), changes.clone(), |store, news: ReleasePublished| {
            store.insert_release(&news)
        }));
    let mut reader = Reader { results, store, publisher, settings, changes, outbox, stop };
    reader.run().await;
    for task in [feeding, beating, releasing] {
        task.await.map_err(|source| PipelineError::Panicked { stage: "aggregator", source })?;
    }
    info!("aggregator stopped");
    Ok(())
}

struct Reader {
    results: Subscription,
    store: Store,
    publisher: Publisher,
    settings: AggregatorSettings,
    changes: watch::Sender<u64>,
    outbox: Arc<Notify>,
    stop: CancellationToken,
}

impl Reader {
    async fn run(&mut self) {
        while let Some(batch) = self.next_batch().await {
            let Some((records, next_offset)) = self.decode(&batch).await else { return };
            let Some(summary) = self.commit(records, next_offset).await else { return };
            debug!(messages = batch.len(), new = summary.results_new, next_offset, "batch committed");
            self.changes.send_modify(|version| *version += 1);
            if summary.measurements_accepted > 0 {
                self.outbox.notify_one();
            }
            let last = batch.into_iter().next_back().expect("a batch is never empty");
            if let Err(error) = last.settle(Settlement::DoneThrough).await {
                // The offset is in the database; the subscription goes on behind it.
                warn!(%error, "batch could not be acked");
            }
        }
    }

    /// Waits for a message, then takes what else arrives within the batch's limits and without a pause.
    async fn next_batch(&mut self) -> Option<Vec<Delivery>> {
        let first = tokio::select! {
            () = self.stop.cancelled() => return None,
            first = self.results.next() => first?,
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
    async fn decode(&self, batch: &[Delivery]) -> Option<(Vec<Record>, u64)> {
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
        let last = batch.iter().filter_map(Delivery::stream_offset).max().expect("stream messages have offsets");
        Some((records, last + 1))
    }

    async fn bury(&self, delivery: &Delivery) -> Option<()> {
        let outgoing = || Outgoing {
            exchange: names::DEAD_LETTERS.to_owned(),
            routing_key: names::RESULTS.to_owned(),
            message_id: delivery.message_id().unwrap_or_default().to_owned(),
            attempt: None,
            message: Encoded { message_type: "undecodable", schema_version: 0, body: delivery.body().to_vec() },
        };
        while let Err(error) = self.publisher.publish(outgoing()).await {
            if self.stop.is_cancelled() {
                return None;
            }
            warn!(%error, "dead letter was not stored; publishing it again");
            tokio::time::sleep(OUTBOX_REFUSED_WAIT).await;
        }
        Some(())
    }

    /// Commits until it succeeds; `None` if the stop came first (nothing is lost: the offset has not moved).
    async fn commit(&self, records: Vec<Record>, next_offset: u64) -> Option<CommitSummary> {
        let records = Arc::new(records);
        let mut wait = Duration::from_millis(250);
        loop {
            let (store, records) = (self.store.clone(), Arc::clone(&records));
            let committed = tokio::task::spawn_blocking(move || {
                let position = StreamPosition { stream: names::RESULTS, next_offset };
                store.commit(&records, Some(position), OutboxMode::Feed)
            });
            match committed.await {
                Ok(Ok(summary)) => return Some(summary),
                Ok(Err(failure)) => {
                    error!(error = %chain(&failure), wait_ms = wait.as_millis(), "batch was not committed; trying again");
                }
                Err(panic) => error!(%panic, "commit panicked; trying again"),
            }
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = tokio::time::sleep(wait) => {}
            }
            wait = (wait * 2).min(COMMIT_WAIT_MAX);
        }
    }
}

/// Decodes one message of the result stream.
pub(crate) fn decode_record(delivery: &Delivery) -> Result<Record, messages::DecodeError> {
    if delivery.message_type() == Some(RunSubmitted::TYPE) {
        delivery.decode().map(Record::Run)
    } else {
        delivery.decode::<JobResult>().map(|result| Record::Result(Box::new(result)))
    }
}

/// Publishes the outbox whenever there is something in it.
async fn feed(store: Store, publisher: Publisher, filled: Arc<Notify>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = filled.notified() => {}
        }
        while !stop.is_cancelled() {
            match feed_batch(&store, &publisher).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    warn!(error = %chain(&error), "outbox was not published; trying again");
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(OUTBOX_REFUSED_WAIT) => {}
                    }
                }
            }
        }
    }
}

/// Publishes the oldest rows of the outbox and deletes those that the broker confirmed; returns how many.
async fn feed_batch(store: &Store, publisher: &Publisher) -> Result<usize, PipelineError> {
    let reading = store.clone();
    let rows = blocking("aggregator", move || reading.outbox_batch(WINDOW_MESSAGES_MAX)).await?;
    let publishing = rows.into_iter().map(|row| async move {
        let outgoing = Outgoing {
            exchange: names::MEASUREMENTS.to_owned(),
            routing_key: String::new(),
            message_id: row.id.to_string(),
            attempt: None,
            message: Encoded {
                message_type: messages::AcceptedMeasurement::TYPE,
                schema_version: row.schema_version,
                body: row.body,
            },
        };
        publisher.publish(outgoing).await.map(|()| row.id)
    });
    let mut answers = stream::iter(publishing).buffer_unordered(WINDOW_MESSAGES_MAX);
    let (mut confirmed, mut failure) = (Vec::new(), None);
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(id) => confirmed.push(id),
            Err(error) => failure = Some(error),
        }
    }
    let count = confirmed.len();
    if count > 0 {
        let deleting = store.clone();
        blocking("aggregator", move || deleting.outbox_delete(&confirmed)).await?;
    }
    failure.map_or(Ok(count), |source| Err(PipelineError::Broker { stage: "aggregator", source }))
}

/// Keeps what a subscription tells in the database.
async fn keep_news<M: Message + Send + 'static>(
    mut news: Subscription,
    store: Store,
    changes: watch::Sender<u64>,
    keep: fn(&Store, M) -> Result<(), StoreError>,
) {
    while let Some(delivery) = news.next().await {
        match delivery.decode::<M>() {
            Ok(message) => {
                let store = store.clone();
                match blocking("aggregator", move || keep(&store, message)).await {
                    Ok(()) => changes.send_modify(|version| *version += 1),
                    Err(error) => warn!(error = %chain(&error), news = M::TYPE, "news was not kept"),
                }
            }
            Err(error) => warn!(error = %chain(&error), news = M::TYPE, "news does not decode"),
        }
        if let Err(error) = delivery.settle(Settlement::Done).await {
            warn!(%error, news = M::TYPE, "news could not be acked");
        }
    }
}

async fn blocking<T: Send + 'static>(
    stage: &'static str,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, PipelineError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|source| PipelineError::Panicked { stage, source })?
        .map_err(PipelineError::store(stage))
}
