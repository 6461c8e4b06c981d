//! What lapin does alone: the loop that one would write, at its best, without reconnecting, returns or types.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable},
};

use super::{
    ACK_EVERY_MESSAGES, Acks, Answer, BODY, EXCHANGE, LANE, PREFETCH, ROUTING_KEY, STREAM_ACK_EVERY_MESSAGES,
    STREAM_PREFETCH, WINDOW,
};

/// AMQP's number for messages that survive a restart.
const DELIVERY_MODE_PERSISTENT: u8 = 2;

/// Publishes `count` messages; gives the time from the first to the last confirm.
pub(super) async fn publish(url: &str, count: usize) -> Answer<Duration> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let begin = Instant::now();
    // Faster than to publish one after the other and to collect their confirms: that would wait for the socket at
    // every message.
    let mut confirms = stream::iter((0..count).map(|_| publish_one(&channel))).buffer_unordered(WINDOW);
    while let Some(confirm) = confirms.next().await {
        if confirm? != Confirmation::Ack(None) {
            return Err("a message was not stored".into());
        }
    }
    Ok(begin.elapsed())
}

async fn publish_one(channel: &Channel) -> lapin::Result<Confirmation> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = BasicProperties::default().with_delivery_mode(DELIVERY_MODE_PERSISTENT);
    channel.basic_publish(EXCHANGE.into(), ROUTING_KEY.into(), options, BODY, properties).await?.await
}

/// Consumes `count` messages; gives the time from before the connection to the last ack.
pub(super) async fn consume(url: &str, count: usize, acks: Acks) -> Answer<Duration> {
    let begin = Instant::now();
    let (_connection, mut consumer) = subscribe(url, LANE, PREFETCH, FieldTable::default()).await?;
    for number in 1..=count {
        let delivery = next(&mut consumer).await?;
        match acks {
            Acks::Each => ack(&delivery, false).await?,
            Acks::Multiple if number % ACK_EVERY_MESSAGES == 0 || number == count => ack(&delivery, true).await?,
            Acks::Multiple => {}
        }
    }
    Ok(begin.elapsed())
}

/// Reads the stream of results from its first message through `last_offset`; gives the number of messages.
pub(super) async fn read(url: &str, last_offset: i64) -> Answer<usize> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-stream-offset".into(), AMQPValue::LongString("first".into()));
    let (_connection, mut consumer) = subscribe(url, "results", STREAM_PREFETCH, arguments).await?;
    let mut messages = 0;
    loop {
        let delivery = next(&mut consumer).await?;
        messages += 1;
        let is_last = offset(&delivery).is_some_and(|offset| offset >= last_offset);
        if is_last || messages % STREAM_ACK_EVERY_MESSAGES == 0 {
            ack(&delivery, true).await?;
        }
        if is_last {
            return Ok(messages);
        }
    }
}

async fn subscribe(
    url: &str,
    queue: &str,
    prefetch: u16,
    arguments: FieldTable,
) -> lapin::Result<(Connection, Consumer)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let consumer = channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), arguments).await?;
    Ok((connection, consumer))
}

async fn next(consumer: &mut Consumer) -> Answer<Delivery> {
    Ok(consumer.next().await.ok_or("the broker cancelled the consumer")??)
}

async fn ack(delivery: &Delivery, multiple: bool) -> Answer<()> {
    if delivery.acker.ack(BasicAckOptions { multiple }).await? { Ok(()) } else { Err("the channel is gone".into()) }
}

fn offset(delivery: &Delivery) -> Option<i64> {
    let headers = delivery.properties.headers().as_ref()?;
    match headers.inner().get("x-stream-offset")? {
        AMQPValue::LongLongInt(offset) => Some(*offset),
        _ => None,
    }
}
