//! What RabbitMQ knows of queue arguments: on which kind of queue, from which version on, with which values.
//!
//! RabbitMQ accepts arguments that it has never heard of and does nothing, so an argument that is not in this table,
//! or not for the server's version, is refused before it is declared.
//!
//! What holds for 3.10 was read from `rabbit_*_queue:capabilities/0` and `rabbit_amqqueue:declare_args/0` of Debian's
//! 3.10.8. The releases that learnt or dropped an argument later follow <https://www.rabbitmq.com/docs/queues>,
//! <https://www.rabbitmq.com/docs/quorum-queues> and <https://www.rabbitmq.com/docs/streams> and were not tried
//! against such servers.

use crate::{ArgumentProblem, ArgumentValue, Queue, QueueKind, ServerVersion, file::Scalar};
use QueueKind::{Classic, Quorum, Stream};

/// The argument that a queue's `kind` becomes.
pub(crate) const QUEUE_TYPE: &str = "x-queue-type";

/// A release of RabbitMQ, without its patch level.
type Release = (u64, u64);

struct Rule {
    name: &'static str,
    value: Value,
    support: &'static [Support],
}

/// On one kind of queue: from a release on, and up to one that ignores or refuses it again.
struct Support {
    kind: QueueKind,
    since: Release,
    until: Option<Release>,
}

