//! The whole way of a job, small: topology, daemons, suite, results, release, prediction, plan, learner, report, replay.

mod support;

use std::collections::BTreeSet;

use broker::{Patience, Publisher};
use messages::Origin;
use pipeline::{RunContext, Submission, Suite};
use serde_json::Value;
use testkit::{AugurProcess, shared_vhost};
use tokio_util::sync::CancellationToken;

use crate::support::{LIMIT, World, assert_counts, block_on, text};

/// Benchmarks of the suite; a release needs at least 20.
const BENCHMARKS: u64 = 26;
const SUITE: &str = "benchmarks:
  - {models: [mobilenet-v2], batch_sizes: [1, 2, 4], image_sizes: [64, 80, 96, 128], threads: [1, 2],
     warmup_iterations: 1, iterations_min: 3, iterations_max: 6, duration_s_max: 0.2}
  - {models: [whisper-tiny], threads: [1, 2], warmup_iterations: 0, iterations_min: 2, iterations_max: 2}";
/// What is predicted first: two jobs of a suite, one of its own, three planned, two of the learner.
const PREDICTED: usize = 2 + 1 + 3 + 2;
/// Jobs behind those of the first suite: two are asked not to be predicted.
const FURTHER: usize = PREDICTED + 2;

#[test]
fn a_suite_becomes_a_predictor_that_plans_the_next_benchmarks() {
    let vhost = shared_vhost().expect("a virtual host");
    let world = World::bare(&vhost.url(), Some(vhost));
    // Small boosters, and one release from the whole suite.
    for (variable, value) in [
        ("AUGUR_UPDATER__ROUNDS", "50"),
        ("AUGUR_UPDATER__ENSEMBLE", "3"),
        ("AUGUR_UPDATER__ROWS_NEW_MIN", "20"),
        // The rest of the suite makes no second release while the first one is looked at.
        ("AUGUR_UPDATER__QUIET_S", "60"),
        ("AUGUR_LEARNER__BATCH_SIZES", "1,2,3"),
        ("AUGUR_LEARNER__THREADS", "1,2"),
    ] {
        world.set(variable, value);
    }
    world.augur(&["topology", "apply"]).expect(0);
    let _aggregator = world.aggregator();
    let mut updater = world.updater();
    let _worker = world.worker("w1", &[]);

    let run = world.submit(SUITE);
    assert_counts(&world.complete(&run), BENCHMARKS, [BENCHMARKS, 0, 0, 0]);
    report_has_every_form(&world, &run);
    a_release_predicts_what_nobody_measured(&world, &mut updater);
    a_suite_is_predicted_before_it_is_measured(&world);
    what_was_predicted_is_measured(&world);
    planned_benchmarks_run(&world);
    the_stream_has_each_job_once(&world);
    a_run_is_compared_and_predictions_are_held_against_time(&world, &run);
}

fn report_has_every_form(world: &World, run: &str) {
    for (form, expected) in [
        ("html", "<!doctype html>"),
        ("json", "\"jobs_total\": 26"),
        ("md", "| mobilenet-v2"),
        ("csv", "mobilenet-v2,"),
        ("junit", "<testsuite "),
    ] {
        let report = world.augur(&["run", "report", run, "--format", form]).expect(0);
        assert!(report.to_lowercase().contains(expected), "{form}:\n{report}");
    }
    let file = world.path("report.html");
    let into_file = ["run", "report", run, "--format", "html", "--output", file.to_str().expect("text")];
    assert_eq!(world.augur(&into_file).expect(0), "");
    assert!(file.is_file());
}

