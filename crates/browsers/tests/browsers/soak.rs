//! Many jobs over the tabs of Chromium and Firefox, three at once, while renderers, GPU processes, drivers and browsers
//! are killed, and some jobs never end, are corrupt, or are too large; and the pool's memory after many jobs.
//!
//! `make soak-browsers` runs both at their full size. In `make test` the faults come by the queue instead
//! (`tests/web/soak.rs`).

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use browsers::{Family, WebError, WebRequest};
use futures_util::{StreamExt, stream};
use messages::{FailureKind, Platform, Priority};
use testkit::BrowserProcesses;

use crate::support::{Bench, MIXER_OUTPUT, bench, endless, floats, gather, mixer, model_file};

/// Jobs in all at the full size.
const JOBS: usize = 200;

/// Jobs in all in `make test`, of which some come before the first look at the memory.
const JOBS_QUICK: usize = 60;
const JOBS_EARLY: usize = 20;

/// Browsers that these jobs have, one after the other.
const BROWSERS: usize = 5;

/// Asks for this many jobs, and for faults from this seed.
const JOBS_VARIABLE: &str = "AUGUR_TEST_BROWSER_JOBS";
const SEED_VARIABLE: &str = "AUGUR_TEST_SEED";

/// Jobs at once.
const AT_ONCE: usize = 3;

const FAMILIES: [Family; 2] = [Family::Chromium, Family::Firefox];

/// Timeout of a job that never ends.
const ENDLESS_MAX: Duration = Duration::from_secs(3);

/// Longest that a job may hold its slot beyond its timeout.
const BEYOND_MAX: Duration = Duration::from_secs(5);

/// One fault for so many jobs.
const JOBS_PER_FAULT: usize = 8;

/// Longest that a fault comes after its job, in milliseconds: some jobs further.
const FAULT_MS_MAX: u64 = 1_000;

/// Growth of the pool's memory from the first jobs to the last that is let pass.
const GROWTH_MAX: f64 = 1.2;

/// How a job must end.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Expected {
    Measured,
    Refused(FailureKind),
    TimedOut,
}

fn job(number: usize, corrupt: &std::path::Path) -> (WebRequest, Expected) {
    let platform = if number % 10 == 3 { Platform::Webgpu } else { Platform::Wasm };
    let browsers = vec![["chromium", "firefox"][number % 2].to_owned()];
    let quick = |request: WebRequest| WebRequest { duration_ms_max: 200, keep_outputs: true, browsers, ..request };
    match number % 40 {
        17 => {
            // Its time shall be over while it runs, not while it waits.
            let endless = WebRequest { timeout: ENDLESS_MAX, priority: Priority::Critical, ..endless() };
            (endless, Expected::TimedOut)
        }
        27 => {
            let model = model_file("corrupt", corrupt.to_owned(), b"not a model");
            (WebRequest { model, ..mixer(platform) }, Expected::Refused(FailureKind::ModelCorrupt))
        }
        37 => {
            let large = WebRequest { memory_mb: Some(1_000_000), ..mixer(platform) };
            (large, Expected::Refused(FailureKind::Unavailable))
        }
        _ if number.is_multiple_of(7) => (quick(gather(platform)), Expected::Measured),
        _ => (quick(mixer(platform)), Expected::Measured),
    }
}

/// Runs a job until it has an end that is its own, as a worker does: what is not charged is tried again.
async fn run_to_its_end(bench: &Bench, number: usize, corrupt: &std::path::Path, faults: &AtomicUsize) {
    let (request, expected) = job(number, corrupt);
    loop {
        let (began, faults_before) = (Instant::now(), faults.load(Ordering::Relaxed));
        let ended = bench.run(request.clone()).await;
        let took = began.elapsed();
        // Whoever's browser died has all of its time again.
        let deaths = match &ended {
            Ok(run) => run.recoveries.len(),
            Err(_) => faults.load(Ordering::Relaxed) - faults_before,
        };
        let tries = u32::try_from(1 + deaths).expect("few");
        assert!(took < (request.timeout + BEYOND_MAX) * tries, "job {number} took {took:?}");
        match (&ended, expected) {
            (Ok(run), Expected::Measured) => {
                if request.model.name == "mixer" {
                    let computed = floats(&run.outputs[0].bytes);
                    assert!(computed.iter().zip(MIXER_OUTPUT).all(|(a, b)| (a - b).abs() < 1e-4), "job {number}");
                }
                return;
            }
            (Err(error), Expected::Refused(kind)) if error.failure_kind() == kind => return,
            (Err(WebError::TimedOut { .. }), Expected::TimedOut) => return,
            (Err(error), _) if !error.is_charged() => {}
            _ => panic!("job {number} was to be {expected:?}: {ended:?}"),
        }
    }
}

