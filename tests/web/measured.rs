//! What web jobs bring: results that say where they ran, reports, releases, predictions for browsers.

use std::{collections::BTreeSet, net::TcpListener};

use serde_json::Value;
use testkit::BrowserProcesses;

use crate::{
    BrowserWorker, CASES, SUITE, status,
    support::{LIMIT, World, assert_counts, text},
    world_with_browsers, world_with_model,
};

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
    a_job_for_a_browser_that_is_not_there_waits_and_one_that_is_cancelled_ends(&world);
    let mut processes = BrowserProcesses::of_pool(&world.path("state/browsers")).expect("a pool is here");
    assert!(!processes.alive().is_empty());
    drop(browsers);
    assert_eq!(processes.alive(), BTreeSet::new(), "processes are left");
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

fn a_job_for_a_browser_that_is_not_there_waits_and_one_that_is_cancelled_ends(world: &World) {
    let submit = |more: &[&str]| {
        let job = ["job", "submit", "--kind", "web", "--model", "tiny", "--sequence-length", "8", "--format", "json"];
        world.augur(&[&job[..], more].concat()).json()
    };
    let waiting = submit(&["--platforms", "wasm", "--browsers", "lynx"]);
    let run = text(&waiting, "run_id").to_owned();
    world.augur(&["job", "cancel", text(&waiting, "job_id")]).expect(0);
    // Whoever waits is told at once, whether or not the worker has heard of it yet.
    let waited = world.augur(&["run", "wait", &run]);
    assert_eq!(waited.code, Some(1), "{waited:?}");
    let summary = world.augur(&["run", "show", &run, "--format", "json"]).json();
    assert!(!summary["cancelled_at"].is_null(), "{summary:#}");
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
        ("AUGUR_UPDATER__ROWS_NEW_MIN", "32"),
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
     batch_sizes: [1, 2], threads: [1, 2], warmup_iterations: 1, iterations_min: 3, iterations_max: 3, timeout_s: 120}
  - {models: [bert-tiny], platforms: [webgpu], browsers: [chromium, firefox], sequence_lengths: [8, 16],
     batch_sizes: [1, 2], warmup_iterations: 1, iterations_min: 3, iterations_max: 3, timeout_s: 120}",
    );
    assert_counts(&world.complete(&run), 32, [32, 0, 0, 0]);
    updater.wait_for_line("release made", LIMIT).expect("a release");
    predictions_are_of_browsers(&world);
    // At most half of a batch is of one model.
    let planned = world.augur(&["plan", "next", "--count", "4", "--format", "json"]).json();
    let planned = planned.as_array().expect("a list");
    assert_eq!(planned.len(), 2, "{planned:#?}");
    for row in planned {
        let configuration = text(row, "configuration");
        let browser = configuration.rsplit(' ').next().expect("words");
        assert!(configuration.contains(" fp32 ") && ["chromium", "firefox"].contains(&browser), "{row:#}");
    }
    let measured = world.augur(&["plan", "next", "--count", "4", "--submit", "--wait"]).expect(0);
    assert!(measured.contains(" fp32 ") && measured.contains("latency_ms"), "{measured}");
}

fn predictions_are_of_browsers(world: &World) {
    let question = ["predictor", "predict", "--model", "bert-tiny", "--batch-sizes", "3", "--sequence-length", "16"];
    let ask = |more: &[&str]| world.augur(&[&question[..], more].concat());
    let rows = ask(&["--platforms", "wasm,webgpu", "--metrics", "latency_ms", "--format", "json"]).json();
    let rows = rows.as_array().expect("a list");
    let places: BTreeSet<_> = rows.iter().map(|row| (text(row, "platform"), text(row, "browser"))).collect();
    let each = |platform| [(platform, "chromium"), (platform, "firefox")];
    assert_eq!((rows.len(), places), (4, [each("wasm"), each("webgpu")].into_iter().flatten().collect()));
    assert!(rows.iter().all(|row| row["predicted"].as_f64() > Some(0.0)), "{rows:#?}");
    let one = ask(&["--platforms", "wasm", "--browsers", "firefox", "--format", "json"]).json();
    assert!(one.as_array().expect("a list").iter().all(|row| row["browser"] == "firefox"), "{one:#}");
    let unknown = ask(&["--platforms", "webnn"]);
    assert!(unknown.stderr.contains("the release knows no webnn in a browser of this machine"), "{unknown:?}");
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
