//! Many jobs over the tabs of Chromium and Firefox, three at once, while renderers, GPU processes, drivers and browsers
//! are killed, and some jobs never end, are corrupt, or are too large; and the pool's memory after many jobs.
//!
//! `make soak-browsers` runs both at their full size. In `make test` the faults come by the queue instead
//! (`tests/web/soak.rs`).

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use browsers::{Family, ModelFile, SessionStatus, WebError, WebRequest};
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

/// Jobs at once, and browsers that they fill: two of the first family, one of the second, each with one tab.
const AT_ONCE: usize = 3;

const FAMILIES: [Family; 2] = [Family::Chromium, Family::Firefox];

/// Timeout of a job that never ends.
const ENDLESS_MAX: Duration = Duration::from_secs(3);

/// Longest that a job may hold its slot beyond its timeout, in milliseconds.
const BEYOND_MS_MAX: u64 = 5_000;

/// A model larger than what any machine's browsers may take.
const LARGE_BYTES: u64 = 1 << 40;

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

/// Models that cannot be run.
struct BadModels {
    corrupt: PathBuf,
    large: PathBuf,
}

impl BadModels {
    fn write(directory: &Path) -> Self {
        let [corrupt, large] = ["corrupt.onnx", "large.onnx"].map(|name| directory.join(name));
        std::fs::write(&corrupt, b"not a model").expect("writable");
        // Nothing but a hole: it takes no room.
        let hole = File::create(&large).and_then(|file| file.set_len(LARGE_BYTES));
        hole.expect("a file may be as long");
        Self { corrupt, large }
    }
}

fn job(number: usize, bad: &BadModels) -> (WebRequest, Expected) {
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
            let model = model_file("corrupt", bad.corrupt.clone(), b"not a model");
            (WebRequest { model, ..mixer(platform) }, Expected::Refused(FailureKind::ModelCorrupt))
        }
        37 => {
            // Refused for its size before anyone reads it, so its hash does not matter.
            let model = ModelFile { bytes: LARGE_BYTES, ..model_file("large", bad.large.clone(), b"") };
            (WebRequest { model, memory_mb: None, ..mixer(platform) }, Expected::Refused(FailureKind::Unavailable))
        }
        _ if number.is_multiple_of(7) => (quick(gather(platform)), Expected::Measured),
        _ => (quick(mixer(platform)), Expected::Measured),
    }
}

/// Runs a job until it has an end that is its own, as a worker does: what is not charged is tried again.
async fn run_to_its_end(bench: &Bench, number: usize, bad: &BadModels) {
    let (request, expected) = job(number, bad);
    loop {
        let ended = bench.run(request.clone()).await;
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
    browsers_max: &AtomicUsize,
    random: &mut fastrand::Rng,
) {
    let mut processes = bench.processes();
    let mut next = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        browsers_max.fetch_max(bench.pool.status().sessions.len(), Ordering::Relaxed);
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
    let bench = bench(&FAMILIES, |settings| {
        settings.deaths_max = u32::MAX;
        settings.browsers.iter_mut().for_each(|browser| browser.tabs_max = 1);
        settings.browsers[0].sessions_max = 2;
    });
    let bench = bench.await;
    let bad = BadModels::write(bench.directory.path());
    let [done, faults, browsers_max] = [const { AtomicUsize::new(0) }; 3];
    let is_over = AtomicBool::new(false);
    let jobs = async {
        let each = stream::iter(0..count).for_each_concurrent(AT_ONCE, async |number| {
            run_to_its_end(&bench, number, &bad).await;
            done.fetch_add(1, Ordering::Relaxed);
        });
        each.await;
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(jobs, break_things(&bench, &done, &is_over, &faults, &browsers_max, &mut random));
    let faults = faults.into_inner();
    assert_eq!(done.load(Ordering::Relaxed), count, "each job has one end");
    assert!(faults >= count / JOBS_PER_FAULT - 1, "{faults} faults");
    let status = bench.pool.status();
    println!("{faults} faults, {:?}", status.counters);
    assert!(browsers_max.into_inner() >= AT_ONCE, "the pool was never full");
    assert_eq!((status.running, status.waiting), (0, 0), "no slot is held");
    assert!(status.counters.held_beyond_ms_max <= BEYOND_MS_MAX, "{:?}", status.counters);
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
    let jobs_max = u32::try_from(count / BROWSERS).expect("few");
    let family = [family];
    let bench = bench(&family, |settings| settings.jobs_per_session_max = jobs_max).await;
    let run = async |number: usize| {
        let request = if number.is_multiple_of(2) { mixer(Platform::Wasm) } else { gather(Platform::Wasm) };
        let request = WebRequest { duration_ms_max: 50, ..request };
        bench.run(request).await.expect("it runs");
    };
    for number in 0..JOBS_EARLY {
        run(number).await;
    }
    let early_mb = settled_mb(&bench, jobs_max).await;
    for number in JOBS_EARLY..count {
        run(number).await;
    }
    let late_mb = settled_mb(&bench, jobs_max).await;
    println!("{}: {early_mb:.0} MB after {JOBS_EARLY} jobs, {late_mb:.0} MB after {count}", family[0].as_str());
    let recycled = bench.pool.status().counters.sessions_recycled;
    assert!(recycled > 0, "no browser was replaced");
    assert!(late_mb < early_mb * GROWTH_MAX, "{early_mb:.0} MB became {late_mb:.0} MB");
    bench.end().await;
}

/// Memory of all browsers once each holds the same two models, in one that is not due to be replaced.
async fn settled_mb(bench: &Bench, jobs_max: u32) -> f64 {
    let is_settled = |of: &SessionStatus| {
        let holds = of.tabs.iter().filter(|tab| tab.model.is_some()).count();
        // One that is due to be replaced may be gone before it is weighed.
        of.state != "retiring" && of.jobs < jobs_max && holds == 2
    };
    loop {
        for request in [mixer(Platform::Wasm), gather(Platform::Wasm)] {
            bench.run(request).await.expect("it runs");
        }
        if matches!(&bench.pool.status().sessions[..], [session] if is_settled(session)) {
            break;
        }
    }
    bench.pool.memory_mb().await.expect("browsers run")
}
