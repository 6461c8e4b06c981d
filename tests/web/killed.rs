//! Browsers that are killed under jobs which came by the queue.

use std::{
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use testkit::BrowserProcesses;

use crate::{
    BrowserWorker, soak, status,
    support::{LIMIT, World, assert_counts},
    world_with_model,
};

/// A job that is timed for six seconds, and longer in all if its browsers die under it.
const LONG: &str = "web:
  - {models: [tiny], platforms: [wasm], browsers: [chromium], batch_sizes: [16], sequence_lengths: [32],
     warmup_iterations: 1, iterations_min: 10000, iterations_max: 10000, duration_s_max: 6, timeout_s: 110}";

/// One that is timed for as long as it may take; in the other browser, because that is well after all that was killed.
const LONGER: &str = "web:
  - {models: [tiny], platforms: [wasm], browsers: [firefox], batch_sizes: [16], sequence_lengths: [32],
     warmup_iterations: 1, iterations_min: 10000, iterations_max: 10000, duration_s_max: 100, timeout_s: 110}";

/// Time between two looks at the pool.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Jobs at once: what the soak has tabs for, most of the time.
const AT_ONCE: &str = "4";

/// One worker for all of it, because each would try every browser first.
#[test]
fn killed_browsers_cost_no_attempt_until_they_are_three_under_one_job() {
    let world = world_with_model();
    world.set("AUGUR_BROWSERS__CONCURRENCY", AT_ONCE);
    let _aggregator = world.aggregator();
    let browsers = BrowserWorker::start(&world);
    let mut processes = BrowserProcesses::of_pool(&world.path("state/browsers")).expect("a pool is here");
    a_job_whose_browser_is_killed_is_measured_at_its_first_attempt_and_counts_once(&world);
    soak::every_job_has_one_end_whatever_dies(&world, &mut processes);
    a_job_that_brings_down_three_browsers_is_a_dead_letter(&world);
    a_worker_that_exits_at_once_leaves_no_browser(&world, browsers, &mut processes);
}

/// Its job is the broker's again.
fn a_worker_that_exits_at_once_leaves_no_browser(
    world: &World,
    browsers: BrowserWorker,
    processes: &mut BrowserProcesses,
) {
    let run = world.submit(LONGER);
    browser_at_work(world, &run, "firefox", &[]).expect("the job runs");
    assert!(!processes.alive().is_empty());
    assert_eq!(browsers.end_at_once(), Some(130));
    let deadline = Instant::now() + LIMIT;
    while !processes.alive().is_empty() {
        assert!(Instant::now() < deadline, "processes are left");
        thread::sleep(LOOK_EVERY);
    }
}

fn a_job_whose_browser_is_killed_is_measured_at_its_first_attempt_and_counts_once(world: &World) {
    let run = world.submit(LONG);
    let killed = browser_at_work(world, &run, "chromium", &[]).expect("the job runs");
    kill_browser(killed);
    let next = browser_at_work(world, &run, "chromium", &[killed]).expect("it goes on in another browser");
    assert_counts(&world.complete(&run), 1, [1, 0, 0, 0]);
    let results = world.results(&run);
    assert_eq!(results.len(), 1, "{results:#?}");
    assert_eq!(results[0]["attempt"], 1, "the browser's death is not charged: {:#}", results[0]);
    let recoveries = results[0]["web"]["recoveries"].as_array().expect("a list");
    let taken: Vec<&str> = recoveries.iter().filter_map(Value::as_str).collect();
    assert!(matches!(&taken[..], [step] if step.starts_with("new browser after chromium: ")), "{taken:?}");
    let letters = world.augur(&["dead-letter", "list", "--format", "json"]).json();
    assert_eq!(letters.as_array().map(Vec::len), Some(0), "{letters:#}");
    the_status_tells_what_happened(world, next);
}

fn the_status_tells_what_happened(world: &World, browser: i64) {
    let status = status(world);
    let counted = status["counters"]["recoveries"].as_array().expect("steps").iter();
    assert_eq!(counted.filter_map(|step| step[1].as_u64()).sum::<u64>(), 1, "{status:#}");
    assert_eq!(status["counters"]["jobs_done"], 1, "{status:#}");
    let table = world.augur(&["browsers", "status"]).expect(0);
    for part in ["jobs: 1 done, 0 failed", "recoveries: new ", "chromium", "firefox", &browser.to_string()] {
        assert!(table.contains(part), "`{part}` is not in\n{table}");
    }
}

fn a_job_that_brings_down_three_browsers_is_a_dead_letter(world: &World) {
    let poisoned = || status(world)["counters"]["poisoned"].as_u64().expect("a number");
    let before = poisoned();
    let run = world.submit(LONG);
    let mut killed = Vec::new();
    while let Some(browser) = browser_at_work(world, &run, "chromium", &killed) {
        kill_browser(browser);
        killed.push(browser);
    }
    assert_eq!(killed.len(), 3, "{killed:?}");
    let summary = world.augur(&["run", "show", &run, "--format", "json"]).json();
    assert_eq!(["done", "dead", "retried"].map(|field| summary[field].as_u64()), [Some(0), Some(1), Some(0)]);
    let letters = world.augur(&["dead-letter", "list", "--run", &run, "--format", "json"]).json();
    let letters = letters.as_array().expect("a list");
    assert!(matches!(&letters[..], [letter] if letter["reason"] == "poison"), "{letters:#?}");
    assert_eq!(poisoned(), before + 1);
}

/// Waits until a browser of this name that is none of `earlier` has a job, and gives its process id; `None` if the run ends first.
fn browser_at_work(world: &World, run: &str, name: &str, earlier: &[i64]) -> Option<i64> {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        if summary(world, run).is_some_and(|summary| is_over(&summary)) {
            return None;
        }
        let status = status(world);
        let sessions = status["sessions"].as_array().expect("sessions");
        let at_work = sessions.iter().filter(|session| session["browser"] == name && has_job(session));
        let mut pids = at_work.filter_map(|session| session["pid"].as_i64());
        if let Some(pid) = pids.find(|pid| !earlier.contains(pid)) {
            return Some(pid);
        }
        thread::sleep(LOOK_EVERY);
    }
    panic!("no browser works and the run does not end: {:#}", status(world));
}

/// What is known of a run, once the aggregator has heard of it.
pub(crate) fn summary(world: &World, run: &str) -> Option<Value> {
    let shown = world.augur(&["run", "show", run, "--format", "json"]);
    (shown.code == Some(0)).then(|| shown.json())
}

pub(crate) fn is_over(summary: &Value) -> bool {
    let count = |field: &str| summary[field].as_u64().expect("a number");
    count("done") + count("dead") == count("jobs_total")
}

/// Whether a tab of it has a job's model; the pool's own probes have none.
fn has_job(session: &Value) -> bool {
    let tabs = session["tabs"].as_array().expect("tabs");
    tabs.iter().any(|tab| tab["busy"] == true && !tab["model"].is_null())
}

fn kill_browser(pid: i64) {
    let pid = i32::try_from(pid).expect("a process id");
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it runs");
}
