//! Replaying into a database.

use std::{cell::RefCell, path::Path, time::Duration};

use broker::AmqpUrl;
use store::{CommitSummary, OutboxMode, Record, Store, StoreError};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{ReplayRange, ReplaySummary, read_archived_results, read_results};
use crate::{PipelineError, worker::chain};

/// Messages committed together.
const BATCH_MESSAGES_MAX: usize = 2_000;
/// Longest wait between two commits while what arrives is followed, so that a lone result does not wait for a full
/// batch.
const COMMIT_WAIT_MAX: Duration = Duration::from_millis(250);

/// Replays a part of the stream into a database, in batches; what it has already counts once. Feeds no outbox.
///
/// What arrives while the stream is followed is committed soon after it came, whether or not a batch is full.
///
/// # Errors
///
/// As [`read_results`], and [`PipelineError::Store`].
pub async fn replay_into(
    url: &AmqpUrl,
    range: ReplayRange,
    store: &Store,
    stop: &CancellationToken,
    progress: impl FnMut(usize),
) -> Result<ReplaySummary, PipelineError> {
    let batches = RefCell::new(Batches::new(store, progress));
    let reading = read_results(url, range, stop, |_, record| {
        let mut batches = batches.borrow_mut();
        if batches.is_full_with(record) { tokio::task::block_in_place(|| batches.commit()) } else { Ok(()) }
    });
    let read = tokio::select! {
        read = reading => read,
        error = commit_in_time(&batches), if range.follow => Err(error),
    };
    let summary = read?;
    tokio::task::block_in_place(|| batches.into_inner().finish(summary))
}

/// Commits what has come, again and again; returns why it could not.
async fn commit_in_time<P: FnMut(usize)>(batches: &RefCell<Batches<'_, P>>) -> PipelineError {
    let mut ticks = tokio::time::interval(COMMIT_WAIT_MAX);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = tokio::task::block_in_place(|| batches.borrow_mut().commit_rest()) {
            return error;
        }
    }
}

/// Replays a part of an archive into a database, as [`replay_into`] does with the stream. Blocks.
///
/// # Errors
///
/// As [`read_archived_results`], and [`PipelineError::Store`].
pub fn replay_archive_into(
    path: &Path,
    range: ReplayRange,
    store: &Store,
    stop: &CancellationToken,
    progress: impl FnMut(usize),
) -> Result<ReplaySummary, PipelineError> {
    let mut batches = Batches::new(store, progress);
    let summary =
        read_archived_results(
            path,
            range,
            stop,
            |_, record| {
                if batches.is_full_with(record) { batches.commit() } else { Ok(()) }
            },
        )?;
    batches.finish(summary)
}

/// Records on their way into a database.
struct Batches<'a, P> {
    store: &'a Store,
    batch: Vec<Record>,
    results_new: usize,
    progress: P,
}

impl<'a, P: FnMut(usize)> Batches<'a, P> {
    fn new(store: &'a Store, progress: P) -> Self {
        Self { store, batch: Vec::with_capacity(BATCH_MESSAGES_MAX), results_new: 0, progress }
    }

    fn is_full_with(&mut self, record: Record) -> bool {
        self.batch.push(record);
        self.batch.len() >= BATCH_MESSAGES_MAX
    }

    fn commit(&mut self) -> Result<(), PipelineError> {
        let committed = match self.store.commit(&self.batch, None, OutboxMode::Skip) {
            Err(error) if error.is_of_records() => self.salvage(),
            committed => committed,
        };
        let CommitSummary { results_new, .. } = committed.map_err(PipelineError::store("replay"))?;
        debug!(messages = self.batch.len(), results_new, "replay committed");
        self.results_new += results_new;
        (self.progress)(self.batch.len());
        self.batch.clear();
        Ok(())
    }

    fn commit_rest(&mut self) -> Result<(), PipelineError> {
        if self.batch.is_empty() { Ok(()) } else { self.commit() }
    }

    /// Leaves out what the aggregator could not store either.
    fn salvage(&self) -> Result<CommitSummary, StoreError> {
        let salvaged = self.store.salvage(&self.batch, OutboxMode::Skip)?;
        for refused in &salvaged.refused {
            warn!(error = %chain(&refused.error), "record cannot be stored; it is left out");
        }
        Ok(salvaged.summary)
    }

    fn finish(mut self, summary: ReplaySummary) -> Result<ReplaySummary, PipelineError> {
        self.commit_rest()?;
        Ok(ReplaySummary { results_new: self.results_new, ..summary })
    }
}
