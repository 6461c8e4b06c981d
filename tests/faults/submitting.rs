//! What is submitted: jobs one by one (the same one twice, for later, and how far one is), and a suite whose submission
//! dies halfway.

use std::{collections::BTreeSet, time::Duration};

use broker::AmqpUrl;
use messages::Timestamp;
use testkit::TcpProxy;

use crate::{
    delivery::eventually,
    support::{World, assert_counts, text},
};

#[test]
fn a_job_that_is_submitted_twice_under_one_key_is_one_job() {
    let world = World::new();
    let _aggregator = world.aggregator();
    let _worker = world.worker("w1", &[]);
    let submit = |key: &str, further: &[&str]| {
        let job = ["job", "submit", "--kind", "test", "--profile", "noop", "--unique-key", key];
        world.augur(&[&job[..], further].concat())
    };
    let first = submit("nightly-1", &["--wait"]).expect(0);
    let again = submit("nightly-1", &["--wait", "--format", "json"]).json();
    let (job, second_run) = (text(&again, "job_id"), text(&again, "run_id"));
    assert_eq!(first.trim_end(), format!("job {job}: passed"), "both are told of the same job");
    assert_eq!(text(&again, "status"), "passed");

    assert_counts(&world.complete(second_run), 1, [1, 0, 0, 0]);
    let shown = world.augur(&["job", "show", job, "--format", "json"]).json();
    let first_run = text(&shown, "run_id");
    assert_ne!(first_run, second_run, "the first result is the one that counts");
    assert_counts(&world.complete(first_run), 1, [1, 0, 0, 0]);
    for run in [first_run, second_run] {
        let results = world.results(run);
        let ids: Vec<_> = results.iter().map(|row| text(row, "job_id")).collect();
        assert_eq!(ids, [job], "each run shows its job");
        assert_eq!(text(&results[0], "started_at"), text(&shown, "started_at"));
    }
    let replayed = world.augur(&["result", "replay", "--from", "first", "--into", "fresh.duckdb"]).expect(0);
    assert!(replayed.contains("2 results, 1 of them new"), "{replayed}");

    let other = submit("nightly-2", &["--format", "json"]).json();
    assert_ne!(text(&other, "job_id"), job, "another key is another job");
}

#[test]
fn a_job_for_later_is_shown_as_such_and_begins_when_it_is_due() {
    const PAST: &str = "2020-01-01T00:00:00.000Z";
    let world = World::new();
    let _aggregator = world.aggregator();
    let _worker = world.worker("w1", &[]);
    let submit = |later: [&str; 2]| {
        let job = ["job", "submit", "--kind", "test", "--profile", "noop", "--format", "json"];
        text(&world.augur(&[&job[..], &later].concat()).json(), "run_id").to_owned()
    };
    let soon = Timestamp::from_micros(Timestamp::now().as_micros() + 3_000_000).to_string();
    let runs = [["--at", soon.as_str()], ["--delay", "3s"], ["--at", PAST]].map(submit);
    let due = runs.map(|run| {
        let due_at = |shown: &str| -> Option<String> {
            shown.lines().find_map(|line| line.strip_prefix("not to begin before ")).map(str::to_owned)
        };
        let due = eventually(|| due_at(&world.augur(&["run", "show", &run]).stdout));
        assert_counts(&world.complete(&run), 1, [1, 0, 0, 0]);
        let results = world.results(&run);
        let started = text(&results[0], "started_at");
        assert!(due.as_str() <= started, "due at {due}, started at {started}");
        assert_eq!(results[0]["attempt"], 1, "waiting is no attempt");
        due
    });
    assert_eq!([due[0].as_str(), due[2].as_str()], [soon.as_str(), PAST], "what is past begins at once");
    assert!(due[1] >= soon, "{} is less than 3 s behind the submission, which came after that of {soon}", due[1]);
}

#[test]
fn a_suite_whose_submission_is_killed_halfway_is_submitted_again_and_each_job_counts_once() {
    const RUN: &str = "0190b5a0-0000-7000-8000-000000000002";
    /// With the held one more than may be published before the first confirm.
    const NOTHINGS: u64 = 3_500;
    const JOBS: u64 = NOTHINGS + 1;
    /// Longer than it takes the first job to start: until a confirm has come back, only a part can be there.
    const DELAY: Duration = Duration::from_millis(100);
    let world = World::new();
    let _aggregator = world.aggregator();
    let _worker = world.worker("w1", &["--concurrency", "20", "--prefetch", "200"]);
    let cases = format!(
        "  - {{name: held, profile: hold, method: held, priority: high}}\n  \
         - {{name: nothing, profile: noop, repeat: {NOTHINGS}}}\n"
    );
    let file = world.write("killed.yaml", &format!("version: 1\nname: killed\ntests:\n{cases}"));
    let submit = ["suite", "submit", &file, "--run-id", RUN];

    let url: AmqpUrl = world.url().parse().expect("a URL");
    let proxy = TcpProxy::start_at(world.node().0.port()).expect("a proxy");
    proxy.delay(DELAY);
    world.set("AUGUR_AMQP_URL", &proxy.url_through(&url).reveal());
    let mut submitting = world.spawn("submit", &submit);
    world.holds().next();
    submitting.kill().expect("killed");
    drop(proxy);
    world.set("AUGUR_AMQP_URL", world.url());

    assert_eq!(world.augur(&submit).expect(0).trim(), RUN);
    // Behind everything that was submitted before, what came twice included.
    let last = world.submit("tests: [{name: last, profile: noop}]");
    world.holds().let_go(1);
    assert_counts(&world.complete(&last), 1, [1, 0, 0, 0]);
    assert_counts(&world.complete(RUN), JOBS, [JOBS, 0, 0, 0]);
    let results = world.results(RUN);
    let jobs: BTreeSet<_> = results.iter().map(|row| text(row, "job_id")).collect();
    assert_eq!((results.len() as u64, jobs.len() as u64), (JOBS, JOBS));
    let runs = world.augur(&["run", "list", "--format", "json"]).json();
    assert_eq!(runs.as_array().map(Vec::len), Some(2), "it is one run: {runs:#}");
}
