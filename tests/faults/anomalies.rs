//! Measurements that cannot be, runs that are slower than those before, and predictions that hold less and less.

use broker::{AmqpUrl, Outgoing, Patience, Publisher, Start, Subscription};
use messages::{
    AcceptedMeasurement, Job, JobId, JobResult, JobSpec, LatencySummary, Outcome, Prediction, ReleaseId, RunRef, encode,
};
use serde_json::Value;
use testkit::builders;
use tokio_util::sync::CancellationToken;
use topology::names;

use crate::support::{LIMIT, World, assert_counts, block_on, text};

/// The sample benchmark as job `number` of a run of so many, every iteration of which took so long.
fn measured(number: u64, (run, jobs_total): (u64, u32), ms: f64) -> JobResult {
    let run = RunRef { run_id: builders::run_id(run), jobs_total, ..builders::run_ref() };
    let mut outcome = builders::benchmark_outcome();
    outcome.latency_ms = LatencySummary { mean: ms, p50: ms, p90: ms, p99: ms, iterations: vec![ms; 10] };
    JobResult {
        job: Job { job_id: builders::job_id(number), run, ..builders::benchmark_job() },
        outcome: Outcome::Benchmark(Box::new(outcome)),
        ..builders::job_result()
    }
}

/// The same, submitted and measured in that hour.
fn in_hour(hour: u64, mut result: JobResult) -> JobResult {
    let second = 3_600 * i64::try_from(hour).expect("few");
    result.job.submitted_at = builders::time(second);
    (result.started_at, result.finished_at) = (builders::time(second + 3), builders::time(second + 5));
    result
}

fn publish(url: &AmqpUrl, results: &[JobResult]) {
    block_on(async {
        let publisher = Publisher::start(url, "test", Patience::For(LIMIT), CancellationToken::new()).await;
        let publisher = publisher.expect("a broker");
        for result in results {
            let message = encode(result).expect("small");
            let outgoing = Outgoing::new(names::RESULTS, "", result.job.job_id.to_string(), message);
            publisher.publish(outgoing).await.expect("stored");
        }
    });
}

/// The jobs whose measurements went to the predictors, up to that of `last`.
fn fed(url: &AmqpUrl, last: JobId) -> Vec<JobId> {
    block_on(async {
        let (stop, patience) = (CancellationToken::new(), Patience::For(LIMIT));
        let subscribed =
            Subscription::start(url, "test", names::MEASUREMENTS, Start::StreamFirst, 100, patience, &stop).await;
        let mut subscription = subscribed.expect("a broker");
        let mut jobs = Vec::new();
        while jobs.last() != Some(&last) {
            let delivery = subscription.next().await.expect("a measurement");
            jobs.push(delivery.decode::<AcceptedMeasurement>().expect("decodes").job_id);
        }
        jobs
    })
}

