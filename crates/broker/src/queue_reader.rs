//! Looking through a queue: its messages stay in it unless they are settled.

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::{AmqpUrl, BrokerError, Delivery, Link, Patience, Start, declare::message_count, flow::Flow};

/// Messages that a reader has in hand on one channel; for more it opens another one.
const CHANNEL_MESSAGES_MAX: u16 = 10_000;
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
    // Before their link, so that they go first.
    /// Those that hold as much as they may, the oldest first.
    full: Vec<Flow>,
    flow: Flow,
    /// What follows `flow` once that is full; whoever gives up waiting for it finds it here again.
    opening: Option<BoxFuture<'static, Result<Flow, BrokerError>>>,
    link: Link,
    queue: String,
    prefetch: u16,
    messages: u64,
    left: u64,
    silence_ms: u64,
}

impl QueueReader {
    /// Connects and begins to read at most `messages_max` messages.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Connect`] if no broker answers within `patience`, [`BrokerError::NoQueue`] if it has no such
    /// queue, [`BrokerError::Command`] if it refuses.
    pub async fn open(url: &AmqpUrl, queue: &str, messages_max: u64, patience: Patience) -> Result<Self, BrokerError> {
        Self::open_with(url, queue, messages_max, CHANNEL_MESSAGES_MAX, patience).await
    }

    async fn open_with(
        url: &AmqpUrl,
        queue: &str,
        messages_max: u64,
        channel_messages_max: u16,
        patience: Patience,
    ) -> Result<Self, BrokerError> {
        let link = Link::new(url, &format!("augur reader of {queue}"), patience, &CancellationToken::new());
        let messages = message_count(&link, queue).await?;
        let left = messages.min(messages_max);
        let prefetch = u16::try_from(left).unwrap_or(u16::MAX).clamp(1, channel_messages_max);
        let flow = Flow::open(&link, queue, Start::Queue, prefetch, patience).await?;
        let queue = queue.to_owned();
        Ok(Self {
            full: Vec::new(),
            flow,
            opening: None,
            link,
            queue,
            prefetch,
            messages,
            left,
            silence_ms: FIRST_MS_MAX,
        })
    }

    /// How many messages the queue held when it was opened, without those that somebody else has in hand.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// The next message; `None` after the last one that was there when the queue was opened. Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Command`] if the connection is lost: everything that is not settled is back in the queue then.
    pub async fn next(&mut self) -> Result<Option<Delivery>, BrokerError> {
        if self.left == 0 {
            return Ok(None);
        }
        let silence = Duration::from_millis(self.silence_ms);
        loop {
            if let Some(opening) = &mut self.opening {
                let next = opening.await;
                self.opening = None;
                self.full.push(std::mem::replace(&mut self.flow, next?));
            }
            if self.flow.unsettled() >= u64::from(self.prefetch) {
                // Nothing more comes on it unless something is settled; let that come on the next one.
                self.flow.cancel().await;
            }
            let Ok(arrived) = tokio::time::timeout(silence, self.flow.next()).await else {
                self.left = 0;
                return Ok(None);
            };
            let queue = &self.queue;
            match arrived {
                Some(delivery) => {
                    let delivery = delivery.map_err(BrokerError::command(format!("read `{queue}`")))?;
                    self.left -= 1;
                    self.silence_ms = SILENCE_MS_MAX;
                    return Ok(Some(delivery));
                }
                None if self.flow.is_cancelled() => {
                    let (link, queue, prefetch) = (self.link.clone(), queue.clone(), self.prefetch);
                    self.opening = Some(Box::pin(async move {
                        Flow::open(&link, &queue, Start::Queue, prefetch, link.patience()).await
                    }));
                }
                None => return Err(BrokerError::NoQueue { queue: queue.clone() }),
            }
        }
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
        self.full.push(self.flow);
        let returning = self.full.iter().map(Flow::unsettled).sum();
        for flow in self.full {
            let what = format!("stop reading `{}`", self.queue);
            flow.close().await.map_err(BrokerError::command(what))?;
        }
        // The broker answers before the queue knows. Fewer are there if somebody else has taken some already.
        let deadline = Instant::now() + Duration::from_millis(RETURN_MS_MAX);
        while message_count(&self.link, &self.queue).await? < returning && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(RETURN_POLL_MS)).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lapin::{BasicProperties, options::QueueDeclareOptions};

    use super::*;
    use crate::{connect::connect_once, testing::node_url};

    const MESSAGES: u64 = 40;

    /// Whoever looks at something else meanwhile gives up many calls, some of them while a channel is being opened.
    #[tokio::test]
    async fn calls_that_are_given_up_lose_nothing() {
        let url = node_url();
        let connection = connect_once(&url, "test").await.expect("a connection");
        let channel = connection.create_channel().await.expect("a channel");
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare("held".into(), durable, lapin::types::FieldTable::default()).await.expect("a queue");
        for _ in 0..MESSAGES {
            let options = lapin::options::BasicPublishOptions::default();
            let sent = channel.basic_publish("".into(), "held".into(), options, b"x", BasicProperties::default()).await;
            drop(sent.expect("sent").await.expect("taken"));
        }
        let link = Link::new(&url, "test", Patience::Endless, &CancellationToken::new());
        while message_count(&link, "held").await.expect("a count") < MESSAGES {
            tokio::task::yield_now().await;
        }
        let patience = Patience::Endless;
        let mut reader = QueueReader::open_with(&url, "held", u64::MAX, 1, patience).await.expect("a reader");
        let mut held = Vec::new();
        while let Some(delivery) = patiently(&mut reader).await {
            held.push(delivery);
        }
        assert_eq!(held.len() as u64, MESSAGES);
        drop(held);
        reader.close().await.expect("closed");
    }

    /// The next message, by calls of which each is polled a few times only.
    async fn patiently(reader: &mut QueueReader) -> Option<Delivery> {
        loop {
            let elsewhere = async {
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                biased;
                next = reader.next() => return next.expect("connected"),
                () = elsewhere => {}
            }
        }
    }
}