/// Kills something after every few jobs, whatever is running then: at random, but each victim as often.
async fn break_things(
    bench: &Bench,
    done: &AtomicUsize,
    is_over: &AtomicBool,
    faults: &AtomicUsize,
    random: &mut fastrand::Rng,
) {
    let mut processes = bench.processes();
    let mut next = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if done.load(Ordering::Relaxed) >= (faults.load(Ordering::Relaxed) + 1) * JOBS_PER_FAULT {
            if next.is_empty() {
                next = BrowserProcesses::VICTIMS.to_vec();
                random.shuffle(&mut next);
            }
            tokio::time::sleep(Duration::from_millis(random.u64(0..FAULT_MS_MAX))).await;
            // A browser that is just being started has none yet.
            if next.last().is_some_and(|victim| processes.kill(victim) > 0) {
                next.pop();
                faults.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// How many jobs are asked for, if any are.
fn jobs_asked() -> Option<usize> {
    std::env::var(JOBS_VARIABLE).ok().map(|count| count.parse().expect("a number of jobs"))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; make soak-browsers"]
async fn jobs_survive_random_faults() {
    let count = jobs_asked().unwrap_or(JOBS);
    let seed = std::env::var(SEED_VARIABLE).map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a seed"));
    println!("{SEED_VARIABLE}={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    // A slow job may be hit by any number of faults that are not its own; poison has a test of its own.
    let bench = bench(&FAMILIES, |settings| settings.deaths_max = u32::MAX).await;
    let corrupt = bench.directory.path().join("corrupt.onnx");
    std::fs::write(&corrupt, b"not a model").expect("writable");
    let (done, faults, is_over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let jobs = async {
        let each = stream::iter(0..count).for_each_concurrent(AT_ONCE, async |number| {
            run_to_its_end(&bench, number, &corrupt, &faults).await;
            done.fetch_add(1, Ordering::Relaxed);
        });
        each.await;
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(jobs, break_things(&bench, &done, &is_over, &faults, &mut random));
    let faults = faults.into_inner();
    assert_eq!(done.load(Ordering::Relaxed), count, "each job has one end");
    assert!(faults >= count / JOBS_PER_FAULT - 1, "{faults} faults");
    let status = bench.pool.status();
    println!("{faults} faults, {:?}", status.counters);
    assert_eq!((status.running, status.waiting), (0, 0), "no slot is held");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_grow_with_the_jobs() {
    // Firefox at the full size only: what it shows is the same, and takes as long again.
    let families = if jobs_asked().is_some() { &FAMILIES[..] } else { &FAMILIES[..1] };
    for family in families {
        memory_of_a_family_does_not_grow(*family).await;
    }
}

async fn memory_of_a_family_does_not_grow(family: Family) {
    let count = jobs_asked().unwrap_or(JOBS_QUICK);
    // Recycling is what bounds it.
    let family = [family];
    let bench = bench(&family, |settings| {
        settings.jobs_per_session_max = u32::try_from(count / BROWSERS).expect("few");
    });
    let bench = bench.await;
    let run = async |number: usize| {
        let request = if number.is_multiple_of(2) { mixer(Platform::Wasm) } else { gather(Platform::Wasm) };
        let request = WebRequest { duration_ms_max: 50, ..request };
        bench.run(request).await.expect("it runs");
    };
    for number in 0..JOBS_EARLY {
        run(number).await;
    }
    let early_mb = settled_mb(&bench).await;
    for number in JOBS_EARLY..count {
        run(number).await;
    }
    let late_mb = settled_mb(&bench).await;
    println!("{}: {early_mb:.0} MB after {JOBS_EARLY} jobs, {late_mb:.0} MB after {count}", family[0].as_str());
    let recycled = bench.pool.status().counters.sessions_recycled;
    assert!(recycled > 0, "no browser was replaced");
    assert!(late_mb < early_mb * GROWTH_MAX, "{early_mb:.0} MB became {late_mb:.0} MB");
    bench.end().await;
}

/// Memory of all browsers once each holds the same two models.
async fn settled_mb(bench: &Bench) -> f64 {
    for request in [mixer(Platform::Wasm), gather(Platform::Wasm)] {
        bench.run(request).await.expect("it runs");
    }
    bench.pool.memory_mb().await.expect("browsers run")
}