#[test]
fn a_poisoned_measurement_teaches_nothing_until_it_is_released_and_then_once() {
    let world = World::new();
    let url: AmqpUrl = world.url().parse().expect("a URL");
    let mut aggregator = world.aggregator();
    let (run, jobs) = (builders::run_id(1).to_string(), [1, 2, 3, 4].map(builders::job_id));
    let poisoned = [measured(1, (1, 2), 0.0), measured(2, (1, 2), 1e9)];
    publish(&url, &poisoned);

    let shown = world.complete(&run);
    assert_counts(&shown, 2, [2, 0, 0, 0]);
    let held_back = shown["held_back"].as_array().expect("a list");
    let [zero, ages] = &held_back[..] else { panic!("both are held back: {shown:#}") };
    assert_eq!((text(zero, "standing"), text(zero, "reason")), ("quarantined", "its mean latency is 0"));
    assert_eq!(text(ages, "reason"), "its iterations took 10000000000 ms in all, and its job may take 60000 ms");
    let listed = world.augur(&["measurement", "quarantine", "list", "--run", &run, "--format", "json"]).json();
    assert_eq!(&listed, &shown["held_back"]);
    for command in ["results", "show"] {
        let table = world.augur(&["run", command, &run]).expect(0);
        assert_eq!(table.matches("quarantined").count(), 2, "{table}");
    }

    // The aggregator dies right behind the commit, before anything is published.
    aggregator.kill().expect("killed");
    drop(aggregator);
    world.set("AUGUR_TEST_FAILPOINT", "aggregator-after-commit:1");
    let mut aggregator = world.aggregator();
    let job = jobs[0].to_string();
    let release = ["measurement", "quarantine", "release", &job];
    let released = world.augur(&[&release[..], &["--dry-run"]].concat());
    assert!(released.stderr.contains("1 measurements would be released"), "{released:?}");
    assert!(world.augur(&release).stderr.contains("1 measurements released; 0 had been released before"));
    assert!(!aggregator.wait(LIMIT).expect("an end").success());
    drop(aggregator);
    world.set("AUGUR_TEST_FAILPOINT", "");

    let _aggregator = world.aggregator();
    assert!(world.augur(&release).stderr.contains("0 measurements released; 1 had been released before"));
    publish(&url, &poisoned);
    let plausible = [measured(3, (2, 2), 55.0), measured(4, (2, 2), 55.0)];
    publish(&url, &plausible);
    world.complete(&builders::run_id(2).to_string());
    assert_eq!(fed(&url, jobs[3]), [jobs[0], jobs[2], jobs[3]], "each once, and not the other poisoned one");
    let standing = world.augur(&["job", "show", &job, "--format", "json"]).json();
    assert!(standing.to_string().contains("\"standing\":\"released\""), "{standing:#}");

    let refused = world.augur(&["measurement", "quarantine", "release", &jobs[2].to_string()]);
    assert!(refused.stderr.contains("is not in quarantine, it is accepted"), "{refused:?}");
    let compared = ["result", "replay", "--from", "first", "--into", "fresh.duckdb", "--compare"];
    assert!(world.augur(&compared).expect(0).contains("every table is equal"));
}

#[test]
fn a_run_that_is_slower_than_those_before_is_said_as_soon_as_it_ends() {
    const REPEATS: u32 = 10;
    let world = World::new();
    let url: AmqpUrl = world.url().parse().expect("a URL");
    let mut aggregator = world.aggregator();
    // Repeats differ by a thousandth.
    let repeats = |run: u64, ms: f64| -> Vec<JobResult> {
        let repeat = |index: u32| {
            let number = 100 * run + u64::from(index);
            in_hour(run, measured(number, (run, REPEATS), ms * (1.0 + 0.001 * f64::from(index))))
        };
        (0..REPEATS).map(repeat).collect()
    };
    let [before, same, slower, disturbed] = [1, 2, 3, 4].map(|run| builders::run_id(run).to_string());
    publish(&url, &repeats(1, 55.0));
    world.complete(&before);
    publish(&url, &repeats(2, 55.0));
    aggregator.wait_for_line("run compared", LIMIT).expect("it was measured before");
    publish(&url, &repeats(3, 66.0));
    let warning = aggregator.wait_for_line("regression found", LIMIT).expect("a warning");
    assert!(
        warning.contains(&slower) && warning.contains("resnet50 cpu fp32 batch 4 image 224 threads 2"),
        "{warning}"
    );

    let judged = |run: &str| world.augur(&["run", "show", run, "--format", "json"]).json()["judgement"].clone();
    assert_eq!((&judged(&same)["compared"], &judged(&same)["regressions"]), (&1.into(), &serde_json::json!([])));
    let found = &judged(&slower)["regressions"][0];
    assert!(found["difference_pct"].as_f64().is_some_and(|pct| (19.0..21.0).contains(&pct)), "{found:#}");
    let table = world.augur(&["run", "show", &slower]).expect(0);
    assert!(table.contains("regressions:") && table.contains("+20.0 %"), "{table}");

    let compare = |run: &str| world.augur(&["run", "compare", run, &before, "--all", "--format", "json"]);
    let compared = |answer: &str| serde_json::from_str::<Value>(answer).expect("JSON")["compared"].clone();
    let found = compared(&compare(&slower).expect(1));
    assert_eq!((found.as_array().map(Vec::len), &found[0]["verdict"]), (Some(1), &"regression".into()), "{found:#}");
    assert!(found[0]["difference_pct"].as_f64().is_some_and(|pct| (19.0..21.0).contains(&pct)), "{found:#}");
    assert_eq!(compared(&compare(&same).expect(0))[0]["verdict"], "same");

    // Half of these took longer than their job may: in quarantine they are no repeats.
    let [good, poisoned] = [repeats(4, 55.0), repeats(4, 7_000.0)].map(|results| results.into_iter().enumerate());
    let halves = good.filter(|(index, _)| index % 2 == 0).chain(poisoned.filter(|(index, _)| index % 2 == 1));
    publish(&url, &halves.map(|(_, result)| result).collect::<Vec<_>>());
    assert_eq!(world.complete(&disturbed)["held_back"].as_array().map(Vec::len), Some(5));
    let found = compared(&compare(&disturbed).expect(0));
    assert_eq!((&found[0]["verdict"], &found[0]["run_repeats"]), (&"same".into(), &5.into()), "{found:#}");
}

