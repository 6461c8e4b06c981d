//! Looking through a queue: its messages stay in it unless they are settled.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::{AmqpUrl, BrokerError, Delivery, Link, Patience, Start, declare::message_count, flow::Flow};

/// Messages that a reader has in hand at most: each stays in memory here until it is taken from the reader.
pub const READER_MESSAGES_MAX: u16 = 10_000;
/// How long a queue that counts messages may take to deliver the first one, in milliseconds.
const FIRST_MS_MAX: u64 = 10_000;
/// Silence after which no more comes, in milliseconds: somebody else took the rest, or it expired.
const SILENCE_MS_MAX: u64 = 2_000;
/// How long messages may take to be back in their queue, in milliseconds.
const RETURN_MS_MAX: u64 = 5_000;
/// Wait before asking again, in milliseconds.
const RETURN_POLL_MS: u64 = 20;

/// Reads what a queue holds now, from its head, without taking it.
///
/// A message that the caller settles with [`Settlement::Done`](crate::Settlement::Done) is gone. All others go back
/// to the head of the queue, in their order, when the reader is closed or dropped. Until then other readers do not
/// see them. Each look counts as a return of the message.
pub struct QueueReader {
    // Before its link, so that it goes first.
    flow: Flow,
    link: Link,
    queue: String,
    messages: u64,
    left: u64,
    silence_ms: u64,
}

impl QueueReader {
    /// Connects and begins to read at most `messages_max` messages.
    ///
    /// Of more than [`READER_MESSAGES_MAX`] the rest comes only as far as earlier ones were settled.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Connect`] if no broker answers within `patience`, [`BrokerError::NoQueue`] if it has no such
    /// queue, [`BrokerError::Command`] if it refuses.
    pub async fn open(url: &AmqpUrl, queue: &str, messages_max: u64, patience: Patience) -> Result<Self, BrokerError> {
        let link = Link::new(url, &format!("augur reader of {queue}"), patience, &CancellationToken::new());
        let messages = message_count(&link, queue).await?;
        let left = messages.min(messages_max);
        let prefetch = u16::try_from(left).unwrap_or(u16::MAX).clamp(1, READER_MESSAGES_MAX);
        let flow = Flow::open(&link, queue, Start::Queue, prefetch, patience).await?;
        Ok(Self { flow, link, queue: queue.to_owned(), messages, left, silence_ms: FIRST_MS_MAX })
    }

    /// How many messages the queue held when it was opened, without those that somebody else has in hand.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// The next message; `None` after the last one that was there when the queue was opened.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Command`] if the connection is lost: everything that is not settled is back in the queue then.
    pub async fn next(&mut self) -> Result<Option<Delivery>, BrokerError> {
        if self.left == 0 {
            return Ok(None);
        }
        let silence = Duration::from_millis(self.silence_ms);
        let Ok(arrived) = tokio::time::timeout(silence, self.flow.next()).await else {
            self.left = 0;
            return Ok(None);
        };
        let queue = &self.queue;
        let delivery = arrived.ok_or_else(|| BrokerError::NoQueue { queue: queue.clone() })?;
        let delivery = delivery.map_err(BrokerError::command(format!("read `{queue}`")))?;
        self.left -= 1;
        self.silence_ms = SILENCE_MS_MAX;
        Ok(Some(delivery))
    }

    /// Gives everything that is not settled back to the queue, and waits until it is there.
    ///
    /// Whoever opens the queue after that sees all of it; after a mere drop, a moment later.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Command`] if the connection is lost already.
    pub async fn close(mut self) -> Result<(), BrokerError> {
        self.flow.cancel().await;
        while let Some(Ok(_not_taken)) = self.flow.next().await {}
        let returning = self.flow.unsettled();
        let what = format!("stop reading `{}`", self.queue);
        self.flow.close().await.map_err(BrokerError::command(what))?;
        // The broker answers before the queue knows. Fewer are there if somebody else has taken some already.
        let deadline = Instant::now() + Duration::from_millis(RETURN_MS_MAX);
        while message_count(&self.link, &self.queue).await? < returning && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(RETURN_POLL_MS)).await;
        }
        Ok(())
    }
}
