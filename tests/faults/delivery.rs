//! Retries, dead letters, claims, capabilities: a job's way when something is in it.

use messages::Timestamp;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{LIMIT, World, assert_counts, text};

/// A number of a JSON object.
#[track_caller]
fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_else(|| panic!("no number `{field}` in {value:#}"))
}

/// The attempts of a job, oldest first.
#[track_caller]
fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().unwrap_or_else(|| panic!("no list `{field}` in {value:#}"))
}

fn dead_letters(world: &World) -> Vec<Value> {
    match world.augur(&["dead-letter", "list", "--format", "json"]).json() {
        Value::Array(letters) => letters,
        other => panic!("{other} is no list"),
    }
}

/// Asks again until the aggregator has heard what the test waits for; each question starts a process.
#[track_caller]
pub(crate) fn eventually<T>(ask: impl FnMut() -> Option<T>) -> T {
    const QUESTIONS_MAX: usize = 1_000;
    std::iter::repeat_with(ask).take(QUESTIONS_MAX).flatten().next().expect("it comes to the database")
}

/// The state of a run, if the aggregator knows it yet.
fn shown(world: &World, run: &str) -> Option<Value> {
    let answer = world.augur(&["run", "show", run, "--format", "json"]);
    (answer.code == Some(0)).then(|| answer.json())
}

/// Why no live worker, this one among them, can take the jobs of a run.
#[track_caller]
fn why_it_waits(world: &World, run: &str, worker: &str) -> String {
    // The worker's first heartbeat may still be on its way; until then nobody at all is known.
    eventually(|| {
        let shown = shown(world, run)?;
        let reason = list(&shown, "waiting").first()?["reason"].as_str()?.to_owned();
        reason.contains(worker).then_some(reason)
    })
}

#[track_caller]
fn assert_replay_is_equal(world: &World) {
    let compared = world.augur(&["result", "replay", "--from", "first", "--into", "fresh.duckdb", "--compare"]);
    let compared = compared.expect(0);
    assert!(compared.contains("every table is equal"), "{compared}");
}

#[test]
fn a_job_that_fails_every_time_becomes_a_dead_letter_and_counts_once_when_sent_back_twice() {
    let world = World::new();
    let _aggregator = world.aggregator();
    let _worker = world.worker("w1", &[]);
    let run = world.submit("tests: [{name: stuck, profile: hold, method: stuck, timeout_s: 4, attempts_max: 2}]");
    for _ in 0..2 {
        world.holds().next().gone();
    }
    assert_eq!(world.augur(&["run", "wait", &run, "--timeout-s", "60"]).code, Some(1), "a dead job is unwelcome");
    let dead = shown(&world, &run).expect("known");
    assert_eq!(["done", "dead", "retried"].map(|field| number(&dead, field)), [0, 1, 1], "{dead:#}");

    let letters = dead_letters(&world);
    assert_eq!(letters.len(), 1, "{letters:#?}");
    assert_eq!(text(&letters[0], "reason"), "timed-out");
    let job = text(&letters[0], "job_id").to_owned();
    let history = world.augur(&["dead-letter", "show", &job, "--format", "json"]).json();
    assert_eq!(list(&history, "history").len(), 2, "both attempts are there: {history:#}");

    world.augur(&["dead-letter", "replay", "--run", &run]).expect(0);
    world.holds().next();
    world.holds().let_go(1);
    let ended = eventually(|| shown(&world, &run).filter(|run| number(run, "done") == 1));
    assert_counts(&ended, 1, [1, 0, 0, 0]);
    assert_eq!(number(&ended, "dead"), 0, "its result beats its death: {ended:#}");
    assert_eq!(dead_letters(&world), Vec::<Value>::new());
    assert_replay_is_equal(&world);
}