#[test]
fn predictions_that_hold_less_and_less_are_drift_of_their_family_and_release() {
    const PREDICTIONS: u32 = 12;
    let world = World::new();
    let url: AmqpUrl = world.url().parse().expect("a URL");
    let _aggregator = world.aggregator();
    // What one release says of ResNets holds less every hour; what another says of MobileNets is always as good.
    let predicted = |run: u64, model: &str, release: &str, off: fn(u32) -> f64| -> Vec<JobResult> {
        let result = |index: u32| {
            let said = Prediction { release_id: ReleaseId::parse(release).expect("an id"), ..builders::prediction() };
            let number = 100 * run + u64::from(index);
            let ms = said.metrics[0].value * off(index);
            let mut result = in_hour(u64::from(index), measured(number, (run, PREDICTIONS), ms));
            if let JobSpec::Benchmark(spec) = &mut result.job.spec {
                spec.configuration.model = builders::model(model);
                spec.prediction = Some(said);
            }
            result
        };
        (0..PREDICTIONS).map(result).collect()
    };
    publish(&url, &predicted(1, "resnet50", "r000001-aaaa", |index| 1.0 + 0.05 * f64::from(index)));
    publish(&url, &predicted(2, "mobilenet-v2", "r000002-bbbb", |index| 1.02 + 0.001 * f64::from(index * 5 % 12)));
    for run in [1, 2] {
        world.complete(&builders::run_id(run).to_string());
    }
    let shown = world.augur(&["predictor", "drift", "--format", "json"]).expect(1);
    let rows: Vec<Value> = serde_json::from_str(&shown).expect("a list");
    let worse = |by: &str, group: &str| {
        let row = rows.iter().find(|row| text(row, "by") == by && text(row, "group") == group);
        row.unwrap_or_else(|| panic!("no {by} {group} in {shown}"))["worse"].as_bool().expect("a bool")
    };
    assert!(worse("release", "r000001-aaaa") && worse("family", "resnet"), "{shown}");
    assert!(!worse("release", "r000002-bbbb") && !worse("family", "mobilenet"), "{shown}");
    assert_eq!(rows.iter().filter(|row| text(row, "by") == "platform").count(), 1, "{shown}");

    let steady = ["predictor", "drift", "--metric", "memory_peak_mb", "--format", "json"];
    let rows = world.augur(&steady).json();
    assert_eq!((rows.as_array().map(Vec::len), &rows[0]["predictions"]), (Some(6), &24.into()), "{rows:#}");
}
