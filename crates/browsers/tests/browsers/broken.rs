//! What breaks: hung Workers, killed renderers, GPU processes, drivers and browsers, a killed daemon.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use browsers::{Family, Pool, WebError, WebRequest, WebRun};
use messages::{FailureKind, Platform};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::support::{Bench, bench, endless, kill, marked, mixer, pool_id, processes, settings};

/// Longest that a job may hold its slot beyond its timeout.
const BEYOND_MAX: Duration = Duration::from_secs(5);

/// How long a job that is timed goes on once its browser was broken and mended.
const TIMED: Duration = Duration::from_secs(2);

async fn run(bench: &Bench, request: WebRequest) -> Result<WebRun, WebError> {
    bench.pool.run(request, &CancellationToken::new(), &|_| {}).await
}

fn hanging() -> WebRequest {
    let mut request = WebRequest { timeout: Duration::from_secs(4), ..mixer(Platform::Wasm) };
    WebRequest::HANG_MODEL.clone_into(&mut request.model.name);
    request
}

async fn check_hang(family: Family) {
    let bench = bench(&[family], |_| {}).await;
    let began = Instant::now();
    let error = run(&bench, hanging()).await.expect_err("it hangs");
    let WebError::TimedOut { timeout_ms: 4_000, phase } = &error else { panic!("{error}") };
    assert_eq!(phase, "hang");
    assert!(began.elapsed() < Duration::from_secs(4) + BEYOND_MAX, "{:?}", began.elapsed());
    assert_eq!((error.failure_kind(), bench.pool.status().running), (FailureKind::TimedOut, 0));
    let next = run(&bench, mixer(Platform::Wasm)).await.expect("the slot is free");
    assert_eq!(next.recoveries, [""; 0]);
    bench.end().await;
}