#[test]
fn a_job_that_is_cancelled_while_it_waits_for_its_retry_never_begins_again() {
    let world = World::new();
    let begun = world.path("begun");
    let profiles = std::fs::read_to_string(world.path("test.toml")).expect("settings");
    let crash = format!(
        "[worker.profiles.crash]\nrunner = \"command\"\nenabled = true\nprogram = \"/bin/sh\"\n\
         arguments = [\"-c\", \"echo begun >>{}; kill -KILL $$\"]\n",
        begun.display()
    );
    world.write("test.toml", &format!("{profiles}{crash}"));
    let _aggregator = world.aggregator();
    let submit = ["job", "submit", "--kind", "test", "--profile", "crash", "--format", "json"];
    let submitted = world.augur(&submit).json();
    let (job, run) = (text(&submitted, "job_id"), text(&submitted, "run_id"));
    let (_, held_run) = world.submit_hold("held");
    let _worker = world.worker("w1", &[]);
    // This one comes second and takes the only slot, so that the first one, whose attempt has failed, cannot begin again
    // before the order, however late that is. It lies in its lane for half a second at least.
    let held = world.holds().next();
    world.augur(&["job", "cancel", job]).expect(0);
    // Orders are read in their order: the worker has heard of the first one when this one ends.
    world.augur(&["run", "cancel", &held_run]).expect(0);
    held.gone();

    let waited = world.augur(&["run", "wait", run, "--timeout-s", "60"]);
    assert!(waited.code == Some(1) && !waited.stderr.contains("no worker reached"), "{waited:?}");
    let summary = world.complete(run);
    assert_counts(&summary, 1, [0, 0, 0, 1]);
    assert_eq!((number(&summary, "retried"), number(&summary, "dead")), (1, 0), "{summary:#}");
    let shown = world.augur(&["job", "show", job, "--format", "json"]).json();
    assert_eq!((text(&shown, "status"), number(&shown, "attempt")), ("cancelled", 2), "{shown:#}");
    assert_eq!(std::fs::read_to_string(&begun).expect("it began"), "begun\n", "once");
}

#[test]
fn a_job_that_no_worker_can_take_says_why_and_waits_for_one_that_can() {
    let world = World::new();
    let _aggregator = world.aggregator();
    let mut plain = world.worker("plain", &[]);
    let run = world.submit("tests: [{name: nothing, profile: noop, requirements: {tags: [lab]}}]");
    let reason = why_it_waits(&world, &run, "plain");
    assert!(reason.contains("lab"), "{reason}");
    for (flag, lacking) in [("--require-memory-mb", "memory"), ("--require-device-memory-mb", "device memory")] {
        // No machine has a petabyte.
        let submit = ["job", "submit", "--kind", "test", "--profile", "noop", flag, "1000000000", "--format", "json"];
        let run = text(&world.augur(&submit).json(), "run_id").to_owned();
        let reason = why_it_waits(&world, &run, "plain");
        let expected = format!("no live worker for cpu has 1000000000 MB of {lacking} (plain: ");
        assert!(reason.starts_with(&expected), "{reason}");
        let shown = world.augur(&["run", "show", &run]).expect(0);
        assert!(shown.contains(&reason), "`{reason}` is not in\n{shown}");
    }

    plain.kill().expect("killed");
    world.set("AUGUR_WORKER__TAGS", "lab");
    let _tagged = world.worker("tagged", &[]);
    assert_counts(&world.complete(&run), 1, [1, 0, 0, 0]);
    let results = world.results(&run);
    assert_eq!((text(&results[0], "worker_id"), number(&results[0], "attempt")), ("tagged", 1), "nothing was charged");
}

#[test]
fn a_busy_worker_keeps_no_job_from_an_idle_one() {
    let world = World::new();
    let _aggregator = world.aggregator();
    let _first = world.worker("first", &[]);
    let (_, held_run) = world.submit_hold("held");
    let held = world.holds().next();
    assert_eq!(held.name, "held");
    // The first worker, whose only slot is taken, is delivered this one.
    let run = world.submit("tests: [{name: nothing, profile: noop, priority: high}]");
    let _second = world.worker("second", &[]);
    assert_counts(&world.complete(&run), 1, [1, 0, 0, 0]);
    let results = world.results(&run);
    assert_eq!((text(&results[0], "worker_id"), number(&results[0], "attempt")), ("second", 1));
    world.holds().let_go(1);
    assert_counts(&world.complete(&held_run), 1, [1, 0, 0, 0]);
}

#[test]
fn a_claimed_job_of_a_killed_worker_is_tried_again_and_the_lost_attempt_is_charged() {
    let world = World::new();
    world.set("AUGUR_WORKER__CLAIM_AFTER_S", "0");
    world.set("AUGUR_WORKER__LEASE_S", "4");
    let _aggregator = world.aggregator();
    let mut first = world.worker("first", &[]);
    let (job, run) = world.submit_hold("long");
    let orphan = world.holds().next();
    first.wait_for_line("job claimed", LIMIT).expect("claimed");
    let _second = world.worker("second", &[]);
    first.kill().expect("killed");
    orphan.gone();
    assert_eq!(world.holds().next().name, "long", "the lease lapsed");
    world.holds().let_go(1);
    assert_counts(&world.complete(&run), 1, [1, 0, 0, 0]);
    let results = world.results(&run);
    assert_eq!((text(&results[0], "worker_id"), number(&results[0], "attempt")), ("second", 2));
    let shown = world.augur(&["job", "show", &job, "--format", "json"]).json();
    let lost: Vec<_> = list(&shown, "attempts").iter().filter_map(|attempt| attempt["failure_type"].as_str()).collect();
    assert_eq!(lost, ["worker-lost"]);
    assert_replay_is_equal(&world);
}

