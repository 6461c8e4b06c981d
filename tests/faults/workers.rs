//! Workers that die, and jobs that nobody wants any more.

use std::time::Duration;

use crate::support::{LIMIT, World, assert_counts, text};

/// Between two looks at whether a worker is dead.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// A job that kills the worker that runs it, which is its parent, and one that takes seconds.
const KILLER_AND_SLOW: &str = r#"
[worker.profiles.killer]
runner = "command"
enabled = true
program = "/bin/sh"
arguments = ["-c", "kill -KILL $PPID; sleep 600"]
[worker.profiles.slow]
runner = "command"
enabled = true
program = "/bin/sh"
arguments = ["-c", "sleep 3"]
"#;

#[test]
fn a_job_of_a_killed_worker_runs_elsewhere_and_counts_once() {
    let world = World::new();
    let _aggregator = world.aggregator();
    let (_, run) = world.submit_hold("held");
    let mut first = world.worker("first", &[]);
    let orphan = world.holds().next();
    let _second = world.worker("second", &[]);

    first.kill().expect("killed");
    orphan.gone();
    assert_eq!(world.holds().next().name, "held", "the broker delivered it again");
    world.holds().let_go(1);

    assert_counts(&world.complete(&run), 1, [1, 0, 0, 0]);
    let results = world.results(&run);
    assert_eq!(results.len(), 1);
    assert_eq!(text(&results[0], "worker_id"), "second");
    let replayed = world.augur(&["result", "replay", "--from", "first"]);
    assert!(replayed.stderr.contains("1 of them results"), "{replayed:?}");
}

/// Both were charged together, until both were dead letters.
#[test]
fn a_job_that_kills_its_worker_takes_no_slow_neighbour_with_it() {
    let world = World::new();
    world.write("test.toml", KILLER_AND_SLOW);
    world.set("AUGUR_WORKER__LEASE_S", "2");
    let _aggregator = world.aggregator();
    let run = world.submit("tests: [{name: slow, profile: slow}, {name: killer, profile: killer}]");
    let mut waiting = world.spawn("wait", &["run", "wait", &run, "--timeout-s", "120"]);
    let mut deaths = 0;
    let start = || world.worker("w1", &["--concurrency", "2"]);
    let mut worker = start();
    while waiting.wait(LOOK_AGAIN).is_err() {
        if worker.wait(Duration::ZERO).is_ok() {
            deaths += 1;
            worker = start();
        }
    }

    let summary = world.augur(&["run", "show", &run, "--format", "json"]).json();
    let count = |field: &str| summary[field].as_u64();
    assert_eq!((count("passed"), count("dead")), (Some(1), Some(1)), "{summary:#}");
    let results = world.results(&run);
    assert_eq!(text(&results[0], "case"), "slow", "{results:#?}");
    let charged = results[0]["attempt"].as_u64();
    assert!(charged <= Some(2), "at most once, if it was claimed before the killer struck: {results:#?}");
    assert!(deaths >= 5, "the killer was charged once in company, after two deaths for free, then alone: {deaths}");
    let dead = world.augur(&["dead-letter", "list", "--format", "json"]).json();
    assert_eq!((dead.as_array().map(Vec::len), text(&dead[0], "reason")), (Some(1), "worker-lost"), "{dead:#}");
}

#[test]
fn cancelled_jobs_end_as_such_running_or_queued() {
    let world = World::new();
    let _aggregator = world.aggregator();
    let (running, run_of_running) = world.submit_hold("running");
    let (queued, run_of_queued) = world.submit_hold("queued");
    let _worker = world.worker("w1", &[]);
    let process = world.holds().next();
    assert_eq!(process.name, "running", "one at a time, in their order");

    // Orders are read in their order: the queued job's arrives before the worker is free to take it.
    world.augur(&["job", "cancel", &queued]).expect(0);
    world.augur(&["job", "cancel", &running]).expect(0);
    process.gone();
    for (job, run) in [(running, run_of_running), (queued, run_of_queued)] {
        assert_counts(&world.complete(&run), 1, [0, 0, 0, 1]);
        let shown = world.augur(&["job", "show", &job, "--format", "json"]).json();
        assert_eq!((text(&shown, "status"), text(&shown, "failure_type")), ("cancelled", "cancelled"));
        assert_eq!(world.augur(&["run", "wait", &run]).code, Some(1), "not passed is unwelcome");
    }
}

