//! What a topology must hold so that no job is lost and nothing grows without limit.

use std::collections::{BTreeMap, BTreeSet};

use messages::{Platform, Priority};

use crate::{
    ArgumentValue, Binding, ExchangeKind, NAME_BYTES_MAX, Problem, Queue, QueueKind, Topology, TopologyError,
    expand::Lines, names,
};

/// Checks everything and reports all that is wrong.
///
/// # Errors
///
/// [`TopologyError::Invalid`] with the problems in the file's order.
pub(crate) fn check(topology: &Topology, lines: &Lines) -> Result<(), TopologyError> {
    let exchanges = topology.exchanges.iter().map(|exchange| (exchange.name.as_str(), exchange.kind)).collect();
    let mut checker = Checker { topology, lines, exchanges, problems: Vec::new() };
    checker.names();
    checker.alternate_exchanges();
    checker.bindings();
    checker.queues();
    checker.required();
    checker.lanes();
    let mut problems = checker.problems;
    if problems.is_empty() {
        return Ok(());
    }
    problems.sort();
    Err(TopologyError::Invalid { problems })
}

struct Checker<'a> {
    topology: &'a Topology,
    lines: &'a Lines,
    exchanges: BTreeMap<&'a str, ExchangeKind>,
    problems: Vec<Problem>,
}

impl<'a> Checker<'a> {
    fn problem(&mut self, line: u64, message: impl Into<String>) {
        self.problems.push(Problem { line, message: message.into() });
    }

    fn names(&mut self) {
        let exchanges = self.topology.exchanges.iter().map(|exchange| exchange.name.as_str());
        let queues = self.topology.queues.iter().map(|queue| queue.name.as_str());
        self.names_of("exchange", exchanges.zip(&self.lines.exchanges));
        self.names_of("queue", queues.zip(&self.lines.queues));
    }

    fn names_of(&mut self, what: &str, named: impl Iterator<Item = (&'a str, &'a u64)>) {
        let mut seen = BTreeSet::new();
        for (name, line) in named {
            if name.is_empty() || name.len() > NAME_BYTES_MAX {
                let found = name.len();
                self.problem(*line, format!("a name of {found} bytes; 1 to {NAME_BYTES_MAX} are possible"));
            }
            if name.starts_with("amq.") {
                self.problem(*line, format!("{what} `{name}`: names that begin with `amq.` are RabbitMQ's own"));
            }
            if name.contains(['{', '}']) {
                self.problem(*line, format!("{what} `{name}` has a brace in its name"));
            }
            if !seen.insert(name) {
                self.problem(*line, format!("{what} `{name}` is declared twice"));
            }
        }
    }

    fn alternate_exchanges(&mut self) {
        for (exchange, line) in self.topology.exchanges.iter().zip(&self.lines.exchanges) {
            let Some(alternate) = &exchange.alternate_exchange else { continue };
            if exchange.name == names::JOBS {
                self.problem(*line, "`jobs` may have no alternate exchange: what it cannot route must be returned");
            }
            self.routes(*line, &exchange.name, "alternate exchange", alternate);
        }
    }

    /// Checks that an exchange to fall back on exists and leads somewhere.
    fn routes(&mut self, line: u64, whose: &str, what: &str, name: &str) {
        if !self.exchanges.contains_key(name) {
            self.problem(line, format!("`{whose}` has the {what} `{name}`, which is not declared"));
        } else if !self.topology.bindings.iter().any(|binding| binding.exchange == name) {
            self.problem(line, format!("`{whose}` has the {what} `{name}`, to which no queue is bound"));
        }
    }

    fn bindings(&mut self) {
        let mut seen = BTreeSet::new();
        for (binding, line) in self.topology.bindings.iter().zip(&self.lines.bindings) {
            let Binding { exchange, queue, routing_key } = binding;
            if !self.exchanges.contains_key(exchange.as_str()) {
                self.problem(*line, format!("`{queue}` is bound to `{exchange}`, which is not declared"));
            }
            if routing_key.len() > NAME_BYTES_MAX {
                let found = routing_key.len();
                self.problem(*line, format!("a routing key of {found} bytes; at most {NAME_BYTES_MAX} are possible"));
            }
            if !seen.insert(binding) {
                self.problem(*line, format!("`{queue}` is bound to `{exchange}` by `{routing_key}` twice"));
            }
        }
    }