#[test]
fn a_claimed_job_ends_with_its_worker_and_goes_on_elsewhere_uncharged() {
    let world = World::new();
    world.set("AUGUR_WORKER__CLAIM_AFTER_S", "0");
    world.set("AUGUR_WORKER__GRACE_S", "0");
    let _aggregator = world.aggregator();
    let mut first = world.worker("first", &[]);
    let (_, run) = world.submit_hold("long");
    let process = world.holds().next();
    first.wait_for_line("job claimed", LIMIT).expect("claimed");
    first.signal(Signal::SIGTERM).expect("sent");
    process.gone();
    assert_eq!(first.wait(LIMIT).expect("an end").code(), Some(0));
    let _second = world.worker("second", &[]);
    assert_eq!(world.holds().next().name, "long");
    world.holds().let_go(1);
    assert_counts(&world.complete(&run), 1, [1, 0, 0, 0]);
    assert_eq!(number(&world.results(&run)[0], "attempt"), 1);
}

#[test]
fn a_suite_for_later_starts_when_it_is_due_and_not_before() {
    let world = World::new();
    let _aggregator = world.aggregator();
    let file = world.write("later.yaml", "version: 1\nname: later\ntests: [{name: nothing, profile: noop}]\n");
    let cancelled = world.augur(&["suite", "submit", &file, "--delay", "10s"]).expect(0).trim().to_owned();
    world.augur(&["run", "cancel", &cancelled]).expect(0);
    let _worker = world.worker("w1", &[]);
    let moment = Timestamp::from_micros(Timestamp::now().as_micros() + 3_000_000).to_string();
    let runs = [["--at", &moment], ["--delay", "3s"]]
        .map(|later| world.augur(&[&["suite", "submit", &file], &later[..]].concat()).expect(0).trim().to_owned());
    let due = runs.map(|run| {
        let summary = world.complete(&run);
        assert_counts(&summary, 1, [1, 0, 0, 0]);
        let results = world.results(&run);
        let (due, started) = (text(&summary, "due_at"), text(&results[0], "started_at"));
        assert!(due <= started, "due at {due}, started at {started}");
        assert_eq!(number(&results[0], "attempt"), 1);
        due.to_owned()
    });
    assert_eq!(due[0], moment);
    assert_counts(&world.complete(&cancelled), 1, [0, 0, 0, 1]);
}

#[test]
fn jobs_begin_no_faster_than_the_rate_limit_lets_them() {
    const JOBS: usize = 4;
    let world = World::new();
    world.set("AUGUR_WORKER__RATE_LIMIT_PER_S__CPU", "2");
    let _aggregator = world.aggregator();
    let _worker = world.worker("w1", &["--concurrency", "4"]);
    let run = world.submit(&format!("tests: [{{name: nothing, profile: noop, repeat: {JOBS}}}]"));
    let summary = world.complete(&run);
    assert_counts(&summary, JOBS as u64, [JOBS as u64, 0, 0, 0]);
    let moment = |text: &str| chrono::DateTime::parse_from_rfc3339(text).expect("a moment");
    let last = world.results(&run).iter().map(|row| moment(text(row, "started_at"))).max().expect("results");
    let took_ms = (last - moment(text(&summary, "submitted_at"))).num_milliseconds();
    // Each begins half a second after the one before, at the earliest; clocks are slewed a bit.
    assert!(took_ms >= 1_490, "{took_ms} ms from the submission to the last start");
}

#[test]
fn a_running_benchmark_says_how_far_it_is() {
    let world = World::new();
    // A short lease makes heartbeats frequent.
    world.set("AUGUR_WORKER__LEASE_S", "1");
    let _aggregator = world.aggregator();
    let _worker = world.worker("w1", &[]);
    let run = world.submit(
        "benchmarks:\n  - {models: [mobilenet-v2], batch_sizes: [4], image_sizes: [128], threads: [1],\n     \
         warmup_iterations: 0, iterations_min: 10000, iterations_max: 10000, duration_s_max: 600}",
    );
    let done = |job: &Value| job["progress_done"].as_u64().filter(|done| *done > 0);
    let listed = |world: &World| {
        let workers = world.augur(&["worker", "list", "--format", "json"]).json();
        list(workers.as_array()?.first()?, "running").first().and_then(done)
    };
    let first = eventually(|| listed(&world));
    eventually(|| listed(&world).filter(|done| *done > first));
    let shown = eventually(|| shown(&world, &run).filter(|run| !list(run, "running").is_empty()));
    let job = &list(&shown, "running")[0];
    assert!(done(job).is_some_and(|done| done > first), "{shown:#}");
    assert_eq!(number(job, "progress_total"), 10_000);

    let in_table = |question: &[&str]| -> Option<u64> {
        let shown = world.augur(question).stdout;
        shown.split_whitespace().find_map(|word| word.strip_suffix("/10000")?.parse().ok())
    };
    let listed = eventually(|| in_table(&["worker", "list"]).filter(|done| *done > 0));
    eventually(|| in_table(&["run", "show", &run]).filter(|done| *done > listed));
    world.augur(&["run", "cancel", &run]).expect(0);
    assert_counts(&world.complete(&run), 1, [0, 0, 0, 1]);
}

