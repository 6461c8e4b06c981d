//! Reading the result stream again: as records, or into a database.

use std::time::Duration;

use broker::{AmqpUrl, Patience, Settlement, Start, Subscription, last_offset};
use store::{OutboxMode, Record, Store};
use tokio_util::sync::CancellationToken;
use topology::names;
use tracing::warn;

use crate::{PipelineError, aggregator::decode_record, worker::chain};

/// Messages read ahead.
const PREFETCH: u16 = 4_000;
/// Messages between two acks; RabbitMQ's advice is about a tenth of the prefetch or a little more.
const ACK_EVERY_MESSAGES: usize = 500;
/// Messages committed together.
const BATCH_MESSAGES_MAX: usize = 2_000;
/// How long the broker may take to appear.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a replay begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayFrom {
    /// The oldest message that the stream still has.
    First,
    /// The last message.
    Last,
    /// What comes from now on.
    Next,
    /// This offset.
    Offset(u64),
    /// The first message stored at or after this moment, in seconds since 1970.
    Timestamp(u64),
}

/// What a replay read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplaySummary {
    /// Messages read.
    pub messages: usize,
    /// Results among them.
    pub results: usize,
    /// Messages that do not decode.
    pub undecodable: usize,
    /// Results that the database did not have.
    pub results_new: usize,
}

/// Reads the stream from `from` to its end, or on until `stop` if `follow`, and hands each record to `take`.
///
/// # Errors
///
/// [`PipelineError::Broker`] if the broker is not there or has no such stream, or what `take` returns.
#[expect(clippy::missing_panics_doc, reason = "the broker adds an offset to every message of a stream")]
pub async fn read_results(
    url: &AmqpUrl,
    from: ReplayFrom,
    follow: bool,
    stop: &CancellationToken,
    mut take: impl FnMut(u64, Record) -> Result<(), PipelineError>,
) -> Result<ReplaySummary, PipelineError> {
    let failed = || PipelineError::broker("replay");
    let end = last_offset(url, names::RESULTS).await.map_err(failed())?;
    let mut summary = ReplaySummary::default();
    let (start, from_offset) = match from {
        ReplayFrom::First => (Start::StreamFirst, 0),
        // `last` delivers the whole last chunk.
        ReplayFrom::Last => (Start::StreamLast, end.unwrap_or_default()),
        ReplayFrom::Next => (Start::StreamNext, 0),
        ReplayFrom::Offset(offset) => (Start::StreamOffset(offset), offset),
        ReplayFrom::Timestamp(seconds) => (Start::StreamTimestamp(seconds), 0),
    };
    if !follow && (from == ReplayFrom::Next || end.is_none_or(|end| end < from_offset)) {
        return Ok(summary);
    }
    let mut reading =
        Subscription::start(url, "augur replay", names::RESULTS, start, PREFETCH, Patience::For(PATIENCE), stop)
            .await
            .map_err(failed())?;
    let mut deliveries = 0;
    while let Some(delivery) = reading.next().await {
        deliveries += 1;
        let offset = delivery.stream_offset().expect("stream messages have offsets");
        if offset >= from_offset {
            summary.messages += 1;
            match decode_record(&delivery) {
                // Chunks are coarse: a timestamp starts before the moment asked for.
                Ok(record) if is_before(&record, from) => {}
                Ok(record) => {
                    summary.results += usize::from(matches!(record, Record::Result(_)));
                    take(offset, record)?;
                }
                Err(error) => {
                    summary.undecodable += 1;
                    warn!(offset, error = %chain(&error), "result does not decode");
                }
            }
        }
        let is_end = !follow && end.is_some_and(|end| offset >= end);
        if is_end || deliveries % ACK_EVERY_MESSAGES == 0 {
            delivery
                .settle(Settlement::DoneThrough)
                .await
                .unwrap_or_else(|error| warn!(%error, "replay could not ack"));
        }
        if is_end {
            break;
        }
    }
    Ok(summary)
}

fn is_before(record: &Record, from: ReplayFrom) -> bool {
    let ReplayFrom::Timestamp(seconds) = from else { return false };
    let at = match record {
        Record::Run(run) => run.submitted_at,
        Record::Result(result) => result.finished_at,
    };
    u64::try_from(at.as_seconds()).is_ok_and(|at| at < seconds)
}

/// Replays the stream into a database, in batches; what it has already counts once. Feeds no outbox.
///
/// # Errors
///
/// As [`read_results`], and [`PipelineError::Store`].
pub async fn replay_into(
    url: &AmqpUrl,
    from: ReplayFrom,
    store: &Store,
    stop: &CancellationToken,
    mut progress: impl FnMut(usize),
) -> Result<ReplaySummary, PipelineError> {
    let mut batch = Vec::with_capacity(BATCH_MESSAGES_MAX);
    let mut results_new = 0;
    let mut commit = |batch: &mut Vec<Record>| {
        let summary = tokio::task::block_in_place(|| store.commit(batch, None, OutboxMode::Skip))
            .map_err(PipelineError::store("replay"))?;
        results_new += summary.results_new;
        progress(batch.len());
        batch.clear();
        Ok(())
    };
    let summary = read_results(url, from, false, stop, |_, record| {
        batch.push(record);
        if batch.len() == BATCH_MESSAGES_MAX { commit(&mut batch) } else { Ok(()) }
    })
    .await?;
    if !batch.is_empty() {
        commit(&mut batch)?;
    }
    Ok(ReplaySummary { results_new, ..summary })
}
