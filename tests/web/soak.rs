//! Many jobs by the queue, in Chromium and Firefox, while their processes are killed; some take too long or too much.
//!
//! `make soak-browsers` runs it at full size.

use std::{collections::BTreeSet, env, thread, time::Instant};

use serde_json::Value;
use testkit::BrowserProcesses;

use crate::{
    killed::{LOOK_EVERY, is_over, summary},
    status,
    support::{LIMIT, World, text},
};

/// Jobs in `make test`; [`JOBS_VARIABLE`] asks for more.
const JOBS_QUICK: usize = 40;

/// Asks for this many jobs, and for faults from this seed.
const JOBS_VARIABLE: &str = "AUGUR_TEST_BROWSER_JOBS";
const SEED_VARIABLE: &str = "AUGUR_TEST_SEED";

/// Longest that a job may hold its slot beyond its timeout, in milliseconds.
const BEYOND_MS_MAX: u64 = 5_000;

/// One fault for so many jobs: seldom enough that few jobs meet three.
const JOBS_PER_FAULT: usize = 4;

/// How many cases of each kind make up `jobs`: quick ones, ones on WebGPU, ones that are timed for longer than they
/// may take, ones that want more memory than there is. Each is one case per browser, or one in any.
fn suite(jobs: usize) -> String {
    let (webgpu, long, large) = ((jobs / 20).max(1), (jobs / 40).max(1), (jobs / 20).max(1));
    let quick = (jobs - 2 * webgpu - 2 * long - large) / 2;
    let grid = "models: [tiny], warmup_iterations: 1, iterations_min: 10000, iterations_max: 10000";
    format!(
        "web:
  - {{{grid}, platforms: [wasm], browsers: [chromium, firefox], sequence_lengths: [8], duration_s_max: 0.5,
     repeat: {quick}}}
  - {{{grid}, platforms: [webgpu], browsers: [chromium, firefox], sequence_lengths: [4], duration_s_max: 0.5,
     repeat: {webgpu}}}
  - {{{grid}, platforms: [wasm], browsers: [chromium, firefox], sequence_lengths: [16], duration_s_max: 600,
     timeout_s: 5, attempts_max: 1, repeat: {long}}}
  - {{{grid}, platforms: [wasm], sequence_lengths: [32], memory_mb: 1000000, repeat: {large}}}"
    )
}

/// Every job has one counted result or one dead letter, and no attempt is charged for a browser that was killed.
pub(crate) fn every_job_has_one_end_whatever_dies(world: &World, processes: &mut BrowserProcesses) {
    let parsed = |variable: &str| env::var(variable).ok().map(|text| text.parse::<u64>().expect("a number"));
    let jobs = parsed(JOBS_VARIABLE).map_or(JOBS_QUICK, |jobs| usize::try_from(jobs).expect("few"));
    let seed = parsed(SEED_VARIABLE).unwrap_or_else(|| fastrand::u64(..));
    println!("{SEED_VARIABLE}={seed}");
    let run = world.submit(&suite(jobs));
    let faults = kill_until_the_end(world, &run, processes, &mut fastrand::Rng::with_seed(seed));
    println!("{faults} faults; {}", status(world)["counters"]);
    assert!(faults >= BrowserProcesses::VICTIMS.len(), "each kind of fault once: {faults}");
    let summary = summary(world, &run).expect("it is known");
    each_job_has_one_end(world, &run, &summary);
    no_attempt_is_charged_for_a_fault(world, &run);
    let pool = status(world);
    assert_eq!((&pool["running"], &pool["waiting"]), (&0.into(), &0.into()), "no slot is held: {pool:#}");
    let beyond_ms = pool["counters"]["held_beyond_ms_max"].as_u64().expect("a number");
    assert!(beyond_ms <= BEYOND_MS_MAX, "{pool:#}");
}

/// Kills something after every few jobs: at random, but each victim as often. Says how often.
fn kill_until_the_end(world: &World, run: &str, processes: &mut BrowserProcesses, random: &mut fastrand::Rng) -> usize {
    let (mut next, mut faults) = (Vec::new(), 0);
    let (mut ended, mut moved_at) = (0, Instant::now());
    loop {
        if let Some(summary) = summary(world, run) {
            if is_over(&summary) {
                return faults;
            }
            let count = |field: &str| usize::try_from(summary[field].as_u64().expect("a number")).expect("few");
            let ends = count("done") + count("dead");
            if ends > ended {
                (ended, moved_at) = (ends, Instant::now());
            }
            assert!(moved_at.elapsed() < LIMIT, "no job ends: {summary:#}\n{:#}", status(world));
        }
        // Also to remember who was there.
        processes.alive();
        if ended >= (faults + 1) * JOBS_PER_FAULT {
            if next.is_empty() {
                next = BrowserProcesses::VICTIMS.to_vec();
                random.shuffle(&mut next);
            }
            // A browser that is just being started has none yet.
            if next.last().is_some_and(|victim| processes.kill(victim) > 0) {
                next.pop();
                faults += 1;
            }
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn each_job_has_one_end(world: &World, run: &str, summary: &Value) {
    let results = world.results(run);
    let letters = letters(world, run);
    let ids = |rows: &[Value]| -> BTreeSet<String> { rows.iter().map(|row| text(row, "job_id").to_owned()).collect() };
    let (counted, dead) = (ids(&results), ids(&letters));
    assert_eq!((counted.len(), dead.len()), (results.len(), letters.len()), "each once");
    assert!(counted.is_disjoint(&dead), "{dead:?} have a result, too");
    assert_eq!(summary["jobs_total"].as_u64(), Some((counted.len() + dead.len()) as u64), "{summary:#}");
    assert_eq!(summary["done"].as_u64(), Some(counted.len() as u64), "{summary:#}");
    for row in &results {
        let is_large = row["sequence_length"] == 32;
        assert_eq!(text(row, "status"), if is_large { "error" } else { "passed" }, "{row:#}");
    }
}

/// Of the attempts that failed and are not a result, only those of jobs that take too long were charged, and those of
/// jobs under which three browsers died.
fn no_attempt_is_charged_for_a_fault(world: &World, run: &str) {
    for letter in letters(world, run) {
        let case = text(&letter, "case");
        match text(&letter, "reason") {
            "timed-out" => assert!(case.contains(" sequence 16 "), "{letter:#}"),
            "poison" => assert!(text(&letter, "message").matches("; ").count() >= 2, "three deaths: {letter:#}"),
            _ => panic!("{letter:#}"),
        }
        check_attempts(world, text(&letter, "job_id"));
    }
    for row in world.results(run).iter().filter(|row| row["attempt"] != 1) {
        check_attempts(world, text(row, "job_id"));
    }
}

/// Attempts before the last had no browser, and cost nothing.
fn check_attempts(world: &World, job: &str) {
    let shown = world.augur(&["job", "show", job, "--format", "json"]).json();
    let attempts = shown["attempts"].as_array().expect("a list");
    let retried = attempts.iter().filter(|attempt| attempt["next"] == "retry");
    assert!(retried.into_iter().all(|attempt| attempt["failure_type"] == "machine"), "{shown:#}");
}

fn letters(world: &World, run: &str) -> Vec<Value> {
    match world.augur(&["dead-letter", "list", "--run", run, "--format", "json"]).json() {
        Value::Array(letters) => letters,
        other => panic!("{other} is no list"),
    }
}
