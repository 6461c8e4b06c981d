//! A message as it arrives, and the one place where deliveries are settled.

use lapin::{
    options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use messages::{DecodeError, Message, decode};

use crate::BrokerError;

/// Header with the schema version of the body.
pub(crate) const HEADER_SCHEMA_VERSION: &str = "schema-version";
/// Header in which we count attempts ourselves: broker counts differ by RabbitMQ version.
pub(crate) const HEADER_ATTEMPT: &str = "augur-attempt";
/// Header that RabbitMQ adds to every message read from a stream.
const HEADER_STREAM_OFFSET: &str = "x-stream-offset";

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
}

impl Delivery {
    pub(crate) fn new(inner: lapin::message::Delivery) -> Self {
        Self { inner }
    }

    /// AMQP property `type`.
    pub fn message_type(&self) -> Option<&str> {
        self.inner.properties.kind().as_ref().map(ShortString::as_str)
    }

    /// AMQP property `message-id`.
    pub fn message_id(&self) -> Option<&str> {
        self.inner.properties.message_id().as_ref().map(ShortString::as_str)
    }

    /// Header `schema-version`.
    pub fn schema_version(&self) -> Option<u16> {
        u16::try_from(self.header_integer(HEADER_SCHEMA_VERSION)?).ok()
    }

    /// Our own count of attempts; 1 if the header is absent.
    pub fn attempt(&self) -> u32 {
        self.header_integer(HEADER_ATTEMPT).and_then(|count| u32::try_from(count).ok()).unwrap_or(1).max(1)
    }

    /// Offset in the stream, if it was read from one.
    pub fn stream_offset(&self) -> Option<u64> {
        u64::try_from(self.header_integer(HEADER_STREAM_OFFSET)?).ok()
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
        let settled = match settlement {
            Settlement::Done => acker.ack(BasicAckOptions::default()).await,
            Settlement::DoneThrough => acker.ack(BasicAckOptions { multiple: true }).await,
            Settlement::Return => acker.nack(BasicNackOptions { multiple: false, requeue: true }).await,
            Settlement::DeadLetter => acker.reject(BasicRejectOptions { requeue: false }).await,
        };
        let delivery_tag = self.inner.delivery_tag;
        match settled {
            Ok(true) => Ok(()),
            Ok(false) => Err(BrokerError::Settle { delivery_tag, source: None }),
            Err(source) => Err(BrokerError::Settle { delivery_tag, source: Some(Box::new(source)) }),
        }
    }

    fn header_integer(&self, name: &str) -> Option<i64> {
        integer(self.inner.properties.headers().as_ref()?, name)
    }
}

/// A header of any integer type, as brokers and other clients write them.
fn integer(headers: &FieldTable, name: &str) -> Option<i64> {
    match headers.into_iter().find(|(key, _)| key.as_str() == name)?.1 {
        AMQPValue::ShortShortInt(number) => Some(i64::from(*number)),
        AMQPValue::ShortShortUInt(number) => Some(i64::from(*number)),
        AMQPValue::ShortInt(number) => Some(i64::from(*number)),
        AMQPValue::ShortUInt(number) => Some(i64::from(*number)),
        AMQPValue::LongInt(number) => Some(i64::from(*number)),
        AMQPValue::LongUInt(number) => Some(i64::from(*number)),
        AMQPValue::LongLongInt(number) => Some(*number),
        _ => None,
    }
}
