//! Web jobs in real browsers, from a suite to the database and back out.
//!
//! The browsers and their drivers must be installed (`make setup`): a missing one is a failure, not a skipped test.

mod support;

use std::{
    collections::BTreeSet,
    net::TcpListener,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use testkit::AugurProcess;

use crate::support::{LIMIT, World, assert_counts, text};

/// Two browsers, two platforms; the last case may run in any browser, on whichever of two platforms it gives.
const SUITE: &str = "web:
  - {models: [tiny], platforms: [wasm, webgpu], browsers: [chromium, firefox], sequence_lengths: [8],
     warmup_iterations: 1, iterations_min: 3, iterations_max: 3, timeout_s: 120}
  - {models: [tiny], platforms: [webgpu], fallback_platforms: [wasm], sequence_lengths: [4],
     warmup_iterations: 1, iterations_min: 3, iterations_max: 3, timeout_s: 120}";
const CASES: u64 = 5;

/// A job that is timed for six seconds, and longer in all if its browsers die under it.
const LONG: &str = "web:
  - {models: [tiny], platforms: [wasm], browsers: [chromium], batch_sizes: [16], sequence_lengths: [32],
     warmup_iterations: 1, iterations_min: 10000, iterations_max: 10000, duration_s_max: 6, timeout_s: 110}";

/// Time between two looks at the pool.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A world in which browsers and a tiny model are found.
fn world_with_model() -> World {
    let world = World::new();
    let machine = support::machine_cache();
    std::os::unix::fs::symlink(machine.join("tools"), world.cache().join("tools")).expect("linked");
    if std::env::var_os("AUGUR_ORT_WEB_DIRECTORY").is_none() {
        world.set("AUGUR_ORT_WEB_DIRECTORY", &machine.join("lib/ort-web").display().to_string());
    }
    let file = world.path("tiny.onnx").display().to_string();
    world.augur(&["model", "build", "bert", "--miniature", "--output", &file]).expect(0);
    world.augur(&["model", "register", "tiny", &file]).expect(0);
    world
}

/// A browser worker that ends with its browsers, which outlive one that is killed.
struct BrowserWorker(AugurProcess);

impl BrowserWorker {
    fn start(world: &World) -> Self {
        let mut worker = Self(world.spawn("browsers", &["browsers", "start", "--name", "b1"]));
        worker.0.wait_for_line("worker ready", LIMIT).expect("ready");
        worker
    }
}

impl Drop for BrowserWorker {
    fn drop(&mut self) {
        let ended = self.0.signal(Signal::SIGTERM).and_then(|()| self.0.wait(LIMIT));
        match ended {
            Ok(status) if status.success() => {}
            _ if std::thread::panicking() => {}
            other => panic!("{other:?}: {}", self.0.stderr()),
        }
    }
}

/// The same with its browser worker, once that is ready.
fn world_with_browsers() -> (World, AugurProcess, BrowserWorker) {
    let world = world_with_model();
    let aggregator = world.aggregator();
    let browsers = BrowserWorker::start(&world);
    (world, aggregator, browsers)
}

#[test]
fn a_suite_of_web_jobs_is_measured_in_two_browsers() {
    let (world, _aggregator, browsers) = world_with_browsers();
    let run = world.submit(SUITE);
    assert_counts(&world.complete(&run), CASES, [CASES, 0, 0, 0]);
    let results = world.results(&run);
    every_result_says_where_it_ran(&results);
    the_worker_says_which_browsers_it_has(&world);
    reports_name_the_browsers(&world, &run);
    what_was_measured_is_learned_from_and_replays(&world);
    assert!(status(&world).to_string().contains("firefox"));
    drop(browsers);
    assert!(world.augur(&["browsers", "status"]).stderr.contains("no browser pool runs"));
}

fn every_result_says_where_it_ran(results: &[Value]) {
    let places: BTreeSet<_> = results.iter().map(|row| (text(row, "browser"), text(row, "platform"))).collect();
    for browser in ["chromium", "firefox"] {
        assert!(["wasm", "webgpu"].iter().all(|platform| places.contains(&(browser, platform))), "{places:?}");
    }
    for row in results {
        assert_eq!(text(row, "kind"), "web");
        let web = &row["web"];
        assert!(!text(web, "browser_version").is_empty() && row["latency_p50_ms"].as_f64() > Some(0.0), "{row:#}");
        // Where another model is in the same browser, nobody can tell whose memory it is.
        assert!(row["memory_peak_mb"].is_null() || row["memory_peak_mb"].as_f64() > Some(0.0), "{row:#}");
        if text(row, "platform") == "webgpu" {
            let on_gpu = web["nodes"].as_object().expect("nodes").iter().any(|(provider, nodes)| {
                (provider.contains("WebGpu") || provider.contains("Js")) && nodes.as_u64() > Some(0)
            });
            assert!(on_gpu && !text(web, "adapter").is_empty(), "{row:#}");
            assert!(web["is_fallback"] == Value::Bool(false) || text(row, "device").contains(" on "), "{row:#}");
        }
        assert_eq!(row["accepted"], Value::Bool(true), "{row:#}");
    }
}

fn the_worker_says_which_browsers_it_has(world: &World) {
    let workers = world.augur(&["worker", "list", "--format", "json"]).json();
    let worker = &workers.as_array().expect("a list")[0];
    let names = |field: &str| -> Vec<String> {
        worker[field].as_array().expect("a list").iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    assert!(
        ["chromium", "firefox"].iter().all(|name| names("browsers").iter().any(|found| found == name)),
        "{worker:#}"
    );
    assert!(["webgpu", "wasm"].iter().all(|name| names("platforms").iter().any(|found| found == name)), "{worker:#}");
}

fn reports_name_the_browsers(world: &World, run: &str) {
    let table = world.augur(&["run", "results", run]).expect(0);
    assert!(table.contains("webgpu in firefox") && table.contains("wasm in chromium"), "{table}");
    for (form, expected) in [("md", "webgpu in firefox"), ("csv", ",ort-web,"), ("junit", "<testsuite name=\"web\"")] {
        let report = world.augur(&["run", "report", run, "--format", form]).expect(0);
        assert!(report.contains(expected), "{form}:\n{report}");
    }
}

fn what_was_measured_is_learned_from_and_replays(world: &World) {
    let replay = ["result", "replay", "--from", "first", "--into", "fresh.duckdb", "--compare"];
    let compared = world.augur(&replay).expect(0);
    assert!(compared.contains("every table is equal"), "{compared}");
    let file = world.path("measured.csv").display().to_string();
    world.augur(&["measurement", "export", "--db", "fresh.duckdb", "--output", &file]).expect(0);
    let exported = std::fs::read_to_string(&file).expect("exported");
    assert!(exported.contains(",firefox,") && exported.contains(",chromium,"), "{exported}");
}

#[test]
fn a_job_for_a_browser_that_is_not_there_waits_and_one_that_is_cancelled_ends() {
    let (world, _aggregator, _browsers) = world_with_browsers();
    let submit = |more: &[&str]| {
        let job = ["job", "submit", "--kind", "web", "--model", "tiny", "--sequence-length", "8", "--format", "json"];
        world.augur(&[&job[..], more].concat()).json()
    };
    let waiting = submit(&["--platforms", "wasm", "--browsers", "lynx"]);
    let run = text(&waiting, "run_id").to_owned();
    world.augur(&["job", "cancel", text(&waiting, "job_id")]).expect(0);
    // Its browser may come some day; who waits need not.
    let summary = world.complete(&run);
    assert!(summary["cancelled_at"].is_string(), "{summary:#}");
    assert_eq!(["passed", "failed", "error"].map(|end| summary[end].as_u64()), [Some(0); 3], "{summary:#}");
    let either = submit(&["--platforms", "webgpu,wasm", "--browsers", "lynx,firefox", "--iterations-max", "5"]);
    let run = text(&either, "run_id").to_owned();
    assert_counts(&world.complete(&run), 1, [1, 0, 0, 0]);
    assert_eq!(text(&world.results(&run)[0], "browser"), "firefox");
}

#[test]
fn web_measurements_answer_for_browsers_and_plan_the_next() {
    let world = world_with_model();
    for (variable, value) in [
        ("AUGUR_UPDATER__ROUNDS", "50"),
        ("AUGUR_UPDATER__ENSEMBLE", "3"),
        ("AUGUR_UPDATER__ROWS_NEW_MIN", "20"),
        ("AUGUR_LEARNER__SEQUENCE_LENGTHS", "8,16,32"),
        ("AUGUR_LEARNER__THREADS", "1,2"),
    ] {
        world.set(variable, value);
    }
    let _aggregator = world.aggregator();
    let mut updater = world.updater();
    let _browsers = BrowserWorker::start(&world);
    let run = world.submit(
        "web:
  - {models: [bert-tiny], platforms: [wasm], browsers: [chromium, firefox], sequence_lengths: [8, 16, 32],
     batch_sizes: [1, 2], threads: [1, 2], warmup_iterations: 1, iterations_min: 3, iterations_max: 3, timeout_s: 120}",
    );
    assert_counts(&world.complete(&run), 24, [24, 0, 0, 0]);
    updater.wait_for_line("release made", LIMIT).expect("a release");
    predictions_are_of_browsers(&world);
    // At most half of a batch is of one model.
    let planned = world.augur(&["plan", "next", "--count", "4", "--format", "json"]).json();
    let planned = planned.as_array().expect("a list");
    assert_eq!(planned.len(), 2, "{planned:#?}");
    for row in planned {
        let configuration = text(row, "configuration");
        let browser = configuration.rsplit(' ').next().expect("words");
        assert!(configuration.contains(" wasm fp32 ") && ["chromium", "firefox"].contains(&browser), "{row:#}");
    }
    let measured = world.augur(&["plan", "next", "--count", "4", "--submit", "--wait"]).expect(0);
    assert!(measured.contains(" wasm fp32 ") && measured.contains("latency_ms"), "{measured}");
}

fn predictions_are_of_browsers(world: &World) {
    let question = ["predictor", "predict", "--model", "bert-tiny", "--batch-sizes", "3", "--sequence-length", "16"];
    let ask = |more: &[&str]| world.augur(&[&question[..], more].concat());
    let rows = ask(&["--platforms", "wasm", "--metrics", "latency_ms", "--format", "json"]).json();
    let rows = rows.as_array().expect("a list");
    let browsers: Vec<_> = rows.iter().map(|row| (text(row, "platform"), text(row, "browser"))).collect();
    assert_eq!(browsers, [("wasm", "chromium"), ("wasm", "firefox")]);
    let [chromium, firefox] = [0, 1].map(|row: usize| rows[row]["predicted"].as_f64().expect("a number"));
    assert!(chromium > 0.0 && firefox > 0.0, "{rows:#?}");
    let one = ask(&["--platforms", "wasm", "--browsers", "firefox", "--format", "json"]).json();
    assert!(one.as_array().expect("a list").iter().all(|row| row["browser"] == "firefox"), "{one:#}");
    let unknown = ask(&["--platforms", "webnn"]);
    assert!(unknown.stderr.contains("the release knows no webnn in a browser of this machine"), "{unknown:?}");
}

/// The pool's status.
fn status(world: &World) -> Value {
    world.augur(&["browsers", "status", "--format", "json"]).json()
}

/// Waits until a Chromium that is none of `earlier` has a job, and gives its process id; `None` if the run ends first.
fn browser_at_work(world: &World, run: &str, earlier: &[i64]) -> Option<i64> {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        // Not known before the aggregator has heard of it.
        let shown = world.augur(&["run", "show", run, "--format", "json"]);
        if shown.code == Some(0) && is_over(&shown.json()) {
            return None;
        }
        let status = status(world);
        let sessions = status["sessions"].as_array().expect("sessions");
        let at_work = sessions.iter().filter(|session| session["browser"] == "chromium" && has_job(session));
        let mut pids = at_work.filter_map(|session| session["pid"].as_i64());
        if let Some(pid) = pids.find(|pid| !earlier.contains(pid)) {
            return Some(pid);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    panic!("no browser works and the run does not end: {:#}", status(world));
}

fn is_over(summary: &Value) -> bool {
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

#[test]
fn a_job_whose_browser_is_killed_is_measured_at_its_first_attempt_and_counts_once() {
    let (world, _aggregator, _browsers) = world_with_browsers();
    let run = world.submit(LONG);
    let killed = browser_at_work(&world, &run, &[]).expect("the job runs");
    kill_browser(killed);
    let next = browser_at_work(&world, &run, &[killed]).expect("it goes on in another browser");
    assert_counts(&world.complete(&run), 1, [1, 0, 0, 0]);
    let results = world.results(&run);
    assert_eq!(results.len(), 1, "{results:#?}");
    assert_eq!(results[0]["attempt"], 1, "the browser's death is not charged: {:#}", results[0]);
    let recoveries = results[0]["web"]["recoveries"].as_array().expect("a list");
    let taken: Vec<&str> = recoveries.iter().filter_map(Value::as_str).collect();
    // The end of its page may be seen before its own.
    let is_expected = (1..=2).contains(&taken.len()) && taken.iter().all(|step| step.contains(" after chromium: "));
    assert!(is_expected, "{taken:?}");
    let letters = world.augur(&["dead-letter", "list", "--format", "json"]).json();
    assert_eq!(letters.as_array().map(Vec::len), Some(0), "{letters:#}");
    the_status_tells_what_happened(&world, next, taken.len() as u64);
}

fn the_status_tells_what_happened(world: &World, browser: i64, steps: u64) {
    let status = status(world);
    let counted = status["counters"]["recoveries"].as_array().expect("steps").iter();
    assert_eq!(counted.filter_map(|step| step[1].as_u64()).sum::<u64>(), steps, "{status:#}");
    assert_eq!(status["counters"]["jobs_done"], 1, "{status:#}");
    let table = world.augur(&["browsers", "status"]).expect(0);
    for part in ["jobs: 1 done, 0 failed", "recoveries: new ", "chromium", "firefox", &browser.to_string()] {
        assert!(table.contains(part), "`{part}` is not in\n{table}");
    }
}

#[test]
fn a_job_that_brings_down_three_browsers_is_a_dead_letter() {
    let (world, _aggregator, _browsers) = world_with_browsers();
    let run = world.submit(LONG);
    let mut killed = Vec::new();
    while let Some(browser) = browser_at_work(&world, &run, &killed) {
        kill_browser(browser);
        killed.push(browser);
    }
    // Two are enough where the end of a page is seen before that of its browser: each counts.
    assert!((2..=3).contains(&killed.len()), "{killed:?}");
    let summary = world.augur(&["run", "show", &run, "--format", "json"]).json();
    assert_eq!(["done", "dead", "retried"].map(|field| summary[field].as_u64()), [Some(0), Some(1), Some(0)]);
    let letters = world.augur(&["dead-letter", "list", "--run", &run, "--format", "json"]).json();
    let letters = letters.as_array().expect("a list");
    assert!(matches!(&letters[..], [letter] if letter["reason"] == "poison"), "{letters:#?}");
    assert_eq!(status(&world)["counters"]["poisoned"], 1);
}

#[test]
fn up_measures_a_suite_in_browsers_and_leaves_none_of_them() {
    let world = world_with_model();
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    world.set("AUGUR_AGGREGATOR__LISTEN", &free.to_string());
    world.set("AUGUR_AGGREGATOR_URL", &format!("http://{free}"));
    let suite = world.write("suite.yaml", &format!("version: 1\nname: test\n{SUITE}\n"));
    let up = world.augur(&["up", "--workers", "0", "--browsers", "2", "--suite", &suite, "--once"]).expect(0);
    assert!(up.contains("0 workers and a browser pool"), "{up}");
    assert!(up.contains(&format!("{CASES} of {CASES} jobs passed")), "{up}");
    let status = world.augur(&["browsers", "status"]);
    assert!(status.code != Some(0) && status.stderr.contains("no browser pool runs"), "{status:?}");
}
