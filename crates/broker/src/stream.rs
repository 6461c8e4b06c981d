//! The end of a stream.

use std::time::Duration;

use lapin::{options::QueueDeclareOptions, types::FieldTable};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{AmqpUrl, BrokerError, Patience, Settlement, Start, Subscription, connect_once};

/// A stream delivers its last chunk at once; silence of this length, in milliseconds, means that it is over.
pub const TAIL_SILENCE_MS_MAX: u64 = 500;
/// How long a stream that is not empty may take to deliver its last chunk, in milliseconds.
const TAIL_FIRST_MS_MAX: u64 = 10_000;
/// The same for a stream that counts no messages, in milliseconds: RabbitMQ counts them every few seconds only, so
/// it may have got its first ones just now.
const TAIL_UNCOUNTED_MS_MAX: u64 = 2_000;
/// Messages of the last chunk in flight.
const TAIL_PREFETCH: u16 = 1_000;

/// The offset of the last message in a stream now, `None` if it is empty.
///
/// Offsets have gaps, so this is found by reading the last chunk, not by counting. Takes seconds if it is empty.
///
/// # Errors
///
/// [`BrokerError`] if the broker is not there or has no such stream.
pub async fn last_offset(url: &AmqpUrl, stream: &str) -> Result<Option<u64>, BrokerError> {
    let connection = connect_once(url, "augur stream tail").await?;
    let what = || format!("look at stream `{stream}`");
    let channel = connection.create_channel().await.map_err(BrokerError::command(what()))?;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
    let declared = channel
        .queue_declare(stream.into(), options, FieldTable::default())
        .await
        .map_err(BrokerError::command(what()))?;
    connection.close(200, "done".into()).await.map_err(BrokerError::command(what()))?;
    let stop = CancellationToken::new();
    let patience = Patience::For(Duration::from_millis(TAIL_FIRST_MS_MAX));
    let mut tail =
        Subscription::start(url, "augur stream tail", stream, Start::StreamLast, TAIL_PREFETCH, patience, &stop)
            .await?;
    let mut last = None;
    let mut wait_ms = if declared.message_count() == 0 { TAIL_UNCOUNTED_MS_MAX } else { TAIL_FIRST_MS_MAX };
    while let Ok(Some(delivery)) = tokio::time::timeout(Duration::from_millis(wait_ms), tail.next()).await {
        last = delivery.stream_offset().max(last);
        wait_ms = TAIL_SILENCE_MS_MAX;
        delivery.settle(Settlement::Done).await?;
    }
    Ok(last)
}

/// Where to go on reading a stream: at the stored offset, or at its first message if that offset lies behind its end.
///
/// An offset behind the end belongs to another stream of that name, on a broker that was set up anew. What was read
/// from the old one comes again in no case, so the new one is read whole.
///
/// # Errors
///
/// As [`last_offset`].
pub async fn resume(url: &AmqpUrl, stream: &str, stored: Option<u64>) -> Result<Start, BrokerError> {
    let Some(next) = stored else { return Ok(Start::StreamFirst) };
    let end = last_offset(url, stream).await?.map_or(0, |last| last + 1);
    if next <= end {
        return Ok(Start::StreamOffset(next));
    }
    warn!(
        stream,
        stored = next,
        end,
        "the stored offset lies behind the stream's end: this is a new stream; reading it whole"
    );
    Ok(Start::StreamFirst)
}