fn a_release_predicts_what_nobody_measured(world: &World, updater: &mut AugurProcess) {
    let release = updater.wait_for_line("release made", LIMIT).expect("a release");
    let shown = world.augur(&["predictor", "show", "--format", "json"]).json();
    assert!(release.contains(text(&shown, "release")), "{release}");
    assert_eq!((&shown["is_current"], shown["training_rows"].as_u64() >= Some(20)), (&Value::Bool(true), true));
    // Which number of threads was measured most is a matter of which jobs the first release has.
    let shape = ["--batch-sizes", "3", "--image-size", "112", "--threads", "1"];
    let arguments = [&["predictor", "predict", "--model", "mobilenet-v2"], &shape[..]].concat();
    let predicted = world.augur(&[&arguments[..], &["--format", "json"]].concat()).json();
    let metrics = predicted.as_array().expect("a list");
    let names: Vec<_> = metrics.iter().map(|row| text(row, "metric")).collect();
    assert_eq!(names, ["latency_ms", "throughput_items_per_second", "memory_peak_mb"]);
    for row in metrics {
        let [lower, value, upper] = ["lower", "predicted", "upper"].map(|field| row[field].as_f64().expect("a number"));
        assert!(0.0 < lower && lower <= value && value <= upper, "{row:#}");
    }
    let table = world.augur(&arguments).expect(0);
    assert!(table.contains("batch 3 image 112 threads 1 onnxruntime") && table.contains(" fp32"), "{table}");
}

fn a_suite_is_predicted_before_it_is_measured(world: &World) {
    let suite = "version: 1\nname: predicted\nbenchmarks:
  - {models: [mobilenet-v2], batch_sizes: [3], image_sizes: [80], repeat: 2, iterations_min: 3, iterations_max: 6}";
    let file = world.write("predicted.yaml", suite);
    let errors_of_jobs = |arguments: &[&str]| -> Vec<usize> {
        let submitted = world.augur(&[&["suite", "submit", &file], arguments].concat());
        assert!(!submitted.stderr.contains("predicted"), "{submitted:?}");
        let run = submitted.expect(0).trim().to_owned();
        world.complete(&run);
        let errors = |job: &Value| {
            let predictions = job["predictions"].as_array().expect("a list").iter();
            predictions.filter(|of| of["error_pct"].is_number()).count()
        };
        world.results(&run).iter().map(errors).collect()
    };
    assert_eq!(errors_of_jobs(&[]), [3, 3], "each of the metrics of each job");
    assert_eq!(errors_of_jobs(&["--no-predict"]), [0, 0]);
}

fn what_was_predicted_is_measured(world: &World) {
    let table = world
        .augur(&[
            "job",
            "submit",
            "--kind",
            "benchmark",
            "--model",
            "mobilenet-v2",
            "--batch-size",
            "3",
            "--image-size",
            "112",
            "--iterations-max",
            "6",
            "--wait",
        ])
        .expect(0);
    for part in ["predicted", "90 % interval", "measured", "latency_ms", "memory_peak_mb", ": passed"] {
        assert!(table.contains(part), "`{part}` is not in\n{table}");
    }
}

fn planned_benchmarks_run(world: &World) {
    let proposals = world.augur(&["plan", "next", "--count", "3", "--format", "json"]).json();
    for (proposal, order) in proposals.as_array().expect("a list").iter().zip(1..=3) {
        let number = |field: &str| proposal[field].as_f64().unwrap_or_else(|| panic!("no `{field}`: {proposal:#}"));
        let [lower, predicted, upper] = ["lower", "predicted_latency_ms", "upper"].map(number);
        assert!(0.0 < lower && lower <= predicted && predicted <= upper, "{proposal:#}");
        assert!(number("expected_seconds") > 0.0 && number("information_gain_pct") > 0.0, "{proposal:#}");
        assert!((0.0..=1.0).contains(&number("score")) && number("spread_log") >= 0.0, "{proposal:#}");
        // Not as before the first release, of which nothing is predicted.
        let why = text(proposal, "why");
        assert!(why.starts_with("stands for many of ") && why.ends_with("of which little is measured"), "{why}");
        assert_eq!((&proposal["selection_order"], text(proposal, "device").is_empty()), (&Value::from(order), false));
    }
    assert_eq!(proposals.as_array().map(Vec::len), Some(3), "{proposals:#}");
    let planned = world.augur(&["plan", "next", "--count", "3", "--submit", "--wait"]);
    assert!(planned.stderr.contains("release r"), "{planned:?}");
    let table = planned.expect(0);
    // Three proposals, at most two of one model, then each of the three metrics of each, predicted and measured.
    assert_eq!(table.matches(" cpu fp32 ").count(), 3 + 3 * 3, "{table}");
    let learned = world.augur(&["learner", "start", "--batch", "2", "--budget", "2"]).expect(0);
    assert!(learned.contains("2 of 2 proposed jobs were measured"), "{learned}");
}

