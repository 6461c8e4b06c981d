//! Looking at what a broker has declared, and declaring what is missing.

use std::time::{Duration, Instant};

use lapin::{
    Channel, Connection, ExchangeKind as LapinKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::{AMQPValue, FieldTable},
};
use topology::{
    Action, ArgumentValue, Binding, Exchange, ExchangeKind, Observed, ObservedState, Plan, Queue, StepObject, Topology,
};

use crate::{
    AmqpUrl, BrokerError, Link,
    connect::{close, connect_once, open_channel},
};

/// How long a declared queue may be down after the broker's start.
const QUEUE_UP_MAX: Duration = Duration::from_secs(30);
/// Wait before asking again for a queue that is down.
const QUEUE_UP_RETRY: Duration = Duration::from_millis(250);
/// What the broker says of a queue that it knows and cannot reach now, under the code of one that does not exist.
pub(crate) const HOME_NODE_DOWN: &str = "home node";

/// Finds out which exchanges and queues of `topology` a broker has, and whether they are as declared.
///
/// AMQP answers both questions: a passive declaration fails where there is nothing, and declaring what exists
/// changes nothing if it is equal and fails with the difference if it is not. Bindings cannot be observed.
///
/// # Errors
///
/// [`BrokerError::Connect`] if no broker answers; [`BrokerError::Declare`] if it forbids looking.
pub async fn observe(url: &AmqpUrl, topology: &Topology) -> Result<Observed, BrokerError> {
    let mut session = Session::open(url).await?;
    let mut observed = Observed::new();
    for exchange in &topology.exchanges {
        observed.set_exchange(&exchange.name, session.state(&StepObject::Exchange(exchange.clone())).await?);
    }
    for queue in &topology.queues {
        observed.set_queue(&queue.name, session.state(&StepObject::Queue(queue.clone())).await?);
    }
    session.close().await?;
    Ok(observed)
}

/// Carries out a plan's `Create` and `Ensure` steps, in its order.
///
/// # Errors
///
/// [`BrokerError::Connect`] if no broker answers; [`BrokerError::Declare`] at the first step that it refuses.
pub async fn apply(url: &AmqpUrl, plan: &Plan) -> Result<(), BrokerError> {
    let session = Session::open(url).await?;
    for step in &plan.steps {
        if matches!(step.action, Action::Create | Action::Ensure) {
            declare(&session.channel, &step.object, false)
                .await
                .map_err(|source| BrokerError::Declare { what: step.object.name(), source: Box::new(source) })?;
        }
    }
    session.close().await
}

/// A connection with a channel that is replaced after the broker closed it.
struct Session {
    connection: Connection,
    channel: Channel,
}

impl Session {
    async fn open(url: &AmqpUrl) -> Result<Self, BrokerError> {
        let connection = connect_once(url, "augur topology").await?;
        let channel = open_channel(&connection).await.map_err(BrokerError::command("open a channel"))?;
        Ok(Self { connection, channel })
    }

    async fn close(self) -> Result<(), BrokerError> {
        close(&self.connection).await.map_err(BrokerError::command("close the connection"))
    }

    async fn state(&mut self, object: &StepObject) -> Result<ObservedState, BrokerError> {
        let waiting_since = Instant::now();
        let mut passive = true;
        loop {
            let Err(error) = declare(&self.channel, object, passive).await else {
                if passive {
                    passive = false;
                    continue;
                }
                return Ok(ObservedState::Same);
            };
            self.channel =
                open_channel(&self.connection).await.map_err(BrokerError::command("open another channel"))?;
            return match soft_error(&error) {
                // A broker that has just started takes connections before its streams are up.
                Some((AMQPSoftError::NOTFOUND, detail))
                    if detail.contains(HOME_NODE_DOWN) && waiting_since.elapsed() < QUEUE_UP_MAX =>
                {
                    tokio::time::sleep(QUEUE_UP_RETRY).await;
                    continue;
                }
                Some((AMQPSoftError::NOTFOUND, detail)) if !detail.contains(HOME_NODE_DOWN) => {
                    Ok(ObservedState::Absent)
                }
                Some((AMQPSoftError::PRECONDITIONFAILED, detail)) => Ok(ObservedState::Differs { detail }),
                _ => Err(BrokerError::Declare { what: object.name(), source: Box::new(error) }),
            };
        }
    }
}