/// How long what is left of a broken browser may take to be ended.
const GONE_MAX: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn the_watchdog_ends_a_worker_that_loops_in_chromium() {
    check_hang(Family::Chromium).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watchdog_ends_a_worker_that_loops_in_firefox() {
    check_hang(Family::Firefox).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_says_nothing_for_too_long_is_ended_before_the_timeout() {
    let bench = bench(&[Family::Chromium], |settings| settings.silence_ms_max = 3_000).await;
    let request = WebRequest { timeout: Duration::from_mins(1), ..hanging() };
    let error = run(&bench, request).await.expect_err("it hangs");
    assert!(matches!(error, WebError::Silent { silence_ms: 3_000, .. }), "{error}");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_frees_the_slot() {
    let bench = bench(&[Family::Chromium], |_| {}).await;
    let cancel = CancellationToken::new();
    let error = bench.pool.run(endless(Platform::Wasm), &cancel, &|_| cancel.cancel()).await.expect_err("cancelled");
    assert_eq!((error.failure_kind(), bench.pool.status().running), (FailureKind::Cancelled, 0), "{error}");
    run(&bench, mixer(Platform::Wasm)).await.expect("the slot is free");
    bench.end().await;
}

/// Kills what `victims` finds while a job is timed; the job must come to its end all the same, with `rung` on the way.
async fn check_killed(family: Family, platform: Platform, victims: &str, rung: &str) {
    let bench = bench(&[family], |_| {}).await;
    let pool = pool_id(bench.directory.path());
    let timed = Notify::new();
    let request = WebRequest { duration_ms_max: u64::try_from(TIMED.as_millis()).expect("small"), ..endless(platform) };
    let killing = async {
        timed.notified().await;
        let pids = processes(&pool, victims);
        assert!(!pids.is_empty(), "no process has `{victims}`");
        pids.into_iter().for_each(kill);
    };
    let running = async { bench.pool.run(request, &CancellationToken::new(), &|_| timed.notify_one()).await };
    let (ran, ()) = tokio::join!(running, killing);
    let ran = ran.unwrap_or_else(|error| panic!("{victims}: {error}"));
    assert!(ran.recoveries[0].starts_with(rung), "{:?}", ran.recoveries);
    let counted: u64 = bench.pool.status().counters.recoveries.iter().map(|(_, count)| count).sum();
    assert_eq!(counted, ran.recoveries.len() as u64, "each step is counted");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_survives_its_renderer() {
    check_killed(Family::Chromium, Platform::Wasm, "--type=renderer", "new tab").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_survives_the_gpu_process() {
    check_killed(Family::Chromium, Platform::Webgpu, "--type=gpu-process", "reload").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_survives_its_browser() {
    check_killed(Family::Chromium, Platform::Wasm, "--user-data-dir", "new browser").await;
}

/// geckodriver tells Firefox to quit when a page of it dies.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_survives_the_pages_of_firefox() {
    check_killed(Family::Firefox, Platform::Wasm, "-isForBrowser", "new browser").await;
}

/// Nothing that a job does needs the driver while it runs, so its death is noticed afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_driver_takes_no_job_along_and_leaves_no_browser() {
    let bench = bench(&[Family::Chromium], |_| {}).await;
    let pool = pool_id(bench.directory.path());
    run(&bench, mixer(Platform::Wasm)).await.expect("it runs");
    let before = marked(&pool);
    processes(&pool, "chromedriver").into_iter().for_each(kill);
    while !processes(&pool, "chromedriver").is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let ran = run(&bench, mixer(Platform::Wasm)).await.expect("it runs");
    assert!(ran.recoveries.len() <= 1, "{:?}", ran.recoveries);
    // A page needs no driver, so the job may have been done before the pool saw that it was gone.
    let gone = async {
        while marked(&pool).intersection(&before).next().is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(GONE_MAX, gone).await.expect("the browser of the dead driver is left");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_under_which_three_tabs_die_is_poison() {
    let bench = bench(&[Family::Chromium], |_| {}).await;
    let pool = pool_id(bench.directory.path());
    let is_over = AtomicBool::new(false);
    let timed = Notify::new();
    let killing = async {
        while !is_over.load(Ordering::Relaxed) {
            tokio::select! {
                () = timed.notified() => processes(&pool, "--type=renderer").into_iter().for_each(kill),
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
        }
    };
    let running = async {
        let ended = bench.pool.run(endless(Platform::Wasm), &CancellationToken::new(), &|_| timed.notify_one()).await;
        is_over.store(true, Ordering::Relaxed);
        ended
    };
    let (ended, ()) = tokio::join!(running, killing);
    let error = ended.expect_err("poison");
    let WebError::Poison { deaths } = &error else { panic!("{error}") };
    assert_eq!(deaths.len(), 3, "{error}");
    assert!(error.is_poison() && error.is_charged() && !error.failure_kind().is_retryable());
    bench.end().await;
}

/// The environment variable that makes [`holder`] hold a pool in that directory.
const HOLD: &str = "AUGUR_TEST_HOLD_POOL";

/// Not a test of its own: holds a pool until it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn holder() {
    let Some(directory) = std::env::var_os(HOLD).map(PathBuf::from) else { return };
    let _pool = Pool::start(settings(&directory, &[Family::Chromium, Family::Firefox])).await.expect("a pool");
    println!("\nholding");
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_daemon_leaves_is_ended_by_the_next_start() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut daemon = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "broken::holder", "--nocapture"])
        .env(HOLD, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test again");
    let lines = BufReader::new(daemon.stdout.take().expect("piped")).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "holding"), "it starts");
    let pool = pool_id(directory.path());
    let in_use = Pool::start(settings(directory.path(), &[])).await.expect_err("one pool at a time");
    assert!(in_use.to_string().starts_with("another pool uses"), "{in_use}");
    daemon.kill().expect("it is ours");
    daemon.wait().expect("it is ours");
    let left = marked(&pool);
    assert!(left.len() > 4, "two browsers outlive their daemon: {left:?}");

    let next = Pool::start(settings(directory.path(), &[])).await.expect("a pool");
    assert!(next.status().counters.reaped >= left.len() as u64);
    assert_eq!(marked(&pool), BTreeSet::new());
    next.stop().await;
}