    fn queues(&mut self) {
        for (queue, line) in self.topology.queues.iter().zip(&self.lines.queues) {
            let name = &queue.name;
            if !["x-max-length", "x-max-length-bytes", "x-max-age"]
                .iter()
                .any(|limit| queue.arguments.contains_key(*limit))
            {
                let missing = if queue.kind == QueueKind::Stream { "retention" } else { "limit of length" };
                self.problem(*line, format!("{} queue `{name}` has no {missing}", queue.kind.as_str()));
            }
            if let Some(exchange) = text(queue, "x-dead-letter-exchange") {
                self.routes(*line, name, "dead-letter exchange", exchange);
            }
            if text(queue, "x-dead-letter-strategy") == Some("at-least-once") {
                self.at_least_once(queue, *line);
            }
            if text(queue, "x-dead-letter-exchange") == Some(names::JOBS_DUE) {
                self.delay_lane(queue, *line);
            }
        }
    }

    /// Without these two, RabbitMQ falls back to at-most-once and says so only in its log.
    fn at_least_once(&mut self, queue: &Queue, line: u64) {
        let name = &queue.name;
        if text(queue, "x-overflow") != Some("reject-publish") {
            self.problem(
                line,
                format!("`{name}` dead-letters at least once, which needs `x-overflow: reject-publish`"),
            );
        }
        if !queue.arguments.contains_key("x-dead-letter-exchange") {
            self.problem(line, format!("`{name}` dead-letters at least once, but has no `x-dead-letter-exchange`"));
        }
    }

    /// A job must come out of its delay once, in time, and with the key that it went in with.
    fn delay_lane(&mut self, queue: &Queue, line: u64) {
        let name = &queue.name;
        if !queue.arguments.contains_key("x-message-ttl") {
            self.problem(line, format!("delay lane `{name}` has no `x-message-ttl`"));
        }
        if queue.arguments.contains_key("x-dead-letter-routing-key") {
            self.problem(line, format!("delay lane `{name}` must keep each job's routing key"));
        }
        if text(queue, "x-dead-letter-strategy") != Some("at-least-once") {
            self.problem(line, format!("delay lane `{name}` needs `x-dead-letter-strategy: at-least-once`"));
        }
        let bindings: Vec<_> = self.topology.bindings.iter().filter(|binding| binding.queue == *name).collect();
        let fanout = |binding: &&Binding| self.exchanges.get(binding.exchange.as_str()) == Some(&ExchangeKind::Fanout);
        if bindings.len() != 1 || !bindings.iter().all(fanout) {
            self.problem(line, format!("delay lane `{name}` must be bound to one exchange, of kind fanout"));
        }
    }

    fn required(&mut self) {
        for name in names::EXCHANGES {
            if !self.exchanges.contains_key(name) {
                self.problem(0, format!("exchange `{name}` is not declared"));
            }
        }
        for (name, exchanges) in names::QUEUES {
            if !self.topology.queues.iter().any(|queue| queue.name == *name) {
                self.problem(0, format!("queue `{name}` is not declared"));
                continue;
            }
            for exchange in *exchanges {
                if !self.topology.bindings.iter().any(|b| b.queue == *name && b.exchange == *exchange) {
                    self.problem(0, format!("queue `{name}` is not bound to the exchange `{exchange}`"));
                }
            }
        }
        self.leaders();
        self.delays();
    }

    /// Without its single active consumer such a queue would call everybody the active one.
    fn leaders(&mut self) {
        for name in names::LEADERS {
            let Some(at) = self.topology.queues.iter().position(|queue| queue.name == *name) else {
                self.problem(0, format!("queue `{name}` is not declared"));
                continue;
            };
            let arguments = &self.topology.queues[at].arguments;
            if arguments.get("x-single-active-consumer") != Some(&ArgumentValue::Bool(true)) {
                let line = self.lines.queues[at];
                self.problem(line, format!("queue `{name}` needs `x-single-active-consumer: true`"));
            }
        }
    }