/// What the broker said when it closed a channel, and in which class of errors.
pub(crate) fn soft_error(error: &lapin::Error) -> Option<(AMQPSoftError, String)> {
    let lapin::ErrorKind::ProtocolError(error) = error.kind() else { return None };
    let AMQPErrorKind::Soft(kind) = error.kind() else { return None };
    Some((kind.clone(), error.get_message().to_string()))
}

/// What it means that the broker refused to do something with a queue.
pub(crate) fn queue_error(error: lapin::Error, queue: &str, what: impl Into<String>) -> BrokerError {
    match soft_error(&error) {
        Some((AMQPSoftError::NOTFOUND, detail)) if !detail.contains(HOME_NODE_DOWN) => {
            BrokerError::NoQueue { queue: queue.to_owned() }
        }
        _ => BrokerError::command(what)(error),
    }
}

/// How many messages a queue has ready now.
pub(crate) async fn message_count(link: &Link, queue: &str) -> Result<u64, BrokerError> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
    let look = async |channel: Channel| {
        let declared = channel.queue_declare(queue.into(), options, FieldTable::default()).await;
        declared.map_err(|error| queue_error(error, queue, format!("look at `{queue}`")))
    };
    let declared = link.on_channel(link.patience(), look).await?;
    Ok(u64::from(declared.message_count()))
}

async fn declare(channel: &Channel, object: &StepObject, passive: bool) -> lapin::Result<()> {
    match object {
        StepObject::Exchange(exchange) => declare_exchange(channel, exchange, passive).await,
        StepObject::Queue(queue) => declare_queue(channel, queue, passive).await,
        StepObject::Binding(binding) => bind(channel, binding).await,
    }
}

async fn declare_exchange(channel: &Channel, exchange: &Exchange, passive: bool) -> lapin::Result<()> {
    let kind = match exchange.kind {
        ExchangeKind::Topic => LapinKind::Topic,
        ExchangeKind::Direct => LapinKind::Direct,
        ExchangeKind::Fanout => LapinKind::Fanout,
        ExchangeKind::Headers => LapinKind::Headers,
    };
    let mut arguments = FieldTable::default();
    if let Some(alternate) = &exchange.alternate_exchange {
        arguments.insert("alternate-exchange".into(), AMQPValue::LongString(alternate.as_str().into()));
    }
    let options = ExchangeDeclareOptions { passive, durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(exchange.name.as_str().into(), kind, options, arguments).await
}

async fn declare_queue(channel: &Channel, queue: &Queue, passive: bool) -> lapin::Result<()> {
    let mut arguments = FieldTable::default();
    for (name, value) in &queue.arguments {
        let value = match value {
            ArgumentValue::Int(number) => AMQPValue::LongLongInt(*number),
            ArgumentValue::Text(text) => AMQPValue::LongString(text.as_str().into()),
            ArgumentValue::Bool(truth) => AMQPValue::Boolean(*truth),
        };
        arguments.insert(name.as_str().into(), value);
    }
    let options = QueueDeclareOptions { passive, ..QueueDeclareOptions::durable() };
    channel.queue_declare(queue.name.as_str().into(), options, arguments).await.map(drop)
}

async fn bind(channel: &Channel, binding: &Binding) -> lapin::Result<()> {
    channel
        .queue_bind(
            binding.queue.as_str().into(),
            binding.exchange.as_str().into(),
            binding.routing_key.as_str().into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
}
