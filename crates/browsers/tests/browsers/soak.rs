//! Many jobs over a pool of three tabs, while renderers, GPU processes, drivers and browsers are killed, and some jobs
//! hang, are corrupt, or are too large. `make soak-browsers` runs the fault soak at its full size.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use browsers::{Family, WebError, WebRequest};
use futures_util::{StreamExt, stream};
use messages::{FailureKind, Platform, Priority};
use tokio_util::sync::CancellationToken;

use crate::support::{Bench, MIXER_OUTPUT, bench, floats, gather, kill, mixer, model_file, pool_id, processes};

/// Jobs in all at the full size.
const JOBS: usize = 200;

/// Jobs under faults at the quick size: each kind once.
const JOBS_QUICK: usize = 40;

/// Asks for this many jobs under faults, and for faults from this seed.
const JOBS_VARIABLE: &str = "AUGUR_TEST_BROWSER_JOBS";
const SEED_VARIABLE: &str = "AUGUR_TEST_SEED";

/// Jobs at once: what the pool has tabs for.
const AT_ONCE: usize = 3;

/// Timeout of a job that hangs.
const HANG_MAX: Duration = Duration::from_secs(3);

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
    let quick = |request: WebRequest| WebRequest { duration_ms_max: 200, keep_outputs: true, ..request };
    match number % 40 {
        17 => {
            let mut hanging = WebRequest { timeout: HANG_MAX, ..mixer(Platform::Wasm) };
            WebRequest::HANG_MODEL.clone_into(&mut hanging.model.name);
            // Its time shall be over while it runs, not while it waits.
            (WebRequest { priority: Priority::Critical, ..hanging }, Expected::TimedOut)
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
async fn run_to_its_end(bench: &Bench, number: usize, corrupt: &std::path::Path) {
    let (request, expected) = job(number, corrupt);
    loop {
        let began = Instant::now();
        let ended = bench.pool.run(request.clone(), &CancellationToken::new(), &|_| {}).await;
        let took = began.elapsed();
        assert!(took < request.timeout + BEYOND_MAX, "job {number} took {took:?}");
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

/// Kills something after every few jobs, whatever is running then: at random, but each of the four as often.
async fn break_things(bench: &Bench, done: &AtomicUsize, is_over: &AtomicBool, random: &mut fastrand::Rng) -> usize {
    let pool = pool_id(bench.directory.path());
    let victims = ["--type=renderer", "--type=gpu-process", "chromedriver --port", "--user-data-dir"];
    let mut next = Vec::new();
    let mut faults = 0;
    while !is_over.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if done.load(Ordering::Relaxed) >= (faults + 1) * JOBS_PER_FAULT {
            if next.is_empty() {
                next = victims.to_vec();
                random.shuffle(&mut next);
            }
            let victim = next.pop().expect("just filled");
            tokio::time::sleep(Duration::from_millis(random.u64(0..FAULT_MS_MAX))).await;
            processes(&pool, victim).into_iter().for_each(kill);
            faults += 1;
        }
    }
    faults
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_survive_random_faults() {
    let count = std::env::var(JOBS_VARIABLE).map_or(JOBS_QUICK, |count| count.parse().expect("a number of jobs"));
    let seed = std::env::var(SEED_VARIABLE).map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a seed"));
    println!("{SEED_VARIABLE}={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    // A slow job may be hit by any number of faults that are not its own; poison has a test of its own.
    let bench = bench(&[Family::Chromium], |settings| settings.deaths_max = u32::MAX).await;
    let corrupt = bench.directory.path().join("corrupt.onnx");
    std::fs::write(&corrupt, b"not a model").expect("writable");
    let (done, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let jobs = async {
        let each = stream::iter(0..count).for_each_concurrent(AT_ONCE, async |number| {
            run_to_its_end(&bench, number, &corrupt).await;
            done.fetch_add(1, Ordering::Relaxed);
        });
        each.await;
        is_over.store(true, Ordering::Relaxed);
    };
    let ((), faults) = tokio::join!(jobs, break_things(&bench, &done, &is_over, &mut random));
    assert_eq!(done.load(Ordering::Relaxed), count, "each job has one end");
    assert!(faults >= count / JOBS_PER_FAULT - 1, "{faults} faults");
    let status = bench.pool.status();
    println!("{faults} faults, {:?}", status.counters);
    assert_eq!((status.running, status.waiting), (0, 0), "no slot is held");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_grow_with_the_jobs() {
    // Recycling is what bounds it; here every forty jobs.
    let bench = bench(&[Family::Chromium], |settings| settings.jobs_per_session_max = 40).await;
    let run = async |number: usize| {
        let request = if number.is_multiple_of(2) { mixer(Platform::Wasm) } else { gather(Platform::Wasm) };
        let request = WebRequest { duration_ms_max: 50, ..request };
        bench.pool.run(request, &CancellationToken::new(), &|_| {}).await.expect("it runs");
    };
    for number in 0..20 {
        run(number).await;
    }
    let early_mb = settled_mb(&bench).await;
    for number in 20..JOBS {
        run(number).await;
    }
    let late_mb = settled_mb(&bench).await;
    println!("{early_mb:.0} MB after 20 jobs, {late_mb:.0} MB after {JOBS}");
    assert!(late_mb < early_mb * GROWTH_MAX, "{early_mb:.0} MB became {late_mb:.0} MB");
    bench.end().await;
}

/// Memory of all browsers once each holds the same two models.
async fn settled_mb(bench: &Bench) -> f64 {
    for request in [mixer(Platform::Wasm), gather(Platform::Wasm)] {
        bench.pool.run(request, &CancellationToken::new(), &|_| {}).await.expect("it runs");
    }
    bench.pool.memory_mb().await.expect("browsers run")
}
