//! A message as it arrives, and the one place where deliveries are settled.

use std::sync::Arc;

use lapin::{
    Acker,
    options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions},
    types::{FieldTable, ShortString},
};
use messages::{DecodeError, Message, RunId, Timestamp, decode};

use crate::{
    BrokerError, Death,
    connect::unless_lost,
    flow::Unsettled,
    headers::{self, ATTEMPT, DELIVERY_COUNT, REASON, REPLAYS, RETURNS, SCHEMA_VERSION, STREAM_OFFSET},
};

/// How a delivery ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// Done: its result is stored.
    Done,
    /// Done, together with everything before it on the same channel.
    DoneThrough,
    /// Back into its queue, for another consumer.
    Return,
    /// Never again: to the dead-letter queue.
    DeadLetter,
}

/// A message with all that is needed to decode and to settle it.
#[derive(Debug)]
pub struct Delivery {
    inner: lapin::message::Delivery,
    /// Keeps a channel that takes nothing new open until this is settled.
    unsettled: Arc<Unsettled>,
}

impl Delivery {
    pub(crate) fn new(inner: lapin::message::Delivery, unsettled: Arc<Unsettled>) -> Self {
        Self { inner, unsettled }
    }

    /// AMQP property `type`.
    pub fn message_type(&self) -> Option<&str> {
        self.inner.properties.kind().as_ref().map(ShortString::as_str)
    }

    /// AMQP property `message-id`.
    pub fn message_id(&self) -> Option<&str> {
        self.inner.properties.message_id().as_ref().map(ShortString::as_str)
    }

    /// The run of a job, from AMQP's `correlation-id`; `None` if there is no run's id.
    pub fn run_id(&self) -> Option<RunId> {
        self.inner.properties.correlation_id().as_ref()?.as_str().parse().ok()
    }

    /// How often a job was sent back from the dead letters; 0 if the header is absent.
    pub fn replays(&self) -> u32 {
        self.header_integer(REPLAYS).and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
    }

    /// Header `schema-version`.
    pub fn schema_version(&self) -> Option<u16> {
        u16::try_from(self.header_integer(SCHEMA_VERSION)?).ok()
    }

    /// Our own count of attempts; 1 if the header is absent.
    pub fn attempt(&self) -> u32 {
        self.header_integer(ATTEMPT).and_then(|count| u32::try_from(count).ok()).unwrap_or(1).max(1)
    }

    /// How often the broker took it back from a consumer and delivered it again, for whatever reason, also before it was
    /// handed back last.
    ///
    /// Only quorum queues count; of another queue's message nothing more is known than that it came back.
    pub fn returns(&self) -> u32 {
        let counted = |name| self.header_integer(name).map(|count| u32::try_from(count.max(0)).unwrap_or(u32::MAX));
        let here = counted(DELIVERY_COUNT).unwrap_or(u32::from(self.is_redelivered()));
        here.saturating_add(counted(RETURNS).unwrap_or(0))
    }

    /// Why we sent it to the dead letters, in one word of ours; [`Delivery::death`] has the broker's reasons.
    pub fn reason(&self) -> Option<&str> {
        headers::text(self.headers()?, REASON)
    }

    /// Why and from which queue the broker itself moved it here last, if it did.
    pub fn death(&self) -> Option<Death> {
        Death::last(self.headers()?)
    }

    /// When its publisher sent it, by the publisher's clock, in whole seconds.
    pub fn published_at(&self) -> Option<Timestamp> {
        headers::moment((*self.inner.properties.timestamp())?)
    }

    /// Offset in the stream, if it was read from one.
    pub fn stream_offset(&self) -> Option<u64> {
        u64::try_from(self.header_integer(STREAM_OFFSET)?).ok()
    }

    /// Offset and message id, by which a stream can be told from another one of its name, if it was read from one.
    pub fn stream_fingerprint(&self) -> Option<String> {
        Some(fingerprint(self.stream_offset()?, self.message_id()))
    }

    /// The exchange that it was published to.
    pub fn exchange(&self) -> &str {
        self.inner.exchange.as_str()
    }