enum Value {
    /// An integer of at least this.
    Count(i64),
    /// Milliseconds; may be written with a unit.
    Milliseconds,
    /// Bytes; may be written with a unit.
    Bytes,
    /// A number and one of `Y M D h m s`.
    Age,
    /// True or false.
    Flag,
    /// Any text: a name or a routing key.
    Name,
    /// One of these, on these kinds of queue.
    Word(&'static [(&'static str, &'static [QueueKind])]),
}

const fn from(kind: QueueKind, since: Release) -> Support {
    Support { kind, since, until: None }
}

const fn between(kind: QueueKind, since: Release, until: Release) -> Support {
    Support { kind, since, until: Some(until) }
}

const fn rule(name: &'static str, value: Value, support: &'static [Support]) -> Rule {
    Rule { name, value, support }
}

const BOTH: &[QueueKind] = &[Classic, Quorum];

const RULES: &[Rule] = &[
    rule("x-consumer-disconnected-timeout", Value::Milliseconds, &[from(Quorum, (4, 3))]),
    // Per queue from 3.12 (<https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout>); quorum only from 4.3.
    rule("x-consumer-timeout", Value::Milliseconds, &[from(Quorum, (3, 12)), between(Classic, (3, 12), (4, 3))]),
    rule("x-dead-letter-exchange", Value::Name, &[from(Classic, (3, 8)), from(Quorum, (3, 8))]),
    rule("x-dead-letter-routing-key", Value::Name, &[from(Classic, (3, 8)), from(Quorum, (3, 8))]),
    // <https://www.rabbitmq.com/blog/2022/03/29/at-least-once-dead-lettering>
    rule(
        "x-dead-letter-strategy",
        Value::Word(&[("at-least-once", &[Quorum]), ("at-most-once", &[Quorum])]),
        &[from(Quorum, (3, 10))],
    ),
    rule("x-delayed-retry-max", Value::Milliseconds, &[from(Quorum, (4, 3))]),
    rule("x-delayed-retry-min", Value::Milliseconds, &[from(Quorum, (4, 3))]),
    rule(
        "x-delayed-retry-type",
        Value::Word(&[("all", &[Quorum]), ("failed", &[Quorum]), ("returned", &[Quorum]), ("disabled", &[Quorum])]),
        &[from(Quorum, (4, 3))],
    ),
    rule("x-delivery-limit", Value::Count(1), &[from(Quorum, (3, 8))]),
    rule("x-expires", Value::Milliseconds, &[from(Classic, (3, 8)), from(Quorum, (3, 8))]),
    rule("x-initial-cluster-size", Value::Count(1), &[from(Stream, (3, 9))]),
    rule("x-max-age", Value::Age, &[from(Stream, (3, 9))]),
    // Quorum queues keep no bodies in memory from 3.10 on.
    rule("x-max-in-memory-bytes", Value::Bytes, &[between(Quorum, (3, 8), (3, 10))]),
    rule("x-max-in-memory-length", Value::Count(0), &[between(Quorum, (3, 8), (3, 10))]),
    rule("x-max-length", Value::Count(1), &[from(Classic, (3, 8)), from(Quorum, (3, 8))]),
    rule("x-max-length-bytes", Value::Bytes, &[from(Classic, (3, 8)), from(Quorum, (3, 8)), from(Stream, (3, 9))]),
    // Quorum queues refuse it (406); from 4.0 on they have priorities without it.
    rule("x-max-priority", Value::Count(1), &[from(Classic, (3, 8))]),
    rule("x-message-ttl", Value::Milliseconds, &[from(Classic, (3, 8)), from(Quorum, (3, 10))]),
    rule(
        "x-overflow",
        Value::Word(&[("drop-head", BOTH), ("reject-publish", BOTH), ("reject-publish-dlx", &[Classic])]),
        &[from(Classic, (3, 8)), from(Quorum, (3, 8))],
    ),
    rule(
        "x-queue-leader-locator",
        Value::Word(&[("balanced", &[Classic, Quorum, Stream]), ("client-local", &[Classic, Quorum, Stream])]),
        &[from(Classic, (4, 0)), from(Quorum, (3, 10)), from(Stream, (3, 9))],
    ),
    rule("x-queue-master-locator", Value::Name, &[between(Classic, (3, 8), (4, 0))]),
    // Lazy mode is the only one from 3.12 on.
    rule(
        "x-queue-mode",
        Value::Word(&[("default", &[Classic]), ("lazy", &[Classic])]),
        &[between(Classic, (3, 8), (3, 12))],
    ),
    // Version 2 is the only one from 4.3 on.
    rule("x-queue-version", Value::Count(1), &[between(Classic, (3, 10), (4, 3))]),
    rule("x-quorum-initial-group-size", Value::Count(1), &[from(Quorum, (3, 8))]),
    rule("x-quorum-target-group-size", Value::Count(1), &[from(Quorum, (3, 13))]),
    rule("x-single-active-consumer", Value::Flag, &[from(Classic, (3, 8)), from(Quorum, (3, 8))]),
    rule("x-stream-filter-size-bytes", Value::Bytes, &[from(Stream, (3, 13))]),
    rule("x-stream-max-segment-size-bytes", Value::Bytes, &[from(Stream, (3, 9))]),
];

/// Turns a written value into the one that RabbitMQ gets, or says what is wrong with the name or the value.
pub(crate) fn read(kind: QueueKind, name: &str, written: &Scalar) -> Result<ArgumentValue, String> {
    if name == QUEUE_TYPE {
        return Err(format!("`{QUEUE_TYPE}` is what `kind` says; leave it out"));
    }
    let Some(rule) = find(name) else {
        return Err(format!("`{name}` is not an argument of RabbitMQ; the nearest is `{}`", nearest(name)));
    };
    if !rule.support.iter().any(|support| support.kind == kind) {
        return Err(format!("`{name}` is not possible on a {} queue", kind.as_str()));
    }
    rule.value.read(kind, written).map_err(|expected| {
        let shown = match written {
            Scalar::Int(value) => value.to_string(),
            Scalar::Bool(value) => value.to_string(),
            Scalar::Text(value) => value.clone(),
        };
        format!("`{name}` is `{shown}`; {expected} was expected")
    })
}

/// The arguments of a queue that a server of this version would ignore or reject.
pub(crate) fn unknown_to(version: &ServerVersion, queue: &Queue) -> Vec<ArgumentProblem> {
    let rules = queue.arguments.keys().filter_map(|name| find(name));
    rules
        .filter_map(|rule| {
            let reason = rule.unsupported_reason(version, queue.kind)?;
            Some(ArgumentProblem {
                queue: queue.name.clone(),
                more: 0,
                kind: queue.kind,
                argument: rule.name.to_owned(),
                reason,
            })
        })
        .collect()
}

fn find(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

/// The known name that takes the fewest edits.
fn nearest(name: &str) -> &'static str {
    RULES.iter().map(|rule| rule.name).min_by_key(|known| edits(name, known)).unwrap_or(QUEUE_TYPE)
}

/// Levenshtein's distance, in bytes.
fn edits(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

impl Rule {
    fn unsupported_reason(&self, version: &ServerVersion, kind: QueueKind) -> Option<String> {
        let Some(support) = self.support.iter().find(|support| support.kind == kind) else {
            return Some(format!("is not possible on a {} queue", kind.as_str()));
        };
        if !version.is_at_least(support.since) {
            let (major, minor) = support.since;
            return Some(format!("is known from RabbitMQ {major}.{minor} on"));
        }
        let (major, minor) = support.until.filter(|until| version.is_at_least(*until))?;
        Some(format!("has no effect from RabbitMQ {major}.{minor} on"))
    }
}

impl Value {
    fn read(&self, kind: QueueKind, written: &Scalar) -> Result<ArgumentValue, String> {
        match (self, written) {
            (Self::Flag, Scalar::Bool(value)) => Ok(ArgumentValue::Bool(*value)),
            (Self::Flag, _) => Err("true or false".to_owned()),
            (Self::Name, Scalar::Text(text)) => Ok(ArgumentValue::Text(text.clone())),
            (Self::Name, _) => Err("a text".to_owned()),
            (Self::Word(words), written) => {
                let words = words.iter().filter(|(_, kinds)| kinds.contains(&kind)).map(|(word, _)| *word);
                match written {
                    Scalar::Text(text) if words.clone().any(|word| word == text) => {
                        Ok(ArgumentValue::Text(text.clone()))
                    }
                    _ => Err(format!("one of {} on a {} queue", words.collect::<Vec<_>>().join(", "), kind.as_str())),
                }
            }
            (Self::Age, Scalar::Text(text)) if is_age(text) => Ok(ArgumentValue::Text(text.clone())),
            (Self::Age, _) => Err("a number and one of Y, M, D, h, m or s".to_owned()),
            (Self::Count(least), written) => {
                let expected = || format!("an integer of at least {least}");
                integer(written, &[]).filter(|n| n >= least).map(ArgumentValue::Int).ok_or_else(expected)
            }
            (Self::Milliseconds, written) => {
                const UNITS: &[(&str, i64)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
                let expected = || "milliseconds, or a number with ms, s, m or h".to_owned();
                integer(written, UNITS).filter(|n| *n >= 1).map(ArgumentValue::Int).ok_or_else(expected)
            }
            (Self::Bytes, written) => {
                const UNITS: &[(&str, i64)] = &[("kB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000)];
                let expected = || "bytes, or a number with kB, MB or GB".to_owned();
                integer(written, UNITS).filter(|n| *n >= 1).map(ArgumentValue::Int).ok_or_else(expected)
            }
        }
    }
}

/// An integer as such, or as text with `_` between digits and one of the units behind it.
fn integer(written: &Scalar, units: &[(&str, i64)]) -> Option<i64> {
    let text = match written {
        Scalar::Int(value) => return Some(*value),
        Scalar::Bool(_) => return None,
        Scalar::Text(text) => text.trim(),
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let number: i64 = text[..end].replace('_', "").parse().ok()?;
    match text[end..].trim_start() {
        "" => Some(number),
        unit => units.iter().find(|(known, _)| *known == unit).and_then(|(_, factor)| number.checked_mul(*factor)),
    }
}

/// As `rabbit_amqqueue:check_max_age/1` reads it.
fn is_age(text: &str) -> bool {
    text.strip_suffix(['Y', 'M', 'D', 'h', 'm', 's']).and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Scalar {
        Scalar::Text(value.to_owned())
    }

    #[test]
    fn units_become_milliseconds_and_bytes() {
        for (name, written, expected) in [
            ("x-message-ttl", text("5s"), 5_000),
            ("x-message-ttl", text("2m"), 120_000),
            ("x-message-ttl", text("250 ms"), 250),
            ("x-message-ttl", Scalar::Int(7), 7),
            ("x-max-length-bytes", text("20 GB"), 20_000_000_000),
            ("x-max-length", text("2_000_000"), 2_000_000),
        ] {
            assert_eq!(read(Quorum, name, &written), Ok(ArgumentValue::Int(expected)), "{name} {written:?}");
        }
    }

    #[test]
    fn refuses_values_that_rabbitmq_would_refuse() {
        for (kind, name, written) in [
            (Quorum, "x-message-ttl", text("5 days")),
            (Quorum, "x-message-ttl", text("")),
            (Quorum, "x-message-ttl", Scalar::Int(-1)),
            (Quorum, "x-message-ttl", text("9223372036854775807h")),
            (Quorum, "x-delivery-limit", Scalar::Int(0)),
            (Quorum, "x-overflow", text("reject-publish-dlx")),
            (Stream, "x-max-age", text("30 days")),
            (Stream, "x-max-age", text("D")),
            (Stream, "x-max-age", text("ä")),
            (Stream, "x-message-ttl", Scalar::Int(5)),
            (Quorum, "x-max-priority", Scalar::Int(5)),
            (Classic, "x-single-active-consumer", text("yes")),
            (Classic, "x-queue-type", text("classic")),
        ] {
            assert!(read(kind, name, &written).is_err(), "{name} {written:?} was accepted");
        }
        assert!(read(Classic, "x-overflow", &text("reject-publish-dlx")).is_ok());
    }

    #[test]
    fn an_unknown_argument_names_the_nearest() {
        insta::assert_snapshot!(
            read(Quorum, "x-delivery-limits", &Scalar::Int(5)).expect_err("misspelt"),
            @"`x-delivery-limits` is not an argument of RabbitMQ; the nearest is `x-delivery-limit`"
        );
    }
}