fn a_run_is_compared_and_predictions_are_held_against_time(world: &World, run: &str) {
    let compared = world.augur(&["run", "compare", run, run, "--format", "json"]).json();
    assert_eq!(compared["compared"].as_array().map(Vec::len), usize::try_from(BENCHMARKS).ok());
    assert_eq!((&compared["regressions"], &compared["improvements"]), (&Value::from(0), &Value::from(0)));
    let drift = world.augur(&["predictor", "drift", "--format", "json"]).json();
    let on_cpu = drift.as_array().expect("a list").iter().find(|row| text(row, "group") == "cpu");
    assert_eq!(on_cpu.map(|row| &row["predictions"]), Some(&Value::from(PREDICTED)), "{drift:#}");
}

fn the_stream_has_each_job_once(world: &World) {
    let lines = world.augur(&["result", "replay", "--from", "first", "--format", "json"]).expect(0);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect();
    let jobs: BTreeSet<_> = lines.iter().map(|line| text(line, "job_id")).collect();
    assert_eq!(jobs.len(), usize::try_from(BENCHMARKS).expect("few") + FURTHER);
    assert_eq!(lines.len(), jobs.len(), "each job once");
    for run in lines.iter().map(|line| text(line, "run_id")).collect::<BTreeSet<_>>() {
        world.complete(run);
    }
    let replay = ["result", "replay", "--from", "first", "--into", "fresh.duckdb", "--compare"];
    let compared = world.augur(&replay).expect(0);
    assert!(compared.contains("every table is equal"), "{compared}");
}

#[test]
fn before_the_first_measurement_the_plan_is_representative_and_waits_for_a_worker() {
    // The learner waited for a first release that nothing would ever lead to, and queued what nobody would take.
    let world = World::new();
    let _aggregator = world.aggregator();
    for (variable, value) in [
        ("AUGUR_LEARNER__MODELS", "mobilenet-v2"),
        ("AUGUR_LEARNER__BATCH_SIZES", "1,2,3"),
        ("AUGUR_LEARNER__THREADS", "1"),
    ] {
        world.set(variable, value);
    }
    let planned = world.augur(&["plan", "next", "--count", "4", "--submit"]);
    assert!(planned.stderr.contains("no release yet, so the design is representative"), "{planned:?}");
    assert!(planned.stderr.contains("nothing was submitted: no live worker takes cpu; none is live"), "{planned:?}");
    assert_eq!(planned.expect(1).matches("mobilenet-v2 cpu fp32").count(), 2, "at most half of one model");

    let constraints = world.path("constraints.yaml");
    let file = constraints.to_str().expect("text");
    std::fs::write(&constraints, "version: 1\nplatforms: {cpu: {max: 1}}\nmodel_max: 3").expect("written");
    let rows = world.augur(&["plan", "next", "--constraints", file, "--format", "json"]).json();
    let [proposal] = &rows.as_array().expect("a list")[..] else { panic!("one on cpu: {rows:#}") };
    assert_eq!((&proposal["selection_order"], &proposal["predicted_latency_ms"]), (&Value::from(1), &Value::Null));
    assert!(["lower", "upper"].iter().all(|end| proposal.get(end) == Some(&Value::Null)), "{proposal:#}");
    let number = |field: &str| proposal[field].as_f64().unwrap_or_else(|| panic!("no number `{field}`: {proposal:#}"));
    assert!(number("information_gain_pct") >= 0.0 && number("expected_seconds") > 0.0, "{proposal:#}");
    assert!(proposal["parts"]["representative"].is_number() && text(proposal, "why").contains("stands for many"));
    std::fs::write(&constraints, "version: 1\nplatforms: {abacus: {max: 1}}").expect("written");
    let refused = world.augur(&["plan", "next", "--constraints", file]);
    assert!(refused.stderr.contains("abacus"), "{refused:?}");
    refused.expect(2);

    let refused = world.augur(&["job", "submit", "--kind", "benchmark", "--model", "mobilenet-v2", "--predict"]);
    assert!(refused.stderr.contains("there is no release of predictors yet"), "{refused:?}");
    refused.expect(2);
}

