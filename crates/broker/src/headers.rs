//! The headers of messages: ours, and those that RabbitMQ adds.

use lapin::types::{AMQPValue, FieldTable};
use messages::Timestamp;

/// The schema version of the body.
pub(crate) const SCHEMA_VERSION: &str = "schema-version";
/// Attempts, which we count ourselves: broker counts differ by RabbitMQ version.
pub(crate) const ATTEMPT: &str = "augur-attempt";
/// How often a job was sent back from the dead letters; absent if never.
pub(crate) const REPLAYS: &str = "augur-replays";
/// How often the broker had taken a job back from consumers before it was handed back; absent if never.
pub(crate) const RETURNS: &str = "augur-returns";
/// Why we sent the message to the dead letters.
pub(crate) const REASON: &str = "augur-reason";
/// RabbitMQ: offset of a message read from a stream.
pub(crate) const STREAM_OFFSET: &str = "x-stream-offset";
/// RabbitMQ: how often a quorum queue delivered the message before.
pub(crate) const DELIVERY_COUNT: &str = "x-delivery-count";
/// RabbitMQ: every queue and reason for which the message was dead-lettered, the last one first.
const DEATHS: &str = "x-death";

/// Why RabbitMQ took a message out of a queue and published it to that queue's dead-letter exchange
/// (<https://www.rabbitmq.com/docs/dlx#effects>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// From which queue.
    pub queue: String,
    /// `rejected`, `expired`, `maxlen` or `delivery_limit`.
    pub reason: String,
    /// How often that happened to the message in that queue for that reason.
    pub count: u64,
    /// When it happened first, in whole seconds of the broker's clock, if the broker says so.
    pub at: Option<Timestamp>,
}

impl Death {
    /// The last death that the headers tell of; the first one where only that is told.
    pub(crate) fn last(headers: &FieldTable) -> Option<Self> {
        let deaths = match value(headers, DEATHS) {
            Some(AMQPValue::FieldArray(deaths)) => deaths.as_slice(),
            _ => &[],
        };
        if let Some(AMQPValue::FieldTable(death)) = deaths.first() {
            return Some(Self {
                queue: text(death, "queue")?.to_owned(),
                reason: text(death, "reason")?.to_owned(),
                count: integer(death, "count").and_then(|count| u64::try_from(count).ok()).unwrap_or(1),
                at: match value(death, "time") {
                    Some(AMQPValue::Timestamp(seconds)) => moment(*seconds),
                    _ => None,
                },
            });
        }
        let first = |what: &str| text(headers, &format!("x-first-death-{what}")).map(str::to_owned);
        Some(Self { queue: first("queue")?, reason: first("reason")?, count: 1, at: None })
    }
}

/// A moment as AMQP tells it, in seconds since 1970.
pub(crate) fn moment(seconds: u64) -> Option<Timestamp> {
    i64::try_from(seconds).ok()?.checked_mul(1_000_000).map(Timestamp::from_micros)
}

/// A header of any integer type, as brokers and other clients write them.
pub(crate) fn integer(headers: &FieldTable, name: &str) -> Option<i64> {
    match value(headers, name)? {
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

/// A header that is a text in UTF-8.
pub(crate) fn text<'a>(headers: &'a FieldTable, name: &str) -> Option<&'a str> {
    match value(headers, name)? {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}

fn value<'a>(headers: &'a FieldTable, name: &str) -> Option<&'a AMQPValue> {
    headers.inner().get(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
        let mut table = FieldTable::default();
        for (name, value) in entries {
            table.insert((*name).into(), value.clone());
        }
        table
    }

    fn long(text: &str) -> AMQPValue {
        AMQPValue::LongString(text.into())
    }

    #[test]
    fn the_last_death_is_told() {
        let death = |queue: &str, reason: &str, count| {
            let entries = [
                ("queue", long(queue)),
                ("reason", long(reason)),
                ("count", AMQPValue::LongLongInt(count)),
                ("time", AMQPValue::Timestamp(1_700_000_000)),
            ];
            AMQPValue::FieldTable(table(&entries))
        };
        let deaths = vec![death("jobs.cpu.low", "rejected", 2), death("retries.1s", "expired", 5)];
        let headers = table(&[
            ("x-death", AMQPValue::FieldArray(deaths.into())),
            ("x-first-death-queue", long("retries.1s")),
            ("x-first-death-reason", long("expired")),
        ]);
        let last = Death::last(&headers).expect("a death");
        assert_eq!((last.queue.as_str(), last.reason.as_str(), last.count), ("jobs.cpu.low", "rejected", 2));
        assert_eq!(last.at, Some(Timestamp::from_micros(1_700_000_000_000_000)));
    }

    #[test]
    fn the_first_death_stands_in_and_none_is_none() {
        let headers = table(&[("x-first-death-queue", long("lane")), ("x-first-death-reason", long("rejected"))]);
        let first = Death::last(&headers).expect("a death");
        let expected = Death { queue: "lane".to_owned(), reason: "rejected".to_owned(), count: 1, at: None };
        assert_eq!(first, expected);
        assert_eq!(Death::last(&FieldTable::default()), None);
        let damaged = table(&[("x-death", AMQPValue::FieldArray(vec![AMQPValue::Void].into()))]);
        assert_eq!(Death::last(&damaged), None);
    }

    #[test]
    fn a_moment_too_far_away_is_none() {
        assert_eq!(moment(1), Some(Timestamp::from_micros(1_000_000)));
        assert_eq!(moment(u64::MAX), None);
        assert_eq!(moment(u64::MAX / 2), None);
    }
}
