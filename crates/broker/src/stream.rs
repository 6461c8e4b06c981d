//! The end of a stream, and where to go on reading one.

use std::time::Duration;

use messages::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{AmqpUrl, BrokerError, Delivery, Link, Patience, Settlement, Start, Subscription, declare::message_count};

/// A stream delivers its last chunk at once; silence of this length, in milliseconds, means that it is over.
pub const TAIL_SILENCE_MS_MAX: u64 = 500;
/// How long a stream that is not empty may take to deliver its last chunk, in milliseconds.
const TAIL_FIRST_MS_MAX: u64 = 10_000;
/// The same for a stream that counts no messages, in milliseconds: RabbitMQ counts them every few seconds only, so
/// it may have got its first ones just now.
const TAIL_UNCOUNTED_MS_MAX: u64 = 2_000;
/// How long the end of a stream is looked for while others go on writing it, in milliseconds.
const TAIL_LIVE_MS_MAX: u64 = 1_000;
/// Messages of the last chunk in flight.
const TAIL_PREFETCH: u16 = 1_000;

/// The last message of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamEnd {
    /// Its offset.
    pub offset: u64,
    /// When it was published, by its publisher's clock.
    pub published_at: Option<Timestamp>,
}

/// The last message in a stream now, `None` if it is empty.
///
/// Offsets have gaps, so this is found by reading the last chunk, not by counting. Takes seconds if it is empty.
///
/// # Errors
///
/// [`BrokerError`] if the broker is not there or has no such stream.
pub async fn stream_end(url: &AmqpUrl, stream: &str) -> Result<Option<StreamEnd>, BrokerError> {
    stream_end_over(&link(url), stream).await
}

/// How a stream stands to what was read before from one of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Continuity {
    /// It goes on behind the last message that was read.
    Unbroken,
    /// Retention took the last message that was read, and perhaps some behind it: there is nothing before this offset.
    Cut {
        /// Offset of the first message that there still is.
        first_offset: u64,
    },
    /// It is another stream, on a broker that was set up anew: it ends before the last message that was read, or has
    /// another one in its place.
    Other {
        /// What names the message in its place, if there is one.
        found: Option<String>,
    },
}

/// Looks at how a stream stands to the last message that was read of it: its offset and, where it is known, its
/// fingerprint ([`Delivery::stream_fingerprint`]).
///
/// # Errors
///
/// As [`stream_end`].
pub async fn continuity(
    url: &AmqpUrl,
    stream: &str,
    last_offset: u64,
    last_message: Option<&str>,
) -> Result<Continuity, BrokerError> {
    let link = link(url);
    let end = stream_end_over(&link, stream).await?;
    if end.is_some_and(|end| end.offset < last_offset) {
        return Ok(Continuity::Other { found: None });
    }
    // RabbitMQ shows no end of an empty stream, and none where the last segment has just begun.
    let wait_ms = if end.is_some() { TAIL_FIRST_MS_MAX } else { TAIL_UNCOUNTED_MS_MAX };
    let Some(found) = first_from(&link, stream, last_offset, wait_ms).await? else {
        return Ok(if end.is_some() { Continuity::Unbroken } else { Continuity::Other { found: None } });
    };
    let (offset, fingerprint) = (found.stream_offset(), found.stream_fingerprint());
    Ok(match offset.filter(|offset| *offset > last_offset) {
        Some(first_offset) => Continuity::Cut { first_offset },
        None if last_message.is_some_and(|expected| fingerprint.as_deref() != Some(expected)) => {
            Continuity::Other { found: fingerprint }
        }
        None => Continuity::Unbroken,
    })
}

/// Where to go on reading a stream of which everything before `next_offset` was read, the last of it the message
/// with the fingerprint `last_message`.
///
/// That is `next_offset`, unless this is another stream: what was read from the old one comes again in no case, so the
/// new one is read whole.
///
/// # Errors
///
/// As [`stream_end`].
pub async fn resume(
    url: &AmqpUrl,
    stream: &str,
    next_offset: Option<u64>,
    last_message: Option<&str>,
) -> Result<Start, BrokerError> {
    let Some(next) = next_offset else { return Ok(Start::StreamFirst) };
    let Some(last) = next.checked_sub(1) else { return Ok(Start::StreamOffset(next)) };
    if let Continuity::Other { found } = continuity(url, stream, last, last_message).await? {
        warn!(stream, stored = next, last_message, found, "another stream is there: reading it whole");
        return Ok(Start::StreamFirst);
    }
    Ok(Start::StreamOffset(next))
}

fn link(url: &AmqpUrl) -> Link {
    let patience = Patience::For(Duration::from_millis(TAIL_FIRST_MS_MAX));
    Link::new(url, "augur stream tail", patience, &CancellationToken::new())
}

async fn stream_end_over(link: &Link, stream: &str) -> Result<Option<StreamEnd>, BrokerError> {
    let count = message_count(link, stream).await?;
    let mut tail = Subscription::on(link, stream, Start::StreamLast, TAIL_PREFETCH).await?;
    let mut last = None;
    let mut wait_ms = if count == 0 { TAIL_UNCOUNTED_MS_MAX } else { TAIL_FIRST_MS_MAX };
    let mut deadline = Instant::now() + Duration::from_millis(TAIL_FIRST_MS_MAX);
    while let Ok(Some(delivery)) =
        tokio::time::timeout_at(deadline.min(Instant::now() + Duration::from_millis(wait_ms)), tail.next()).await
    {
        if last.is_none() {
            // Others may go on writing: what they have written until then is enough of an end.
            deadline = Instant::now() + Duration::from_millis(TAIL_LIVE_MS_MAX);
        }
        let published_at = delivery.published_at();
        last = delivery.stream_offset().map(|offset| StreamEnd { offset, published_at }).or(last);
        wait_ms = TAIL_SILENCE_MS_MAX;
        // On a connection that was lost meanwhile this fails: the subscription goes on behind the message all the same.
        delivery.settle(Settlement::Done).await.unwrap_or_else(|error| debug!(stream, %error, "tail could not ack"));
    }
    Ok(last)
}

/// The first message at this offset or behind it, in a stream that has one.
async fn first_from(link: &Link, stream: &str, offset: u64, wait_ms: u64) -> Result<Option<Delivery>, BrokerError> {
    let mut reading = Subscription::on(link, stream, Start::StreamOffset(offset), 1).await?;
    let first = tokio::time::timeout(Duration::from_millis(wait_ms), reading.next()).await;
    Ok(first.unwrap_or_default())
}
