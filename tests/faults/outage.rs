//! Broker and aggregator that go away in the middle of a run.

use nix::sys::signal::Signal;
use serde_json::Value;
use testkit::{AugurProcess, PrivateNode};

use crate::support::{LIMIT, World, assert_counts};

/// Waits until the aggregator has committed this many more batches.
fn committed(aggregator: &mut AugurProcess, batches: usize) {
    for _ in 0..batches {
        aggregator.wait_for_line("batch committed", LIMIT).expect("a batch");
    }
}

/// Every job of the run is counted once, and the stream says the same as the database.
#[track_caller]
fn assert_exact(world: &World, run: &str, jobs: u64) {
    assert_counts(&world.complete(run), jobs, [jobs, 0, 0, 0]);
    let mut ids: Vec<_> = world.results(run).iter().map(|row| row["job_id"].to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len() as u64, jobs);
    let replay = ["result", "replay", "--from", "first", "--into", "fresh.duckdb", "--compare"];
    let compared = world.augur(&replay).expect(0);
    assert!(compared.contains("every table is equal"), "{compared}");
}

/// The offsets of results, each a line of JSON.
#[track_caller]
fn offsets(lines: &str) -> Vec<u64> {
    let offset = |line| serde_json::from_str::<Value>(line).ok()?["offset"].as_u64();
    lines.lines().map(|line| offset(line).unwrap_or_else(|| panic!("no offset in `{line}`"))).collect()
}

/// Who follows the stream since before the outage has printed what is on it: each result once, in order.
#[track_caller]
fn assert_followed(world: &World, following: &mut AugurProcess) {
    let run = world.submit("tests: [{name: last, profile: noop}]");
    following.wait_for_answer("\"case\":\"last\"", LIMIT).expect("a line of what came after the outage");
    world.complete(&run);
    following.signal(Signal::SIGINT).expect("sent");
    assert_eq!(following.wait(LIMIT).expect("an end").code(), Some(0), "{}", following.stderr());
    let followed = offsets(&following.stdout());
    let mut there = offsets(&world.augur(&["result", "replay", "--from", "first", "--format", "json"]).expect(0));
    // A job that ran again may have given its second result since.
    there.truncate(followed.len());
    assert_eq!(followed, there, "the reading goes on behind the last line, not at the first");
}

#[test]
fn a_broker_that_goes_away_and_comes_back_loses_no_job_and_who_follows_no_line() {
    let node = PrivateNode::start().expect("a node");
    let world = World::bare(&node.url(), None);
    world.augur(&["topology", "apply"]).expect(0);
    world.set("AUGUR_LOG", "info,pipeline=debug");
    let mut aggregator = world.aggregator();
    let _workers = ["w1", "w2"].map(|name| world.worker(name, &["--concurrency", "2"]));
    let run = world.submit(
        "tests:\n  - {name: nothing, profile: noop, repeat: 300}\n  \
         - {name: held, profile: hold, method: held, priority: high, repeat: 2}",
    );
    let follow = ["result", "replay", "--from", "first", "--follow", "--format", "json"];
    let mut following = world.spawn("following", &follow);
    let running = [world.holds().next(), world.holds().next()];
    committed(&mut aggregator, 1);
    following.wait_for_answer("nothing", LIMIT).expect("a line of what came before the outage");

    node.stop().expect("stopped");
    // Both end while their results have nowhere to go; either may be run again afterwards, and then ends at once.
    world.holds().let_go(2);
    for process in running {
        process.gone();
    }
    world.holds().let_go(20);
    node.restart().expect("started again");

    assert_exact(&world, &run, 302);
    assert_followed(&world, &mut following);
}

#[test]
fn an_aggregator_that_is_killed_goes_on_where_it_was() {
    const NOTHINGS: u64 = 1_500;
    let world = World::new();
    world.set("AUGUR_LOG", "info,pipeline=debug");
    world.set("AUGUR_AGGREGATOR__BATCH_MESSAGES_MAX", "100");
    let mut aggregator = world.aggregator();
    let _worker = world.worker("w1", &["--concurrency", "20", "--prefetch", "200"]);
    // The held job, which starts first, keeps the run incomplete while the aggregator dies twice.
    let run = world.submit(&format!(
        "tests:\n  - {{name: nothing, profile: noop, repeat: {NOTHINGS}}}\n  \
         - {{name: held, profile: hold, method: held, priority: high}}"
    ));
    for _ in 0..2 {
        committed(&mut aggregator, 2);
        aggregator.kill().expect("killed");
        drop(aggregator);
        aggregator = world.aggregator();
    }
    world.holds().next();
    world.holds().let_go(1);
    assert_exact(&world, &run, NOTHINGS + 1);
}
