//! Reading the result stream again, or its archive: as records, or into a database.

mod archive;
mod into;
mod window;

use std::time::Duration;

use broker::{AmqpUrl, Delivery, Patience, Settlement, Start, Subscription, last_offset};
use messages::{DecodeError, Timestamp};
use store::Record;
use tokio_util::sync::CancellationToken;
use topology::names;
use tracing::warn;

use crate::{PipelineError, worker::chain};
pub use archive::read_archived_results;
pub use into::{replay_archive_into, replay_into};
use window::{Place, Window};

/// Messages read ahead.
const PREFETCH: u16 = 4_000;
/// Messages between two acks; RabbitMQ's advice is about a tenth of the prefetch or a little more.
const ACK_EVERY_MESSAGES: usize = 500;
/// How long the broker may take to appear.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a replay begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayFrom {
    /// The oldest message that there still is.
    First,
    /// The last message.
    Last,
    /// What comes from now on.
    Next,
    /// This offset.
    Offset(u64),
    /// The first message published at or after this moment, in seconds since 1970.
    Timestamp(u64),
}

impl ReplayFrom {
    /// The first message published within this time before now.
    pub fn ago(back: Duration) -> Self {
        let now = u64::try_from(Timestamp::now().as_seconds()).unwrap_or_default();
        Self::Timestamp(now.saturating_sub(back.as_secs()))
    }
}

/// Where a replay ends, if that comes before the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayUntil {
    /// This offset, itself included.
    Offset(u64),
    /// The last message published at or before this moment, in seconds since 1970.
    Timestamp(u64),
}

/// Which part of the history to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayRange {
    /// Where to begin.
    pub from: ReplayFrom,
    /// Where to end, at the latest.
    pub until: Option<ReplayUntil>,
    /// Whether to go on with what arrives, instead of ending with the last message that is there at the call.
    pub follow: bool,
}

impl ReplayRange {
    /// From here to the last message that is there at the call.
    pub const fn from(from: ReplayFrom) -> Self {
        Self { from, until: None, follow: false }
    }
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

impl ReplaySummary {
    /// Counts a message and gives its record, if it has one.
    fn count(&mut self, offset: u64, decoded: Result<Record, DecodeError>) -> Option<Record> {
        self.messages += 1;
        match decoded {
            Ok(record) => {
                self.results += usize::from(matches!(record, Record::Result(_)));
                Some(record)
            }
            Err(error) => {
                self.undecodable += 1;
                warn!(offset, error = %chain(&error), "result does not decode");
                None
            }
        }
    }
}

/// Decodes one message of the result stream.
pub(crate) fn decode_record(delivery: &Delivery) -> Result<Record, DecodeError> {
    Record::decode(delivery.message_type(), delivery.schema_version(), delivery.body())
}

/// Reads the part of the stream that `range` names, or until `stop`, and hands each record with its offset to `take`.
///
/// A connection that is lost heals, and the reading goes on behind the last message that it had.
///
/// # Errors
///
/// [`PipelineError::Broker`] if the broker is not there or has no such stream, or what `take` returns.
pub async fn read_results(
    url: &AmqpUrl,
    range: ReplayRange,
    stop: &CancellationToken,
    mut take: impl FnMut(u64, Record) -> Result<(), PipelineError>,
) -> Result<ReplaySummary, PipelineError> {
    let mut summary = ReplaySummary::default();
    read_stream(url, range, stop, |offset, delivery| match summary.count(offset, decode_record(delivery)) {
        Some(record) => take(offset, record),
        None => Ok(()),
    })
    .await?;
    Ok(summary)
}

/// Reads the part of the stream that `range` names, or until `stop`, and hands each message to `take`, undecoded.
pub(crate) async fn read_stream(
    url: &AmqpUrl,
    range: ReplayRange,
    stop: &CancellationToken,
    mut take: impl FnMut(u64, &Delivery) -> Result<(), PipelineError>,
) -> Result<(), PipelineError> {
    let failed = || PipelineError::broker("replay");
    let end = last_offset(url, names::RESULTS).await.map_err(failed())?;
    let window = Window::of(range, end);
    if !range.follow && (range.from == ReplayFrom::Next || window.begins_behind(end)) {
        return Ok(());
    }
    let start = match range.from {
        ReplayFrom::First => Start::StreamFirst,
        ReplayFrom::Last => Start::StreamLast,
        ReplayFrom::Next => Start::StreamNext,
        ReplayFrom::Offset(offset) => Start::StreamOffset(offset),
        ReplayFrom::Timestamp(seconds) => Start::StreamTimestamp(seconds),
    };
    let mut reading =
        Subscription::start(url, "augur replay", names::RESULTS, start, PREFETCH, Patience::For(PATIENCE), stop)
            .await
            .map_err(failed())?;
    let closing = window.closing().map(|wait| tokio::time::Instant::now() + wait);
    let mut deliveries = 0_usize;
    while let Some(delivery) = next_before(&mut reading, closing).await {
        deliveries += 1;
        let offset = delivery.stream_offset().expect("stream messages have offsets");
        let place = window.place(offset, delivery.published_at());
        if place == Place::Inside {
            take(offset, &delivery)?;
        }
        let is_end =
            place == Place::Past || window.ends_with(offset) || (!range.follow && end.is_some_and(|end| offset >= end));
        if is_end || deliveries.is_multiple_of(ACK_EVERY_MESSAGES) {
            delivery
                .settle(Settlement::DoneThrough)
                .await
                .unwrap_or_else(|error| warn!(%error, "replay could not ack"));
        }
        if is_end {
            break;
        }
    }
    Ok(())
}

/// The next delivery; `None` once stopped, or once it is too late for one.
async fn next_before(reading: &mut Subscription, closing: Option<tokio::time::Instant>) -> Option<Delivery> {
    match closing {
        None => reading.next().await,
        Some(closing) => tokio::time::timeout_at(closing, reading.next()).await.ok().flatten(),
    }
}
