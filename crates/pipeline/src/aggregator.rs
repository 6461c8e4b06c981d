//! The result aggregator: reads the result stream into the database, feeds accepted measurements onward, keeps the leases
//! of claimed jobs, gives cancel orders again, tells of dead letters that the broker made, and holds complete runs
//! against earlier ones.
//!
//! Rows and the next stream offset are committed together, so a crash at any point repeats nothing and skips
//! nothing. Accepted measurements wait in an outbox of the same database until the broker has confirmed them.

mod cancels;
mod deaths;
mod leases;
mod news;
mod outbox;
mod reader;
mod regressions;

use std::{sync::Arc, time::Duration};

use broker::{AmqpUrl, Link, Patience, Publisher, Start, Subscription, resume};
use messages::{Heartbeat, ReleasePublished};
use store::{Store, StoreError};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use topology::names;
use tracing::info;

use crate::{PipelineError, election::while_active, retention};
use leases::{Hearing, Leases};
use reader::Reader;

/// Results read ahead.
const RESULTS_PREFETCH: u16 = 4_000;
/// Heartbeats, releases and dead letters read ahead.
const NEWS_PREFETCH: u16 = 100;

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

/// Aggregates until `stop`, while this is the active aggregator; `changes` is bumped after every commit.
///
/// # Errors
///
/// [`PipelineError::Broker`] if no broker answers in time or it lacks the streams, [`PipelineError::Store`] if the
/// stored offset or the open claims cannot be read. A commit that fails later is tried again until it succeeds.
pub async fn aggregate(
    url: &AmqpUrl,
    store: Store,
    settings: AggregatorSettings,
    changes: watch::Sender<u64>,
    stop: CancellationToken,
) -> Result<(), PipelineError> {
    let elected = ("aggregator", names::AGGREGATOR_LEADER);
    while_active(url, elected, settings.patience, &stop, |stop| {
        session(url, store.clone(), settings.clone(), changes.clone(), stop)
    })
    .await
}

/// Aggregates from the stored offset until `stop`.
async fn session(
    url: &AmqpUrl,
    store: Store,
    settings: AggregatorSettings,
    changes: watch::Sender<u64>,
    stop: CancellationToken,
) -> Result<(), PipelineError> {
    let failed = || PipelineError::broker("aggregator");
    let publisher = Publisher::start(url, "augur aggregator publish", settings.patience, stop.clone())
        .await
        .map_err(failed())?
        .patient();
    let reading = store.clone();
    let position = blocking(move || reading.stream_position(names::RESULTS)).await?;
    let (next_offset, last_message) = position.map_or((None, None), |at| (Some(at.next_offset), at.last_message));
    let start = resume(url, names::RESULTS, next_offset, last_message.as_deref()).await.map_err(failed())?;
    let next_offset = retention::first_expected(&start);
    let leases = Arc::new(Leases::load(&store).await?);
    let link = Link::new(url, "augur aggregator read", settings.patience, &stop);
    let subscribe = |queue, start, prefetch| Subscription::on(&link, queue, start, prefetch);
    let results = subscribe(names::RESULTS, start, RESULTS_PREFETCH).await.map_err(failed())?;
    let heartbeats = subscribe(names::HEARTBEATS, Start::Queue, NEWS_PREFETCH).await.map_err(failed())?;
    let letters = subscribe(names::DEAD_LETTER_NEWS, Start::Queue, NEWS_PREFETCH).await.map_err(failed())?;
    let releases = subscribe(names::RELEASES, Start::StreamFirst, NEWS_PREFETCH).await.map_err(failed())?;
    info!(next_offset, "aggregator ready");

    let outbox = Arc::new(Notify::new());
    outbox.notify_one();
    let ended = Arc::new(Notify::new());
    ended.notify_one();
    let hearing = Hearing::new(&leases, [&results, &heartbeats]);
    let renewing = Arc::clone(&leases);
    let heartbeats = news::keep(
        heartbeats,
        store.clone(),
        changes.clone(),
        move |news: &Heartbeat| renewing.renew(news),
        |store, news: &Heartbeat| store.upsert_worker(news),
    );
    let releases = news::keep(
        releases,
        store.clone(),
        changes.clone(),
        |_| {},
        |store, news: &ReleasePublished| store.insert_release(news),
    );
    let tasks = [
        tokio::spawn(outbox::feed(store.clone(), publisher.clone(), Arc::clone(&outbox), stop.clone())),
        tokio::spawn(Arc::clone(&leases).keep(hearing, store.clone(), publisher.clone(), stop.clone())),
        tokio::spawn(leases::listen(Arc::clone(&leases), publisher.clone(), stop.clone())),
        tokio::spawn(cancels::repeat(store.clone(), publisher.clone(), stop.clone())),
        tokio::spawn(deaths::tell(letters, publisher.clone(), stop.clone())),
        tokio::spawn(heartbeats),
        tokio::spawn(regressions::keep(store.clone(), Arc::clone(&ended), changes.clone(), stop.clone())),
        tokio::spawn(releases),
    ];
    Reader { results, next_offset, store, publisher, settings, changes, outbox, ended, leases, stop }.run().await;
    for task in tasks {
        task.await.map_err(|source| PipelineError::Panicked { stage: "aggregator", source })?;
    }
    info!("aggregator stopped");
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, PipelineError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|source| PipelineError::Panicked { stage: "aggregator", source })?
        .map_err(PipelineError::store("aggregator"))
}
