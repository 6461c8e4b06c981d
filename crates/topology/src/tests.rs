//! The embedded `queues.yaml`, its plans, and what is refused.

use std::collections::BTreeSet;

use insta::assert_snapshot;
use messages::{Platform, Priority};
use proptest::prelude::*;

use super::*;

fn embedded() -> Topology {
    Topology::embedded().expect("queues.yaml is valid")
}

fn version(text: &str) -> ServerVersion {
    text.parse().expect("a version")
}

/// The embedded file with one text replaced by another wherever it occurs.
fn edited(from: &str, to: &str) -> String {
    assert!(Topology::EMBEDDED_YAML.contains(from), "queues.yaml has no `{from}`");
    Topology::EMBEDDED_YAML.replace(from, to)
}

/// What is said about the embedded file after an edit.
fn refused(from: &str, to: &str) -> String {
    Topology::from_yaml(&edited(from, to)).expect_err("the edit is wrong").to_string()
}

#[test]
fn the_embedded_file_declares_the_picture() {
    let topology = embedded();
    let kinds = |kind| topology.queues.iter().filter(|queue| queue.kind == kind).count();
    assert_snapshot!(
        format!(
            "{} exchanges, {} quorum queues, {} classic queues, {} streams, {} bindings",
            topology.exchanges.len(),
            kinds(QueueKind::Quorum),
            kinds(QueueKind::Classic),
            kinds(QueueKind::Stream),
            topology.bindings.len()
        ),
        @"15 exchanges, 47 quorum queues, 0 classic queues, 4 streams, 87 bindings"
    );
    let delays: Vec<_> =
        topology.delay_lanes().iter().map(|l| format!("{} {} {}", l.exchange, l.queue, l.delay_ms)).collect();
    assert_snapshot!(delays.join("\n"), @r"
    retries.1s retries.1s 1000
    retries.5s retries.5s 5000
    retries.30s retries.30s 30000
    retries.2m retries.2m 120000
    retries.10m retries.10m 600000
    retries.1h retries.1h 3600000
    ");
    let named: Vec<_> = names::DELAYS.iter().map(|(step, ms)| (names::retries(step), *ms)).collect();
    let lanes: Vec<_> = topology.delay_lanes().into_iter().map(|lane| (lane.queue, lane.delay_ms)).collect();
    assert_eq!(named, lanes);
    for name in names::LEADERS {
        let queue = topology.queues.iter().find(|queue| queue.name == *name).expect("declared");
        assert_eq!(queue.arguments["x-single-active-consumer"], ArgumentValue::Bool(true));
        assert!(!topology.bindings.iter().any(|binding| binding.queue == *name));
    }
}

#[test]
fn every_platform_and_priority_has_one_lane_with_all_its_safeguards() {
    let topology = embedded();
    for platform in Platform::ALL {
        for priority in Priority::ALL {
            let name = names::lane(*platform, *priority);
            let lanes: Vec<_> = topology.queues.iter().filter(|queue| queue.name == name).collect();
            assert_eq!(lanes.len(), 1, "{name}");
            let arguments: Vec<_> = lanes[0].arguments.iter().map(|(name, value)| format!("{name}={value}")).collect();
            assert_eq!(
                arguments.join(" "),
                "x-dead-letter-exchange=dead-letters x-dead-letter-strategy=at-least-once x-delivery-limit=20 \
                 x-max-length=2000000 x-overflow=reject-publish x-queue-type=quorum"
            );
            let key = names::lane_routing_key(*platform, *priority);
            let by_key = |exchange: &str| {
                topology.bindings.iter().filter(|b| b.exchange == exchange && b.routing_key == key).count()
            };
            assert_eq!((by_key(names::JOBS), by_key(names::JOBS_DUE)), (1, 1), "{key}");
        }
    }
    let names: BTreeSet<_> = topology.queues.iter().map(|queue| &queue.name).collect();
    assert_eq!(names.len(), topology.queues.len());
}

#[test]
fn a_plan_for_a_new_server_creates_everything() {
    let topology = embedded();
    for server in ["3.10.8", "3.13.7", "4.0.5", "4.3.0-rc.1"] {
        let plan = plan(&topology, &version(server), &Observed::absent(&topology)).expect(server);
        assert_eq!((plan.count('+'), plan.count('~')), (15 + 51, 87), "{server}");
        assert!(!plan.is_clean() && !plan.has_drift());
    }
}

#[test]
fn a_plan_reads_as_a_list() {
    let mut topology = embedded();
    topology.exchanges.truncate(2);
    topology.queues.retain(|queue| ["jobs.cpu.critical", "results", "heartbeats"].contains(&queue.name.as_str()));
    topology.bindings.retain(|binding| binding.queue == "jobs.cpu.critical" || binding.queue == "results");
    let mut observed = Observed::absent(&topology);
    observed.set_exchange("jobs", ObservedState::Same);
    observed.set_queue("results", ObservedState::Differs { detail: "x-max-age is 10D instead of 30D".to_owned() });
    let plan = plan(&topology, &version("3.10.8"), &observed).expect("a plan");
    assert!(plan.has_drift());
    assert_snapshot!(plan, @r"
    = exchange  jobs                           topic
    + exchange  jobs.due                       topic, alternate exchange unroutable
    + queue     jobs.cpu.critical              quorum, dead-letter-exchange=dead-letters, dead-letter-strategy=at-least-once, delivery-limit=20, max-length=2000000, overflow=reject-publish
    ! stream    results                        x-max-age is 10D instead of 30D
    + queue     heartbeats                     quorum, max-length=10000, message-ttl=60000, overflow=drop-head
    ~ binding   jobs -> jobs.cpu.critical      by cpu.critical
    ~ binding   jobs.due -> jobs.cpu.critical  by cpu.critical
    ~ binding   results -> results
    plan: 3 to create, 1 as declared, 1 different, 3 bindings to ensure
    ");
}

#[test]
fn a_plan_with_nothing_to_do_is_clean() {
    let topology = embedded();
    let mut observed = Observed::new();
    topology.exchanges.iter().for_each(|exchange| observed.set_exchange(&exchange.name, ObservedState::Same));
    topology.queues.iter().for_each(|queue| observed.set_queue(&queue.name, ObservedState::Same));
    assert!(plan(&topology, &version("4.1.0"), &observed).expect("a plan").is_clean());
}

#[test]
fn a_plan_needs_every_object_looked_up() {
    let topology = embedded();
    let error = plan(&topology, &version("4.1.0"), &Observed::new()).expect_err("nothing was looked up");
    assert_snapshot!(error, @"`jobs` was not looked up on the server");
}

#[test]
fn arguments_that_a_server_would_ignore_are_refused_together() {
    let text = edited("x-delivery-limit: 20\n", "x-delivery-limit: 20\n      x-consumer-timeout: 1h\n")
        .replace("x-max-age: 1h\n", "x-max-age: 1h\n      x-stream-filter-size-bytes: 32\n");
    let topology = Topology::from_yaml(&text).expect("known arguments");
    let observed = Observed::absent(&topology);
    assert_snapshot!(plan(&topology, &version("3.10.8"), &observed).expect_err("both are newer"), @r"
    RabbitMQ 3.10.8 does not know what the topology asks for:
      quorum queue `jobs.cpu.critical` and 35 more: `x-consumer-timeout` is known from RabbitMQ 3.12 on
      stream queue `control`: `x-stream-filter-size-bytes` is known from RabbitMQ 3.13 on
    ");
    assert!(plan(&topology, &version("3.12.0"), &observed).is_err());
    assert!(plan(&topology, &version("3.13.0-rc.2"), &observed).is_ok());
}

#[test]
fn arguments_that_a_later_server_dropped_are_refused() {
    let text = edited("x-message-ttl: 60s\n", "x-message-ttl: 60s\n      x-queue-mode: lazy\n")
        .replace("  - name: heartbeats\n    kind: quorum", "  - name: heartbeats\n    kind: classic");
    let topology = Topology::from_yaml(&text).expect("known argument");
    let observed = Observed::absent(&topology);
    assert!(plan(&topology, &version("3.10.8"), &observed).is_ok());
    assert_snapshot!(plan(&topology, &version("4.1.0"), &observed).expect_err("all queues are lazy"), @r"
    RabbitMQ 4.1.0 does not know what the topology asks for:
      classic queue `heartbeats`: `x-queue-mode` has no effect from RabbitMQ 3.12 on
    ");
}

#[test]
fn a_server_before_3_10_is_too_old() {
    let topology = embedded();
    let error = plan(&topology, &version("3.9.29"), &Observed::absent(&topology)).expect_err("too old");
    assert_snapshot!(error, @"RabbitMQ 3.9.29 is too old; 3.10.0 or later is needed");
}

#[test]
fn an_unknown_key_names_its_line() {
    let text = edited("    kind: topic\n    alternate-exchange", "    kind: topic\n    alternate-exchanges");
    let line = text.lines().position(|line| line.contains("alternate-exchanges")).expect("the edit") as u64 + 1;
    match Topology::from_yaml(&text) {
        Err(TopologyError::Yaml { line: found, source, .. }) => {
            assert_eq!(found, line);
            assert!(source.to_string().contains("alternate-exchanges"), "{source}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_version_of_the_file_is_called_so() {
    let text = "version: 2\nsomething-new: true\n";
    assert_snapshot!(
        Topology::from_yaml(text).expect_err("version 2"),
        @"the topology has version 2; only version 1 is known"
    );
}

#[test]
fn a_dangling_reference_names_the_line_of_its_entry() {
    let text = edited("alternate-exchange: unroutable", "alternate-exchange: nowhere");
    let line = text.lines().position(|line| line == "  - name: jobs.due").expect("the entry") + 1;
    assert_eq!(
        Topology::from_yaml(&text).expect_err("dangling").to_string(),
        format!(
            "the topology is invalid:\n  line {line}: `jobs.due` has the alternate exchange `nowhere`, \
             which is not declared"
        )
    );
}

#[test]
fn unsafe_topologies_are_refused() {
    for (from, to, problem) in [
        ("- exchange: heartbeats\n", "- exchange: heart\n", "`heartbeats` is bound to `heart`, which is not declared"),
        (
            "- exchange: heartbeats\n",
            "- exchange: heart\n",
            "queue `heartbeats` is not bound to the exchange `heartbeats`",
        ),
        (
            "x-dead-letter-exchange: dead-letters",
            "x-dead-letter-exchange: dead",
            "`jobs.wasm.low` has the dead-letter exchange `dead`, which is not declared",
        ),
        (
            "x-overflow: reject-publish\n      x-max-length: 2",
            "x-max-length: 2",
            "`jobs.cpu.critical` dead-letters at least once, which needs `x-overflow: reject-publish`",
        ),
        ("      x-delivery-limit: 20\n", "", "lane `jobs.cpu.critical` has no `x-delivery-limit`"),
        ("      x-max-length: 10_000\n", "", "quorum queue `heartbeats` has no limit of length"),
        ("      x-max-length-bytes: 20 GB\n      x-max-age: 30D\n", "", "stream queue `results` has no retention"),
        ("      x-message-ttl: \"{step}\"\n", "", "delay lane `retries.1s` has no `x-message-ttl`"),
        (
            "x-dead-letter-exchange: jobs.due",
            "x-dead-letter-exchange: jobs.due\n      x-dead-letter-routing-key: k",
            "delay lane `retries.1h` must keep each job's routing key",
        ),
        (
            "  - name: retries.{step}\n    kind: fanout",
            "  - name: retries.{step}\n    kind: topic",
            "delay lane `retries.1s` must be bound to one exchange, of kind fanout",
        ),
        (
            "  - name: jobs\n    kind: topic",
            "  - name: jobs\n    kind: topic\n    alternate-exchange: unroutable",
            "`jobs` may have no alternate exchange",
        ),
        (", 10m, 1h]", ", 1h]", "there is no delay lane `retries.10m` of 600000 ms that leads to `jobs.due`"),
        ("      x-single-active-consumer: true\n", "", "queue `updater.leader` needs `x-single-active-consumer: true`"),
        ("[aggregator, updater]", "[aggregator]", "queue `updater.leader` is not declared"),
        (", wasm]", "]", "`jobs` routes `wasm.low` to nothing; only `jobs.wasm.low` is right"),
        (", low]", ", low, low]", "queue `jobs.cpu.low` is declared twice"),
        (
            "- exchange: unroutable\n        routing-key: \"\"",
            "- exchange: jobs\n        routing-key: \"cpu.#\"",
            "`jobs` routes `cpu.high` to jobs.cpu.high, dead-letters, dead-letters.news; only `jobs.cpu.high` is right",
        ),
        (
            "      - exchange: unroutable\n        routing-key: \"\"\n",
            "",
            "queue `dead-letters.news` is not bound to the exchange `unroutable`",
        ),
    ] {
        let message = refused(from, to);
        assert!(message.contains(problem), "{problem}\nis not in\n{message}");
    }
}

#[test]
fn wrong_placeholders_are_refused() {
    for (from, to, problem) in [
        (
            "- name: jobs.{platform}.{priority}",
            "- name: jobs.{platform}.{prio}",
            "`{prio}` in `jobs.{platform}.{prio}` names no set",
        ),
        (
            "- exchange: retries.{step}",
            "- exchange: retries.{platform}",
            "`{platform}` in `retries.{platform}` is not in its entry's name",
        ),
        (
            "- name: control\n    kind: stream",
            "- name: con{trol\n    kind: stream",
            "queue `con{trol` has a brace in its name",
        ),
        (
            "x-message-ttl: \"{step}\"",
            "x-message-ttl: \"{step}s\"",
            "`x-message-ttl` is `1ss`; milliseconds, or a number with ms, s, m or h was expected",
        ),
    ] {
        let message = refused(from, to);
        assert!(message.contains(problem), "{problem}\nis not in\n{message}");
    }
}

#[test]
fn a_family_that_explodes_is_refused() {
    let set: Vec<_> = (0..200).map(|n| n.to_string()).collect();
    let text = edited("sets:\n", &format!("sets:\n  a: [{0}]\n  b: [{0}]\n", set.join(", ")))
        .replace("- name: control\n    kind: stream", "- name: control.{a}.{b}\n    kind: stream");
    let message = Topology::from_yaml(&text).expect_err("40,000 queues").to_string();
    assert!(message.contains("expands to more than 10000 objects"), "{message}");
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "(version: 1\n)?[ -~\n]{0,300}") {
        let _checked = Topology::from_yaml(&text).is_ok();
    }

    #[test]
    fn damage_gives_an_error_or_a_topology_that_keeps_its_promises(
        position in any::<prop::sample::Index>(),
        length in 0..40_usize,
        inserted in "[ -~\n]{0,12}",
    ) {
        let text = Topology::EMBEDDED_YAML;
        let start = position.index(text.len());
        let end = (start + length).min(text.len());
        let damaged = format!("{}{inserted}{}", &text[..start], &text[end..]);
        if let Ok(topology) = Topology::from_yaml(&damaged) {
            for platform in Platform::ALL {
                for priority in Priority::ALL {
                    let name = names::lane(*platform, *priority);
                    let lane = topology.queues.iter().find(|queue| queue.name == name).expect("a lane");
                    prop_assert!(lane.arguments.contains_key("x-delivery-limit"));
                    prop_assert_eq!(&lane.arguments["x-overflow"], &ArgumentValue::Text("reject-publish".to_owned()));
                }
            }
            prop_assert!(plan(&topology, &version("99.0.0"), &Observed::absent(&topology)).is_ok());
        }
    }
}
