//! Replaying into a database.

use std::path::Path;

use broker::AmqpUrl;
use store::{CommitSummary, OutboxMode, Record, Store, StoreError};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{ReplayRange, ReplaySummary, read_archived_results, read_results};
use crate::{PipelineError, worker::chain};

/// Messages committed together.
const BATCH_MESSAGES_MAX: usize = 2_000;

/// Replays a part of the stream into a database, in batches; what it has already counts once. Feeds no outbox.
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
    let mut batches = Batches::new(store, progress);
    let read = read_results(url, range, stop, |_, record| {
        if batches.is_full_with(record) { tokio::task::block_in_place(|| batches.commit()) } else { Ok(()) }
    });
    let summary = read.await?;
    tokio::task::block_in_place(|| batches.finish(summary))
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
        self.results_new += committed.map_err(PipelineError::store("replay"))?.results_new;
        (self.progress)(self.batch.len());
        self.batch.clear();
        Ok(())
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
        if !self.batch.is_empty() {
            self.commit()?;
        }
        Ok(ReplaySummary { results_new: self.results_new, ..summary })
    }
}