    /// The key that it was published with.
    pub fn routing_key(&self) -> &str {
        self.inner.routing_key.as_str()
    }

    /// Whether the broker has delivered it before.
    pub fn is_redelivered(&self) -> bool {
        self.inner.redelivered
    }

    /// The body's bytes.
    pub fn body(&self) -> &[u8] {
        &self.inner.data
    }

    /// Decodes the body.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] says what is wrong with it.
    pub fn decode<M: Message>(&self) -> Result<M, DecodeError> {
        decode(self.message_type(), self.schema_version(), self.body())
    }

    /// Settles this delivery, once: the only way in which Augur acks, returns or rejects.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Settle`] if its channel is gone; the broker then delivers the message again.
    pub async fn settle(self, settlement: Settlement) -> Result<(), BrokerError> {
        let acker = &self.inner.acker;
        let settling = async {
            match settlement {
                Settlement::Done => acker.ack(BasicAckOptions::default()).await,
                Settlement::DoneThrough => acker.ack(BasicAckOptions { multiple: true }).await,
                Settlement::Return => acker.nack(BasicNackOptions { multiple: false, requeue: true }).await,
                Settlement::DeadLetter => acker.reject(BasicRejectOptions { requeue: false }).await,
            }
        };
        let settled = answered(acker, settling).await;
        let delivery_tag = self.inner.delivery_tag;
        match settled {
            Ok(true) => {
                self.unsettled.count_settled();
                Ok(())
            }
            Ok(false) => Err(BrokerError::Settle { delivery_tag, source: None }),
            Err(source) => Err(BrokerError::Settle { delivery_tag, source: Some(Box::new(source)) }),
        }
    }

    fn headers(&self) -> Option<&FieldTable> {
        self.inner.properties.headers().as_ref()
    }

    fn header_integer(&self, name: &str) -> Option<i64> {
        headers::integer(self.headers()?, name)
    }
}

/// Offset and message id of a stream's message, by which the stream can be told from another one of its name.
pub fn fingerprint(offset: u64, message_id: Option<&str>) -> String {
    format!("{offset}:{}", message_id.unwrap_or_default())
}

/// Whether something was settled; not if its channel goes before lapin answers.
async fn answered(acker: &Acker, settling: impl Future<Output = lapin::Result<bool>>) -> lapin::Result<bool> {
    unless_lost(settling, || acker.poisoned()).await.unwrap_or(Ok(false))
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use lapin::{BasicProperties, options::BasicPublishOptions};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        Link, Patience, Start,
        connect::{close, connect_once},
        flow::Flow,
        testing::node_url,
    };

    /// How long a test may take before it counts as hung.
    const TEST_MAX: Duration = Duration::from_mins(2);

    /// lapin may never answer an ack that reaches it while its connection goes.
    #[tokio::test]
    async fn a_forgotten_ack_ends_with_its_connection() {
        let url = node_url();
        let connection = connect_once(&url, "test").await.expect("a connection");
        let channel = connection.create_channel().await.expect("a channel");
        let durable = lapin::options::QueueDeclareOptions::durable();
        channel.queue_declare("lane".into(), durable, FieldTable::default()).await.expect("a queue");
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish("".into(), "lane".into(), options, b"x", BasicProperties::default()).await;
        drop(sent.expect("sent").await.expect("taken"));
        let link = Link::new(&url, "test", Patience::Endless, &CancellationToken::new());
        let mut flow = Flow::open(&link, "lane", Start::Queue, 1, Patience::Endless).await.expect("a flow");
        let delivery = flow.next().await.expect("a delivery").expect("a connection");
        link.close().await;
        let forgotten = answered(&delivery.inner.acker, pending());
        let answer = tokio::time::timeout(TEST_MAX, forgotten).await.expect("it ends");
        assert!(!answer.expect("no error"), "it was not settled");
        let late = delivery.settle(Settlement::Done).await;
        assert!(matches!(late, Err(BrokerError::Settle { .. })), "{late:?}");
        close(&connection).await.expect("closed");
    }
}
