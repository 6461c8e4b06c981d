//! SIGTERM to each daemon, and a database that another process holds.

use nix::sys::signal::Signal;
use testkit::AugurProcess;

use crate::support::{LIMIT, World, assert_counts, text};

/// Sends SIGTERM and waits for an end in good order.
#[track_caller]
fn terminate(process: &mut AugurProcess) {
    process.signal(Signal::SIGTERM).expect("sent");
    ended(process);
}

#[track_caller]
fn ended(process: &mut AugurProcess) {
    let status = process.wait(LIMIT).expect("an end");
    assert_eq!(status.code(), Some(0), "{}", process.stderr());
}

#[test]
fn sigterm_ends_idle_daemons_in_good_order() {
    let world = World::new();
    let (mut aggregator, mut updater) = (world.aggregator(), world.updater());
    world.set("AUGUR_LEARNER__MODELS", "mobilenet-v2");
    let mut learner = world.spawn("learner", &["learner", "start"]);
    learner.wait_for_line("waiting for a worker", LIMIT).expect("it waits");
    terminate(&mut learner);
    let mut worker = world.worker("w1", &[]);
    for process in [&mut worker, &mut updater, &mut aggregator] {
        terminate(process);
    }
}

#[test]
fn a_worker_told_to_end_lets_its_job_finish() {
    let world = World::new();
    let _aggregator = world.aggregator();
    let (_, run) = world.submit_hold("held");
    let mut worker = world.worker("w1", &[]);
    world.holds().next();
    worker.signal(Signal::SIGTERM).expect("sent");
    worker.wait_for_line("worker drains", LIMIT).expect("it drains");
    world.holds().let_go(1);
    ended(&mut worker);
    assert_counts(&world.complete(&run), 1, [1, 0, 0, 0]);
    assert_eq!(text(&world.results(&run)[0], "worker_id"), "w1");
}

#[test]
fn a_worker_told_to_end_hands_back_a_job_that_outlasts_the_grace() {
    let world = World::new();
    world.set("AUGUR_WORKER__GRACE_S", "1");
    let _aggregator = world.aggregator();
    let (_, run) = world.submit_hold("held");
    let mut first = world.worker("first", &[]);
    let process = world.holds().next();
    let _second = world.worker("second", &[]);
    terminate(&mut first);
    process.gone();
    assert_eq!(world.holds().next().name, "held", "another worker runs it");
    world.holds().let_go(1);
    assert_counts(&world.complete(&run), 1, [1, 0, 0, 0]);
    assert_eq!(text(&world.results(&run)[0], "worker_id"), "second");
}

#[test]
fn a_worker_told_twice_ends_at_once_and_its_job_runs_elsewhere() {
    let world = World::new();
    let _aggregator = world.aggregator();
    let (_, run) = world.submit_hold("held");
    let mut first = world.worker("first", &[]);
    let process = world.holds().next();
    first.signal(Signal::SIGTERM).expect("sent");
    first.wait_for_line("worker drains", LIMIT).expect("it drains");
    first.signal(Signal::SIGTERM).expect("sent");
    assert_eq!(first.wait(LIMIT).expect("an end").code(), Some(130), "{}", first.stderr());
    process.gone();
    let _second = world.worker("second", &[]);
    world.holds().next();
    world.holds().let_go(1);
    assert_counts(&world.complete(&run), 1, [1, 0, 0, 0]);
    assert_eq!(text(&world.results(&run)[0], "worker_id"), "second");
}

#[test]
fn a_database_that_is_held_is_said_with_its_holder() {
    let world = World::new();
    let aggregator = world.aggregator();
    let db = world.path("state/augur.duckdb").display().to_string();
    let second = world.augur(&["aggregator", "start", "--db", &db, "--listen", "127.0.0.1:0"]);
    assert_eq!(second.code, Some(2), "{second:?}");
    assert!(second.stderr.contains(&db), "{second:?}");
    assert!(second.stderr.contains(&aggregator.pid().to_string()), "{second:?}");
    // The first goes on.
    let _worker = world.worker("w1", &[]);
    let run = world.submit("tests:\n  - {name: nothing, profile: noop}");
    assert_counts(&world.complete(&run), 1, [1, 0, 0, 0]);
}
