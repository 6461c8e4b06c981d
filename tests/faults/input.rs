//! Suites that cannot be, and a broker that is not there.

use std::net::TcpListener;

use crate::support::World;

#[track_caller]
fn check_refused(suite: &str, expected: &[&str]) {
    let world = World::new();
    let file = world.write("bad.yaml", suite);
    let answer = world.augur(&["suite", "submit", &file]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
    assert_eq!(answer.stdout, "");
    for part in [&["bad.yaml"], expected].concat() {
        assert!(answer.stderr.contains(part), "`{part}` is not in\n{}", answer.stderr);
    }
    // A run is announced before its first job is published: without an announcement there are no jobs.
    let replayed = world.augur(&["result", "replay", "--from", "first"]);
    assert!(replayed.stderr.contains("0 messages read"), "{replayed:?}");
}

#[test]
fn an_unknown_key_is_refused_with_its_line() {
    check_refused(
        "version: 1\nname: bad\nbenchmarks:\n  - models: [mobilenet-v2]\n    batch_size: [1]\n",
        &["line 5", "unknown field `batch_size`", "batch_sizes"],
    );
}

#[test]
fn a_missing_model_is_refused_and_a_near_one_named() {
    check_refused(
        "version: 1\nname: bad\nbenchmarks:\n  - models: [mobilenet-v3]\n",
        &["`mobilenet-v3`", "near it are `mobilenet-v2`"],
    );
}

#[test]
fn a_batch_size_of_zero_is_refused_with_its_key() {
    check_refused(
        "version: 1\nname: bad\nbenchmarks:\n  - models: [mobilenet-v2]\n    batch_sizes: [1, 0]\n",
        &["benchmarks[0].batch_sizes", "batch_size is 0; 1 to"],
    );
}

#[test]
fn a_broker_that_is_not_there_is_said_without_the_password() {
    // Nobody listens on a port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let world = World::bare(&format!("amqp://somebody:hunter2@127.0.0.1:{port}/%2f"), None);
    world.set("AUGUR_BROKER__PATIENCE_S", "1");
    let suite = world.write("suite.yaml", "version: 1\nname: good\ntests:\n  - {name: a, profile: noop}\n");
    let commands: [&[&str]; 5] = [
        &["suite", "submit", &suite],
        &["topology", "plan"],
        &["worker", "start"],
        &["updater", "start"],
        &["aggregator", "start", "--listen", "127.0.0.1:0"],
    ];
    for command in commands {
        let answer = world.augur(command);
        assert_eq!(answer.code, Some(3), "{command:?}: {answer:?}");
        let expected = format!("amqp://somebody:***@127.0.0.1:{port}/%2f");
        assert!(answer.stderr.contains(&expected) && answer.stderr.contains("Connection refused"), "{answer:?}");
        assert!(answer.stderr.contains("hint: set AUGUR_AMQP_URL"), "{answer:?}");
        assert!(!format!("{}{}", answer.stdout, answer.stderr).contains("hunter2"), "{answer:?}");
    }
}
