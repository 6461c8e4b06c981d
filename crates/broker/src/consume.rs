//! Consuming a queue or reading a stream, over a connection that comes back.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::{
    Connection, Consumer,
    options::{BasicConsumeOptions, BasicQosOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    AmqpUrl, BrokerError, Delivery, Patience,
    connect::{REFUSED_WAIT_MS, connect},
};

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Consume a queue.
    Queue,
    /// Read a stream from its oldest message.
    StreamFirst,
    /// Read a stream from its last chunk.
    StreamLast,
    /// Read only what comes into a stream from now on.
    StreamNext,
    /// Read a stream from this offset, itself included.
    StreamOffset(u64),
    /// Read a stream from the chunk that holds this moment, in seconds since 1970 (filter again: chunks are coarse).
    StreamTimestamp(u64),
}

impl Start {
    fn argument(self) -> Option<AMQPValue> {
        match self {
            Self::Queue => None,
            Self::StreamFirst => Some(AMQPValue::LongString("first".into())),
            Self::StreamLast => Some(AMQPValue::LongString("last".into())),
            Self::StreamNext => Some(AMQPValue::LongString("next".into())),
            // A number in a text would be taken for an interval.
            Self::StreamOffset(offset) => Some(AMQPValue::LongLongInt(i64::try_from(offset).unwrap_or(i64::MAX))),
            Self::StreamTimestamp(seconds) => Some(AMQPValue::Timestamp(seconds)),
        }
    }
}

/// Deliveries of one queue or stream; the connection behind it is reopened when lost.
///
/// After a lost connection a queue's unsettled deliveries come again from the broker (settling the old ones then
/// fails, harmlessly), and a stream goes on behind the last offset that was handed out, never from its first
/// arguments. After the stop nothing new comes, but what was handed out can be settled until the subscription is
/// dropped; dropping it closes the connection.
#[derive(Debug)]
pub struct Subscription {
    deliveries: mpsc::Receiver<Delivery>,
    stop: CancellationToken,
    dropped: CancellationToken,
}

impl Subscription {
    /// Connects and subscribes; `prefetch` bounds the deliveries that are handed out and not settled.
    ///
    /// `patience` bounds the first connection only: once it stood, it is reopened until `stop`.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Connect`] if no broker answers within `patience`; [`BrokerError::Command`] if it refuses
    /// the subscription (no such queue, no permission).
    pub async fn start(
        url: &AmqpUrl,
        name: &str,
        queue: &str,
        start: Start,
        prefetch: u16,
        patience: Patience,
        stop: &CancellationToken,
    ) -> Result<Self, BrokerError> {
        let (stop, dropped) = (stop.child_token(), CancellationToken::new());
        let mut reading = Reading {
            url: url.clone(),
            name: name.to_owned(),
            queue: queue.to_owned(),
            next: start,
            prefetch,
            stop: stop.clone(),
            dropped: dropped.clone(),
        };
        let link = reading.subscribe(patience).await?;
        let (handed_out, deliveries) = mpsc::channel(usize::from(prefetch).max(1));
        tokio::spawn(async move { reading.run(link, handed_out).await });
        Ok(Self { deliveries, stop, dropped })
    }

    /// The next delivery; `None` once stopped.
    ///
    /// Cancel-safe: a delivery is either handed out or still in line.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.deliveries.recv().await
    }

    /// The next delivery if one is in line already.
    pub fn next_in_line(&mut self) -> Option<Delivery> {
        self.deliveries.try_recv().ok()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.stop.cancel();
        self.dropped.cancel();
    }
}

/// The reading task's state.
struct Reading {
    url: AmqpUrl,
    name: String,
    queue: String,
    next: Start,
    prefetch: u16,
    stop: CancellationToken,
    dropped: CancellationToken,
}

impl Reading {
    async fn subscribe(&self, patience: Patience) -> Result<(Connection, Consumer), BrokerError> {
        let connection = connect(&self.url, &self.name, patience, &self.stop).await?;
        let what = || format!("subscribe to `{}`", self.queue);
        let channel = connection.create_channel().await.map_err(BrokerError::command(what()))?;
        channel.basic_qos(self.prefetch, BasicQosOptions::default()).await.map_err(BrokerError::command(what()))?;
        let mut arguments = FieldTable::default();
        if let Some(offset) = self.next.argument() {
            arguments.insert("x-stream-offset".into(), offset);
        }
        let consumer = channel
            .basic_consume(self.queue.as_str().into(), "".into(), BasicConsumeOptions::default(), arguments)
            .await
            .map_err(BrokerError::command(what()))?;
        Ok((connection, consumer))
    }

    async fn run(&mut self, mut link: (Connection, Consumer), handed_out: mpsc::Sender<Delivery>) {
        while self.hand_out(&mut link.1, &handed_out).await {
            let Some(again) = self.subscribe_again().await else { return };
            link = again;
        }
        // Now the subscription is at its end; its connection stays for what is not settled yet.
        drop(handed_out);
        self.dropped.cancelled().await;
    }

    /// Hands out deliveries; `true` if the connection was lost, `false` if nobody wants more.
    async fn hand_out(&mut self, consumer: &mut Consumer, handed_out: &mpsc::Sender<Delivery>) -> bool {
        loop {
            let arrived = tokio::select! {
                () = self.stop.cancelled() => return false,
                arrived = consumer.next() => arrived,
            };
            match arrived {
                Some(Ok(delivery)) => {
                    let delivery = Delivery::new(delivery);
                    if let Some(offset) = delivery.stream_offset() {
                        self.next = Start::StreamOffset(offset + 1);
                    }
                    tokio::select! {
                        () = self.stop.cancelled() => return false,
                        sent = handed_out.send(delivery) => if sent.is_err() { return false },
                    }
                }
                Some(Err(error)) => {
                    warn!(queue = self.queue, %error, "subscription lost");
                    return true;
                }
                // The broker cancels a consumer when its queue moves or its stream is closed.
                None => {
                    warn!(queue = self.queue, "subscription cancelled by the broker");
                    return true;
                }
            }
        }
    }

    /// Subscribes again, for as long as it takes.
    async fn subscribe_again(&self) -> Option<(Connection, Consumer)> {
        loop {
            match self.subscribe(Patience::Endless).await {
                Ok(link) => {
                    debug!(queue = self.queue, next = ?self.next, "subscribed again");
                    return Some(link);
                }
                Err(BrokerError::Closed) => return None,
                Err(error) => warn!(queue = self.queue, %error, "broker refuses the subscription"),
            }
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = tokio::time::sleep(Duration::from_millis(REFUSED_WAIT_MS)) => {}
            }
        }
    }
}