/// The stream of orders keeps them for an hour, and a job may be due in a year: it ran.
#[test]
fn a_cancelled_job_that_outlives_its_order_does_not_run() {
    let world = World::new();
    let mut aggregator = world.aggregator();
    let (job, run) = world.submit_hold("queued");
    world.augur(&["job", "cancel", &job]).expect(0);
    let waited = world.augur(&["run", "wait", &run]);
    assert!(waited.code == Some(1) && waited.stderr.contains("that no worker reached: 1"), "{waited:?}");
    aggregator.kill().expect("killed");
    drop(aggregator);
    // An hour later.
    let (node, name) = world.node();
    node.ctl(&["delete_queue", "-p", name, topology::names::CONTROL]).expect("deleted");
    world.augur(&["topology", "apply"]).expect(0);

    let mut aggregator = world.aggregator();
    aggregator.wait_for_line("cancel orders are given again", LIMIT).expect("it gives them");
    let _worker = world.worker("w1", &[]);
    assert_counts(&world.complete(&run), 1, [0, 0, 0, 1]);
}

#[test]
fn who_waits_for_a_cancelled_run_that_no_worker_serves_is_told() {
    let world = World::new();
    let _aggregator = world.aggregator();
    let suite = world.write("suite.yaml", "version: 1\nname: test\ntests: [{name: a, profile: noop, repeat: 3}]\n");
    let mut waiting = world.spawn("submit", &["suite", "submit", &suite, "--wait", "--format", "json"]);
    let line = waiting.wait_for_line("3 jobs submitted", LIMIT).expect("submitted");
    let run = line.split_whitespace().nth(1).expect("an id").trim_end_matches(':').to_owned();
    world.augur(&["run", "cancel", &run]).expect(0);

    assert_eq!(waiting.wait(LIMIT).expect("an end").code(), Some(1), "{}", waiting.stderr());
    waiting.wait_for_line("no live worker takes cpu", LIMIT).expect("it says why");
    waiting.wait_for_answer("}", LIMIT).expect("an answer");
    let submitted: serde_json::Value = serde_json::from_str(&waiting.stdout()).expect("JSON");
    assert_eq!((submitted["passed"].as_u64(), submitted["unreached"].as_u64()), (Some(0), Some(3)), "{submitted:#}");
    let waited = world.augur(&["run", "wait", &run]);
    assert!(waited.code == Some(1) && waited.stderr.contains("that no worker reached: 3"), "{waited:?}");

    let _late = world.worker("late", &[]);
    assert_counts(&world.complete(&run), 3, [0, 0, 0, 3]);
    assert_eq!(world.results(&run).len(), 3, "each counts once");
}

#[test]
fn who_waits_for_a_cancelled_job_that_no_worker_serves_is_told() {
    let world = World::new();
    let _aggregator = world.aggregator();
    let (job, run) = world.submit_hold("queued");
    world.augur(&["job", "cancel", &job]).expect(0);

    let waited = world.augur(&["run", "wait", &run]);
    assert!(waited.code == Some(1) && waited.stderr.contains("that no worker reached: 1"), "{waited:?}");
    assert!(waited.stderr.contains("no live worker takes cpu"), "{waited:?}");

    let submit = ["job", "submit", "--kind", "test", "--profile", "hold", "--method", "waited", "--wait"];
    let mut waiting = world.spawn("submit", &submit);
    let line = waiting.wait_for_line("submitted", LIMIT).expect("submitted");
    let job = line.split_whitespace().nth(3).expect("an id").to_owned();
    world.augur(&["job", "cancel", &job]).expect(0);
    assert_eq!(waiting.wait(LIMIT).expect("an end").code(), Some(1), "{}", waiting.stderr());
}
