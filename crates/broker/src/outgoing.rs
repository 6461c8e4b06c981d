//! A message on its way out.

use lapin::{
    BasicProperties, Channel,
    options::BasicPublishOptions,
    types::{AMQPValue, FieldTable},
};
use messages::{Encoded, RunId, Timestamp};

use crate::headers::{ATTEMPT, REASON, REPLAYS, RETURNS, SCHEMA_VERSION};

/// AMQP's number for messages that survive a restart.
const DELIVERY_MODE_PERSISTENT: u8 = 2;

/// A message on its way out.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Which exchange.
    pub exchange: String,
    /// With which routing key.
    pub routing_key: String,
    /// What, by whom it is known: job id, run id or another unique text.
    pub message_id: String,
    /// The run of a job, as AMQP's `correlation-id`: told outside the body for whoever cannot read that.
    pub run_id: Option<RunId>,
    /// How often a job was sent back from the dead letters.
    pub replays: u32,
    /// How often the broker took a job back before it was handed back: a new message begins its count anew.
    pub returns: u32,
    /// Our count of attempts, for jobs and results.
    pub attempt: Option<u32>,
    /// How long a queue may keep it, in milliseconds; a shorter limit of the queue's own goes first.
    pub expiration_ms: Option<u64>,
    /// Why it goes to the dead letters, in one word.
    pub reason: Option<String>,
    /// The bytes.
    pub message: Encoded,
}

impl Outgoing {
    /// A message of no run, without a count of attempts, an expiration or a reason.
    pub fn new(
        exchange: impl Into<String>,
        routing_key: impl Into<String>,
        message_id: impl Into<String>,
        message: Encoded,
    ) -> Self {
        Self {
            exchange: exchange.into(),
            routing_key: routing_key.into(),
            message_id: message_id.into(),
            run_id: None,
            replays: 0,
            returns: 0,
            attempt: None,
            expiration_ms: None,
            reason: None,
            message,
        }
    }

    /// With a job's run, and how often the job was sent back from the dead letters.
    #[must_use]
    pub fn of_run(mut self, run_id: RunId, replays: u32) -> Self {
        self.run_id = Some(run_id);
        self.replays = replays;
        self
    }

    /// With how often the broker took it back until now ([`Delivery::returns`](crate::Delivery::returns)).
    #[must_use]
    pub fn returns(mut self, returns: u32) -> Self {
        self.returns = returns;
        self
    }

    /// With our count of attempts.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = Some(attempt);
        self
    }

    /// With a time after which its queue gives it up, in milliseconds.
    #[must_use]
    pub fn expiration_ms(mut self, expiration_ms: u64) -> Self {
        self.expiration_ms = Some(expiration_ms);
        self
    }

    /// With the reason why it goes to the dead letters.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Publishes it: persistent, and returned if no queue takes it.
    pub(crate) async fn publish_on(&self, channel: &Channel) -> lapin::Result<lapin::PublisherConfirm> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let (exchange, routing_key) = (self.exchange.as_str().into(), self.routing_key.as_str().into());
        channel.basic_publish(exchange, routing_key, options, &self.message.body, self.properties()).await
    }

    fn properties(&self) -> BasicProperties {
        let mut headers = FieldTable::default();
        headers.insert(SCHEMA_VERSION.into(), AMQPValue::LongInt(i32::from(self.message.schema_version)));
        if let Some(attempt) = self.attempt {
            headers.insert(ATTEMPT.into(), AMQPValue::LongLongInt(i64::from(attempt)));
        }
        if self.replays > 0 {
            headers.insert(REPLAYS.into(), AMQPValue::LongLongInt(i64::from(self.replays)));
        }
        if self.returns > 0 {
            headers.insert(RETURNS.into(), AMQPValue::LongLongInt(i64::from(self.returns)));
        }
        if let Some(reason) = &self.reason {
            headers.insert(REASON.into(), AMQPValue::LongString(reason.as_str().into()));
        }
        let mut properties = BasicProperties::default()
            .with_type(self.message.message_type.into())
            .with_message_id(self.message_id.as_str().into())
            .with_content_type("application/msgpack".into())
            .with_delivery_mode(DELIVERY_MODE_PERSISTENT)
            .with_timestamp(u64::try_from(Timestamp::now().as_seconds()).unwrap_or_default())
            .with_headers(headers);
        if let Some(run_id) = self.run_id {
            properties = properties.with_correlation_id(run_id.to_string().into());
        }
        if let Some(expiration_ms) = self.expiration_ms {
            // AMQP wants a decimal number as text.
            properties = properties.with_expiration(expiration_ms.to_string().into());
        }
        properties
    }
}
