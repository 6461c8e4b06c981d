//! What commands print: help, settings, suites, models, errors.

mod support;

use std::{net::TcpListener, process::Command};

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::{World, binary};

fn world() -> World {
    let world = World::bare("amqp://somebody:hunter2@127.0.0.1:1/%2f".to_owned(), None);
    world.set("COLUMNS", "100");
    world
}

#[test]
fn help_lists_the_commands() {
    assert_snapshot!(world().augur(&["--help"]).expect(0), @"");
}

#[test]
fn settings_come_with_their_origins_and_without_secrets() {
    let world = world();
    world.set("AUGUR_WORKER__GRACE_S", "7");
    let Value::Array(rows) = world.augur(&["settings", "show", "--format", "json"]).json() else {
        panic!("settings are a list")
    };
    let defaults = rows.iter().filter(|row| row["origin"] == "default").count();
    assert!(defaults > 20, "{defaults} settings have their default");
    let own: Vec<_> = rows.into_iter().filter(|row| row["origin"] != "default").collect();
    let directory = world.path("").display().to_string();
    let shown = serde_json::to_string_pretty(&own).expect("JSON").replace(directory.trim_end_matches('/'), "[directory]");
    assert!(!shown.contains("hunter2"));
    assert_snapshot!(shown.split_once("worker.profiles.hold").expect("settings of a file come last").0, @"");
}

#[test]
fn a_suite_is_checked_case_by_case() {
    let world = world();
    let file = world.write(
        "tiny.yaml",
        "version: 1\nname: tiny\nbenchmarks:\n  - {models: [mobilenet-v2], batch_sizes: [1, 2]}\n\
         tests:\n  - {name: nothing, profile: noop, priority: high, timeout_s: 5}\n",
    );
    assert_snapshot!(world.augur(&["suite", "check", &file, "--format", "json"]).expect(0), @"");
}

#[test]
fn models_of_an_empty_cache_are_listed() {
    let world = world();
    world.own_cache();
    assert_snapshot!(world.augur(&["model", "list"]).expect(0).replace(" \n", "\n"), @"");
}

#[test]
fn an_error_comes_with_its_causes_and_a_hint() {
    let world = world();
    // Nobody listens on a port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    world.set("AUGUR_AGGREGATOR_URL", &format!("http://127.0.0.1:{port}"));
    let answer = world.augur(&["run", "list"]);
    assert_eq!((answer.code, answer.stdout.as_str()), (Some(3), ""));
    assert_snapshot!(answer.stderr.replace(&port.to_string(), "[port]"), @"");
}

#[test]
fn wrong_usage_and_wrong_settings_are_exit_code_2() {
    let world = world();
    let answer = world.augur(&["suite", "sumbit", "x.yaml"]);
    assert!(answer.code == Some(2) && answer.stderr.contains("'submit'"), "{answer:?}");
    world.set("AUGUR_WORKER__GRACE", "7");
    let answer = world.augur(&["settings", "show"]);
    assert!(answer.code == Some(2) && answer.stderr.contains("AUGUR_WORKER__GRACE is no setting"), "{answer:?}");
}

#[test]
fn completions_are_printed() {
    let script = world().augur(&["completions", "bash"]).expect(0);
    assert!(script.contains("complete -F _augur"), "{script}");
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    // `script` of util-linux runs a command on a terminal of its own.
    let on_a_terminal = |arguments: &str, no_colour: bool| {
        let mut command = Command::new("script");
        command.args(["--quiet", "--command", &format!("{} {arguments}", binary().display()), "/dev/null"]);
        command.env_remove("NO_COLOR").env("TERM", "xterm").env("AUGUR_BROKER__PATIENCE_S", "1");
        command.env("AUGUR_AMQP_URL", "amqp://nobody:hidden@127.0.0.1:1/%2f");
        if no_colour {
            command.env("NO_COLOR", "1");
        }
        String::from_utf8_lossy(&command.output().expect("script of util-linux").stdout).into_owned()
    };
    for arguments in ["--help", "updater start"] {
        let (coloured, plain) = (on_a_terminal(arguments, false), on_a_terminal(arguments, true));
        assert!(coloured.contains("\u{1b}["), "{arguments}: {coloured}");
        assert!(!plain.contains("\u{1b}[") && plain.len() > 100, "{arguments}: {plain}");
    }
}