#[test]
fn a_release_that_cannot_be_used_keeps_nothing_from_being_measured() {
    let world = World::new();
    std::fs::create_dir_all(world.path("state/releases")).expect("a directory");
    std::fs::write(world.path("state/releases/current"), "no such name!\n").expect("written");
    let submitted = |cases: &str| {
        let file = world.write("suite.yaml", &format!("version: 1\nname: test\n{cases}"));
        let answer = world.augur(&["suite", "submit", &file]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        answer.stderr
    };
    let told = submitted("benchmarks:\n  - {models: [mobilenet-v2], image_sizes: [64]}");
    assert!(told.starts_with("nothing is predicted of the benchmarks: ") && told.lines().count() == 1, "{told}");
    assert_eq!(submitted("tests:\n  - {name: nothing, profile: noop}"), "", "of tests nobody would predict anything");
}

#[test]
fn the_topology_is_planned_applied_and_checked() {
    let vhost = shared_vhost().expect("a virtual host");
    let (node, name) = (vhost.node(), vhost.name().to_owned());
    let world = World::bare(&vhost.url(), Some(vhost));
    let plan = world.augur(&["topology", "plan"]).expect(0);
    assert!(plan.contains("+ queue     jobs.cpu.normal ") && plan.contains(" 0 as declared"), "{plan}");
    assert_eq!(world.augur(&["topology", "apply", "--dry-run"]).expect(0), plan, "a dry run is a plan");
    world.augur(&["topology", "check"]).expect(1);

    world.augur(&["topology", "apply"]).expect(0);
    let plan = world.augur(&["topology", "plan"]).expect(0);
    assert!(plan.contains("plan: 0 to create") && plan.contains(" 0 different"), "{plan}");
    world.augur(&["topology", "check"]).expect(0);

    node.ctl(&["delete_queue", "-p", &name, "jobs.cuda.low"]).expect("deleted");
    let checked = world.augur(&["topology", "check"]).expect(1);
    assert!(checked.contains("+ queue     jobs.cuda.low ") && checked.contains("plan: 1 to create"), "{checked}");
}

#[test]
fn a_run_can_be_waited_for_before_the_database_knows_it() {
    // `run wait` right behind `suite submit` was refused: the aggregator had not committed the news of the run yet.
    let world = World::new();
    let _aggregator = world.aggregator();
    let _worker = world.worker("w1", &[]);
    let suite = "version: 1\nname: test\ntests:\n  - {name: nothing, profile: noop}";
    let suite = Suite::parse("suite.yaml", suite).expect("a suite");
    let submission = Submission::new(suite, Origin::Client, RunContext::default());
    let mut waiting = world.spawn("waiting", &["run", "wait", &submission.run.run_id.to_string()]);
    block_on(async {
        let url = world.url().parse().expect("a URL");
        let publisher = Publisher::start(&url, "test", Patience::For(LIMIT), CancellationToken::new()).await;
        pipeline::submit(&publisher.expect("a broker"), &submission).await.expect("stored");
    });
    assert_eq!(waiting.wait(LIMIT).expect("an end").code(), Some(0), "{}", waiting.stderr());
}