#[test]
fn a_replay_that_follows_shows_results_as_they_come() {
    let world = World::new();
    let _aggregator = world.aggregator();
    let _worker = world.worker("w1", &[]);
    let earlier = world.submit("tests: [{name: earlier, profile: noop}]");
    world.complete(&earlier);
    let follow = ["result", "replay", "--from", "first", "--follow"];
    let mut lines = world.spawn("lines", &[&follow[..], &["--format", "json"]].concat());
    let mut table = world.spawn("table", &follow);
    // Nobody else can read the database meanwhile, so that its owner has to say what it has committed.
    world.set("AUGUR_LOG", "warn,pipeline=debug");
    let mut database = world.spawn("database", &[&follow[..], &["--into", "fresh.duckdb"]].concat());
    let mut wait_for = |name| {
        lines.wait_for_answer(name, LIMIT).expect("a line of JSON");
        table.wait_for_answer(name, LIMIT).expect("a row");
        database.wait_for_line("results_new=1", LIMIT).expect("a commit");
    };
    wait_for("earlier");
    for name in ["later", "last"] {
        let run = world.submit(&format!("tests: [{{name: {name}, profile: noop}}]"));
        wait_for(name);
        world.complete(&run);
    }
    for (following, signal) in
        [(&mut lines, Signal::SIGINT), (&mut table, Signal::SIGINT), (&mut database, Signal::SIGTERM)]
    {
        following.signal(signal).expect("sent");
        assert_eq!(following.wait(LIMIT).expect("an end").code(), Some(0), "{}", following.stderr());
    }
    assert_eq!(lines.stdout().lines().count(), 3, "each once");
    let rows = table.stdout();
    assert!(rows.starts_with("offset ") && rows.lines().count() == 4, "headings once, and each once:\n{rows}");
    database.wait_for_answer("3 results, 3 of them new", LIMIT).expect("a summary");
    let compared = ["result", "replay", "--from", "first", "--into", "fresh.duckdb", "--compare"];
    let compared = world.augur(&compared).expect(0);
    assert!(compared.contains("3 results, 0 of them new"), "{compared}");
}

#[test]
fn a_unique_key_is_one_job_in_every_run_that_names_it() {
    let world = World::new();
    let _aggregator = world.aggregator();
    let _worker = world.worker("w1", &[]);
    let cases = "tests: [{name: nothing, profile: noop, unique_key: nightly-1}]";
    let runs = [world.submit(cases), world.submit(cases)];
    for run in &runs {
        assert_counts(&world.complete(run), 1, [1, 0, 0, 0]);
    }
    assert_ne!(runs[0], runs[1]);
    let ids: Vec<_> =
        runs.iter().flat_map(|run| world.results(run)).map(|row| text(&row, "job_id").to_owned()).collect();
    assert_eq!(ids.len(), 2, "each run shows its job");
    assert_eq!(ids[0], ids[1], "and it is the same");
    assert_replay_is_equal(&world);
}

#[test]
fn higher_lanes_start_first_and_the_lowest_moves_too() {
    let world = World::new();
    let _aggregator = world.aggregator();
    let low = world.submit("tests: [{name: low, profile: noop, priority: low, repeat: 4}]");
    let high = world.submit("tests: [{name: high, profile: noop, priority: critical, repeat: 40}]");
    let _worker = world.worker("w1", &[]);
    assert_counts(&world.complete(&high), 40, [40, 0, 0, 0]);
    assert_counts(&world.complete(&low), 4, [4, 0, 0, 0]);
    let mut ended: Vec<_> = [&low, &high]
        .iter()
        .flat_map(|run| world.results(run))
        .map(|row| (text(&row, "started_at").to_owned(), text(&row, "priority").to_owned()))
        .collect();
    ended.sort();
    let place = ended.iter().position(|(_, priority)| priority == "low").expect("there are low ones");
    assert!((1..=8).contains(&place), "the first low one started as number {place} of {ended:?}");
}
