//! Web jobs in real browsers, from a suite to the database and back out.
//!
//! The browsers and their drivers must be installed (`make setup`): a missing one is a failure, not a skipped test.

mod support;

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
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

/// A world with browsers and a tiny model, and its browser worker once that is ready.
fn world_with_browsers() -> (World, AugurProcess, AugurProcess) {
    let world = World::new();
    let machine = support::machine_cache();
    std::os::unix::fs::symlink(machine.join("tools"), world.cache().join("tools")).expect("linked");
    if std::env::var_os("AUGUR_ORT_WEB_DIRECTORY").is_none() {
        world.set("AUGUR_ORT_WEB_DIRECTORY", &machine.join("lib/ort-web").display().to_string());
    }
    let file = world.path("tiny.onnx").display().to_string();
    world.augur(&["model", "build", "bert", "--miniature", "--output", &file]).expect(0);
    world.augur(&["model", "register", "tiny", &file]).expect(0);
    let aggregator = world.aggregator();
    let mut browsers = world.spawn("browsers", &["browsers", "start", "--name", "b1"]);
    browsers.wait_for_line("worker ready", LIMIT).expect("ready");
    (world, aggregator, browsers)
}

#[test]
fn a_suite_of_web_jobs_is_measured_in_two_browsers() {
    let (world, _aggregator, mut browsers) = world_with_browsers();
    let run = world.submit(SUITE);
    assert_counts(&world.complete(&run), CASES, [CASES, 0, 0, 0]);
    let results = world.results(&run);
    every_result_says_where_it_ran(&results);
    the_worker_says_which_browsers_it_has(&world);
    reports_name_the_browsers(&world, &run);
    what_was_measured_is_learned_from_and_replays(&world);
    let status = world.augur(&["browsers", "status", "--format", "json"]).json();
    assert!(status.to_string().contains("firefox"), "{status:#}");
    browsers.signal(Signal::SIGTERM).expect("it runs");
    assert_eq!(browsers.wait(LIMIT).expect("an end").code(), Some(0), "{}", browsers.stderr());
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
    assert_counts(&world.complete(&run), 1, [0, 0, 0, 1]);
    let either = submit(&["--platforms", "webgpu,wasm", "--browsers", "lynx,firefox", "--iterations-max", "5"]);
    let run = text(&either, "run_id").to_owned();
    assert_counts(&world.complete(&run), 1, [1, 0, 0, 0]);
    assert_eq!(text(&world.results(&run)[0], "browser"), "firefox");
}