    /// Code names the steps and their times; a lane of another time would bring jobs too early or too late.
    fn delays(&mut self) {
        let lanes = self.topology.delay_lanes();
        for (step, delay_ms) in names::DELAYS {
            let name = names::retries(step);
            if !lanes.iter().any(|lane| (&lane.exchange, &lane.queue, lane.delay_ms) == (&name, &name, *delay_ms)) {
                self.problem(0, format!("there is no delay lane `{name}` of {delay_ms} ms that leads to `jobs.due`"));
            }
        }
    }

    /// A routing key of a job must lead from `jobs` and from `jobs.due` to its lane and to nothing else.
    fn lanes(&mut self) {
        for exchange in [names::JOBS, names::JOBS_DUE] {
            if self.exchanges.get(exchange).is_some_and(|kind| *kind != ExchangeKind::Topic) {
                self.problem(0, format!("exchange `{exchange}` must be of kind topic"));
            }
        }
        let mut lanes = BTreeSet::new();
        for platform in Platform::ALL {
            for priority in Priority::ALL {
                let key = names::lane_routing_key(*platform, *priority);
                let lane = names::lane(*platform, *priority);
                for exchange in [names::JOBS, names::JOBS_DUE] {
                    let matches = |b: &&Binding| b.exchange == exchange && topic_matches(&b.routing_key, &key);
                    let found: Vec<_> =
                        self.topology.bindings.iter().filter(matches).map(|b| b.queue.as_str()).collect();
                    if found != [lane.as_str()] {
                        let found = if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
                        self.problem(0, format!("`{exchange}` routes `{key}` to {found}; only `{lane}` is right"));
                    }
                }
                lanes.insert(lane);
            }
        }
        for (queue, line) in self.topology.queues.iter().zip(&self.lines.queues) {
            if lanes.contains(&queue.name) {
                self.lane(queue, *line);
            }
        }
    }

    fn lane(&mut self, queue: &Queue, line: u64) {
        let name = &queue.name;
        if queue.kind != QueueKind::Quorum {
            self.problem(line, format!("lane `{name}` must be a quorum queue"));
        }
        for argument in ["x-delivery-limit", "x-dead-letter-exchange"] {
            if !queue.arguments.contains_key(argument) {
                self.problem(line, format!("lane `{name}` has no `{argument}`"));
            }
        }
        for (argument, value) in [("x-dead-letter-strategy", "at-least-once"), ("x-overflow", "reject-publish")] {
            if text(queue, argument) != Some(value) {
                self.problem(line, format!("lane `{name}` needs `{argument}: {value}`"));
            }
        }
    }
}

fn text<'a>(queue: &'a Queue, argument: &str) -> Option<&'a str> {
    match queue.arguments.get(argument) {
        Some(ArgumentValue::Text(text)) => Some(text),
        _ => None,
    }
}

/// Whether a topic exchange sends `key` to a queue bound by `pattern`: `*` is one word, `#` any number of them
/// (<https://www.rabbitmq.com/tutorials/tutorial-five-python>).
fn topic_matches(pattern: &str, key: &str) -> bool {
    fn matches(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern, key) {
            ([], []) => true,
            (["#", rest @ ..], _) => matches(rest, key) || (!key.is_empty() && matches(pattern, &key[1..])),
            (["*", rest @ ..], [_, words @ ..]) => matches(rest, words),
            ([word, rest @ ..], [first, words @ ..]) => word == first && matches(rest, words),
            _ => false,
        }
    }
    // Keys of jobs have two words; a pattern of more `#` than this could only be made to waste time.
    let pattern: Vec<_> = pattern.split('.').collect();
    pattern.len() <= 16 && matches(&pattern, &key.split('.').collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::topic_matches;

    #[test]
    fn topics_match_as_rabbitmq_does() {
        for pattern in ["cpu.high", "cpu.*", "*.high", "#", "cpu.#", "#.high", "cpu.#.high", "#.#"] {
            assert!(topic_matches(pattern, "cpu.high"), "{pattern}");
        }
        for pattern in ["cpu", "cpu.low", "*", "", "cpu.high.*", "*.*.*", "cpu.hi*"] {
            assert!(!topic_matches(pattern, "cpu.high"), "{pattern}");
        }
    }
}
