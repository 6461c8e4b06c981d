//! Reading the result stream again, or its archive: as records, or into a database.

mod archive;
mod into;
mod window;

use std::time::Duration;

use broker::{AmqpUrl, Delivery, Patience, Settlement, Start, StreamEnd, Subscription, stream_end};
use messages::{DecodeError, RunId, Timestamp};
use store::Record;
use tokio_util::sync::CancellationToken;
use topology::names;
use tracing::warn;

use crate::{PipelineError, worker::chain};
pub use archive::read_archived_results;
pub use into::{replay_archive_into, replay_into};
use window::{DISORDER_S_MAX, Place, Window, open_for};

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
    /// Whether to go on with what arrives, instead of ending with the last message that is there at the call (or one
    /// that arrives while that is looked for).
    pub follow: bool,
    /// Only what is about this run; the cancellation of a single job does not say of which it is.
    pub run: Option<RunId>,
}

impl ReplayRange {
    /// From here to the last message that is there at the call.
    pub const fn from(from: ReplayFrom) -> Self {
        Self { from, until: None, follow: false, run: None }
    }
}

/// What a replay read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplaySummary {
    /// Messages read.
    pub messages: usize,
    /// Results among them, of the run if one was asked for.
    pub results: usize,
    /// Messages that do not decode.
    pub undecodable: usize,
    /// Results that the database did not have.
    pub results_new: usize,
}

impl ReplaySummary {
    /// Counts a message and gives its record, if it has one that is wanted.
    fn count(&mut self, range: ReplayRange, offset: u64, decoded: Result<Record, DecodeError>) -> Option<Record> {
        self.messages += 1;
        match decoded {
            Ok(record) if range.run.is_some() && record.run_id() != range.run => None,
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
    read_stream(url, range, stop, |offset, delivery| match summary.count(range, offset, decode_record(delivery)) {
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
    // Behind a moment that has passed there is nothing to follow.
    let open_for = open_for(range.until);
    let follow = range.follow && open_for != Some(Duration::ZERO);
    if range.from == ReplayFrom::Next && !follow {
        return Ok(());
    }
    let closing = open_for.filter(|_| follow).map(|wait| tokio::time::Instant::now() + wait);
    let failed = || PipelineError::broker("replay");
    // To find the end takes half a second of silence, in which much can be read already where the end is not needed.
    let finding_end = stream_end(url, names::RESULTS);
    tokio::pin!(finding_end);
    let mut end = match range.from {
        ReplayFrom::Last | ReplayFrom::Timestamp(_) => End::Known(finding_end.as_mut().await.map_err(failed())?),
        ReplayFrom::First | ReplayFrom::Next | ReplayFrom::Offset(_) => End::Sought,
    };
    let window = Window::of(range, end.offset());
    let start = start_of(range.from, end);
    let mut reading =
        Subscription::start(url, "augur replay", names::RESULTS, start, PREFETCH, Patience::For(PATIENCE), stop)
            .await
            .map_err(failed())?;
    let (mut deliveries, mut reached) = (0_usize, None);
    while follow || !end.is_reached(&window, reached) {
        let delivery = tokio::select! {
            found = finding_end.as_mut(), if end == End::Sought && !follow => {
                end = End::Known(found.map_err(failed())?);
                continue;
            }
            delivery = next_before(&mut reading, closing) => delivery,
        };
        let Some(delivery) = delivery else { break };
        deliveries += 1;
        let offset = delivery.stream_offset().expect("stream messages have offsets");
        reached = Some(offset);
        let place = window.place(offset, delivery.published_at());
        if place == Place::Inside {
            take(offset, &delivery)?;
        }
        let is_over = place == Place::Past || window.ends_with(offset);
        if is_over || deliveries.is_multiple_of(ACK_EVERY_MESSAGES) {
            delivery
                .settle(Settlement::DoneThrough)
                .await
                .unwrap_or_else(|error| warn!(%error, "replay could not ack"));
        }
        if is_over {
            break;
        }
    }
    Ok(())
}

/// The end of the stream at the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Sought,
    /// `None` if the stream was empty.
    Known(Option<StreamEnd>),
}

impl End {
    fn offset(self) -> Option<u64> {
        match self {
            Self::Known(Some(end)) => Some(end.offset),
            Self::Known(None) | Self::Sought => None,
        }
    }

    /// Whether nothing inside `window` is left to read once the message at `reached` is read.
    fn is_reached(self, window: &Window, reached: Option<u64>) -> bool {
        self != Self::Sought && (window.begins_behind(self.offset()) || reached >= self.offset())
    }
}

/// Where to begin to read so that everything inside comes, and so does the end.
fn start_of(from: ReplayFrom, end: End) -> Start {
    match from {
        ReplayFrom::First => Start::StreamFirst,
        ReplayFrom::Last => Start::StreamLast,
        ReplayFrom::Next => Start::StreamNext,
        ReplayFrom::Offset(offset) => Start::StreamOffset(offset),
        ReplayFrom::Timestamp(seconds) => {
            let End::Known(Some(StreamEnd { published_at: Some(last), .. })) = end else {
                return Start::StreamFirst;
            };
            // From a moment behind its last chunk, RabbitMQ reads what comes from now on. Clocks differ.
            let last = u64::try_from(last.as_seconds()).unwrap_or_default();
            Start::StreamTimestamp(seconds.min(last).saturating_sub(DISORDER_S_MAX))
        }
    }
}

/// The next delivery; `None` once stopped, or once it is too late for one.
async fn next_before(reading: &mut Subscription, closing: Option<tokio::time::Instant>) -> Option<Delivery> {
    match closing {
        None => reading.next().await,
        Some(closing) => tokio::time::timeout_at(closing, reading.next()).await.ok().flatten(),
    }
}
