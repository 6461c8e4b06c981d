//! What breaks: models that never end, killed renderers, GPU processes, drivers and browsers, a killed daemon.
//!
//! A start of browsers costs seconds, so what a pool survives is tried in one pool, one after the other.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use browsers::{BreakerSettings, Family, Pool, WebError, WebRequest, WebRun};
use messages::{FailureKind, Platform, Warmth};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use testkit::BrowserProcesses;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::support::{
    Bench, MIXER_OUTPUT, alone, bench, endless, floats, gather, mixer, settings, timed_for_long, until,
};

/// Longest that a job may hold its slot beyond its timeout.
const BEYOND_MAX: Duration = Duration::from_secs(5);

/// How long a job that is timed goes on once its browser was broken and mended.
const TIMED: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn chromium_is_mended_whatever_breaks() {
    let bench = bench(&[Family::Chromium], |_| {}).await;
    cancelling_frees_the_slot(&bench).await;
    a_model_that_never_ends_is_ended(&bench).await;
    check_killed(&bench, Platform::Wasm, "--type=renderer", "new tab").await;
    check_killed(&bench, Platform::Webgpu, "--type=gpu-process", "reload").await;
    check_killed(&bench, Platform::Wasm, "--user-data-dir", "new browser").await;
    a_killed_driver_takes_no_job_along_and_leaves_no_browser(&bench).await;
    a_browser_that_hangs_is_ended_with_its_job(&bench).await;
    a_death_takes_no_time_from_the_job(&bench).await;
    // Last: it may leave the breaker open.
    a_job_under_which_three_tabs_die_is_poison(&bench).await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn firefox_is_mended_whatever_breaks() {
    let bench = bench(&[Family::Firefox], |_| {}).await;
    a_model_that_never_ends_is_ended(&bench).await;
    // geckodriver tells Firefox to quit when a page of it dies.
    // Where it takes its time, that begins with a new tab.
    check_killed(&bench, Platform::Wasm, "-isForBrowser", "new ").await;
    bench.end().await;
}

/// Two deaths of one browser are enough: the job goes on in another, and a probe, not a job, finds the first well again.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_moves_to_the_other_browser_and_the_first_comes_back() {
    let bench = bench(&[Family::Chromium, Family::Firefox], |settings| {
        settings.breaker = BreakerSettings { failures_to_open: 2, open_ms: 500, open_ms_max: 500 };
    })
    .await;
    let browsers = vec!["chromium".to_owned(), "firefox".to_owned()];
    let request = WebRequest { browsers, ..timed_for_long(Platform::Wasm) };
    let (ran, rungs) = killed_twice(&bench, request, "--user-data-dir").await;
    assert_eq!((ran.browser.as_str(), rungs.as_str()), ("firefox", "new browser, other browser"));

    let breaker =
        || bench.pool.status().breakers.into_iter().find(|of| of.browser == "chromium" && of.platform == "wasm");
    assert_eq!(breaker().expect("it was asked").opened, 1);
    until("the trial closes it", || breaker().is_some_and(|breaker| breaker.state == "closed")).await;
    let back = bench.run(WebRequest { browsers: vec!["chromium".to_owned()], ..mixer(Platform::Wasm) }).await;
    assert_eq!(back.expect("it is well").recoveries, [""; 0]);
    bench.end().await;
}

/// Runs a job of which `victims` are killed twice, whenever it is timed; gives its own steps of the ladder, too.
async fn killed_twice(bench: &Bench, request: WebRequest, victims: &str) -> (WebRun, String) {
    let (before, killed) = (recoveries(bench), AtomicU64::new(0));
    let kill_twice = |_| {
        let deaths = killed.load(Ordering::Relaxed);
        // One death at a time: progress of what is just dying comes late.
        if deaths < 2 && recoveries(bench) >= before + deaths && bench.processes().kill(victims) > 0 {
            killed.fetch_add(1, Ordering::Relaxed);
        }
    };
    let request = WebRequest { duration_ms_max: u64::try_from(TIMED.as_millis()).expect("small"), ..request };
    let ran = bench.pool.run(request, &CancellationToken::new(), &kill_twice).await.expect("two deaths are no poison");
    let own = ran.recoveries.iter().filter(|step| !step.ends_with("while idle"));
    let rungs: Vec<&str> = own.filter_map(|step| step.split(" after ").next()).collect();
    let rungs = rungs.join(", ");
    (ran, rungs)
}

/// Steps of the ladder so far.
fn recoveries(bench: &Bench) -> u64 {
    bench.pool.status().counters.recoveries.iter().map(|(_, count)| count).sum()
}

/// Nobody in the page can end its loop: it is ended from outside, and the slot is free.
async fn a_model_that_never_ends_is_ended(bench: &Bench) {
    let request = endless();
    let began = Instant::now();
    let error = bench.run(request.clone()).await.expect_err("it has no end");
    let WebError::TimedOut { browser, platform: Platform::Wasm, timeout_ms: 9_000, phase } = &error else {
        panic!("{error}")
    };
    assert_eq!(phase, "first-run");
    assert!(error.to_string().contains(browser.as_str()), "{error}");
    assert!(began.elapsed() < request.timeout + BEYOND_MAX, "{:?}", began.elapsed());
    assert_eq!((error.failure_kind(), bench.pool.status().running), (FailureKind::TimedOut, 0));
    let next = bench.run(mixer(Platform::Wasm)).await.expect("the slot is free");
    // A tab that closes too slowly takes its browser along.
    assert!(next.recoveries.len() <= 1, "{:?}", next.recoveries);
}

async fn cancelling_frees_the_slot(bench: &Bench) {
    let cancel = CancellationToken::new();
    let error = bench.pool.run(timed_for_long(Platform::Wasm), &cancel, &|_| cancel.cancel()).await;
    let error = error.expect_err("cancelled");
    assert_eq!((error.failure_kind(), bench.pool.status().running), (FailureKind::Cancelled, 0), "{error}");
    bench.run(mixer(Platform::Wasm)).await.expect("the slot is free");
}

/// Kills what `victims` finds while a job is timed; the job must come to its end all the same, with `rung` on the way
/// and the right numbers.
async fn check_killed(bench: &Bench, platform: Platform, victims: &str, rung: &str) {
    let (before, timed) = (recoveries(bench), Notify::new());
    let duration_ms_max = u64::try_from(TIMED.as_millis()).expect("small");
    let request = WebRequest { duration_ms_max, keep_outputs: true, ..timed_for_long(platform) };
    let killing = async {
        timed.notified().await;
        assert!(bench.processes().kill(victims) > 0, "no process has `{victims}`");
    };
    let running = async { bench.pool.run(request, &CancellationToken::new(), &|_| timed.notify_one()).await };
    let (ran, ()) = tokio::join!(running, killing);
    let ran = ran.unwrap_or_else(|error| panic!("{victims}: {error}"));
    // What was idle died as well, and may have been found dead first.
    let first = ran.recoveries.iter().find(|step| !step.ends_with("while idle")).expect("it was mended");
    assert!(first.starts_with(rung), "{:?}", ran.recoveries);
    assert_eq!(recoveries(bench) - before, ran.recoveries.len() as u64, "each step is counted");
    let computed = floats(&ran.outputs[0].bytes);
    assert!(computed.iter().zip(MIXER_OUTPUT).all(|(a, b)| (a - b).abs() < 1e-4), "{computed:?}");
}

/// Nothing that a job does needs the driver while it runs, so its death is noticed afterwards.
async fn a_killed_driver_takes_no_job_along_and_leaves_no_browser(bench: &Bench) {
    let mut processes = bench.processes();
    let before = processes.alive();
    processes.kill("chromedriver");
    until("the driver is gone", || processes.with("chromedriver").is_empty()).await;
    let ran = bench.run(mixer(Platform::Wasm)).await.expect("it runs");
    assert!(ran.recoveries.len() <= 1, "{:?}", ran.recoveries);
    // A page needs no driver, so the job may have been done before the pool saw that it was gone.
    until("the browser of the dead driver is gone", || processes.alive().is_disjoint(&before)).await;
}

/// A job has all of its time in each browser: one that dies takes none of it along.
async fn a_death_takes_no_time_from_the_job(bench: &Bench) {
    bench.run(mixer(Platform::Wasm)).await.expect("a warm browser, so that the time goes to the job");
    let request = WebRequest { timeout: Duration::from_secs(5), ..timed_for_long(Platform::Wasm) };
    let (killed_at, timeout) = (OnceLock::new(), request.timeout);
    let kill_once = |_| {
        killed_at.get_or_init(|| {
            assert!(bench.processes().kill("--user-data-dir") > 0, "no browser runs");
            Instant::now()
        });
    };
    let error = bench.pool.run(request, &CancellationToken::new(), &kill_once).await.expect_err("it goes on for long");
    let after = killed_at.get().expect("it was timed").elapsed();
    assert!(after >= timeout, "{error} {after:?} after its browser had died");
}

/// Nobody of a browser that hangs answers, its driver neither: both are killed once the job's time is over.
async fn a_browser_that_hangs_is_ended_with_its_job(bench: &Bench) {
    bench.run(mixer(Platform::Wasm)).await.expect("a warm browser, so that the job is timed early");
    let request = WebRequest { timeout: Duration::from_secs(5), ..timed_for_long(Platform::Wasm) };
    let (began, timeout, hanging) = (Instant::now(), request.timeout, OnceLock::new());
    let stop_all = |_| {
        hanging.get_or_init(|| {
            let pids = bench.processes().alive();
            for pid in &pids {
                let sent = kill(Pid::from_raw(*pid), Signal::SIGSTOP);
                assert!(matches!(sent, Ok(()) | Err(Errno::ESRCH)), "cannot stop {pid}: {sent:?}");
            }
            pids
        });
    };
    let error = bench.pool.run(request, &CancellationToken::new(), &stop_all).await.expect_err("it hangs");
    assert!(began.elapsed() < timeout + BEYOND_MAX, "{:?}", began.elapsed());
    assert!(matches!(error, WebError::TimedOut { .. }), "{error}");
    let status = bench.pool.status();
    assert_eq!(status.running, 0, "the slot is free");
    assert!(Duration::from_millis(status.counters.held_beyond_ms_max) <= BEYOND_MAX, "{:?}", status.counters);
    let mut processes = bench.processes();
    let hung = hanging.get().expect("it was timed");
    assert!(!hung.is_empty(), "nobody was stopped");
    until("those that hang are gone", || processes.alive().is_disjoint(hung)).await;
    bench.run(mixer(Platform::Wasm)).await.expect("another browser is started");
}

async fn a_job_under_which_three_tabs_die_is_poison(bench: &Bench) {
    let (is_over, timed) = (AtomicBool::new(false), Notify::new());
    let started_before = bench.pool.status().counters.sessions_started;
    let killing = async {
        let mut processes = bench.processes();
        while !is_over.load(Ordering::Relaxed) {
            tokio::select! {
                () = timed.notified() => drop(processes.kill("--type=renderer")),
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
        }
    };
    let running = async {
        let request = timed_for_long(Platform::Wasm);
        let ended = bench.pool.run(request, &CancellationToken::new(), &|_| timed.notify_one()).await;
        is_over.store(true, Ordering::Relaxed);
        ended
    };
    let (ended, ()) = tokio::join!(running, killing);
    let error = ended.expect_err("poison");
    let WebError::Poison { deaths } = &error else { panic!("{error}") };
    assert_eq!(deaths.len(), 3, "{error}");
    assert!(error.is_poison() && error.is_charged() && !error.failure_kind().is_retryable());
    let status = bench.pool.status();
    assert!(status.counters.sessions_started > started_before, "the last time it had a browser of its own");
    let breaker = status.breakers.iter().find(|of| (of.browser.as_str(), of.platform.as_str()) == ("chromium", "wasm"));
    assert!(breaker.is_some_and(|breaker| breaker.opened > 0), "{:?}", status.breakers);
}

/// Limits that are reached at once: silence, an idle tab, an idle browser.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_silent_is_ended_and_what_is_idle_is_let_go() {
    let bench = bench(&[Family::Chromium], |settings| {
        settings.silence_ms_max = 5_000;
        settings.idle_tab_ms_max = 1_000;
        settings.idle_session_ms_max = 8_000;
    });
    let bench = bench.await;
    let request = WebRequest { timeout: Duration::from_mins(1), ..endless() };
    let error = bench.run(request).await.expect_err("it says nothing");
    assert!(matches!(error, WebError::Silent { silence_ms: 5_000, .. }), "{error}");

    let sessions = || bench.pool.status().sessions;
    let holds_models = || sessions().iter().any(|session| session.tabs.iter().any(|tab| tab.model.is_some()));
    let mut cached = mixer(Platform::Wasm);
    let copy = bench.directory.path().join("copy.onnx");
    std::fs::copy(&cached.model.path, &copy).expect("copied");
    cached.model.path.clone_from(&copy);
    bench.run(cached.clone()).await.expect("the slot is free");
    until("the idle tab is closed", || !holds_models()).await;
    std::fs::remove_file(copy).expect("it is ours");
    let ran = bench.run(cached).await.expect("the browser has the model in its cache");
    assert!(ran.warmth != Warmth::WarmModel && ran.recoveries.is_empty(), "{:?} {:?}", ran.warmth, ran.recoveries);
    until("the idle tab is closed again", || !holds_models()).await;
    let mut processes = bench.processes();
    until("the idle browser is ended", || sessions().is_empty() && processes.alive().is_empty()).await;
    assert_eq!(bench.pool.status().counters.sessions_recycled, 0);
    let ran = bench.run(mixer(Platform::Wasm)).await.expect("another browser is started");
    assert_eq!((ran.warmth, &ran.recoveries[..]), (Warmth::ColdBrowser, &[][..]));
    bench.end().await;
}

/// Any browser has more than one megabyte.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_above_the_memory_limit_is_replaced_once_it_is_idle() {
    let bench = bench(&[Family::Chromium], |settings| settings.session_memory_mb_max = 1).await;
    let status = || bench.pool.status();
    until("the browser of the probes is ended", || status().sessions.is_empty()).await;
    let before = status().counters.sessions_recycled;
    let request = WebRequest { duration_ms_max: 2_500, ..timed_for_long(Platform::Wasm) };
    let ran = bench.run(request).await.expect("a browser with a job in it is left alone");
    assert_eq!((ran.warmth, &ran.recoveries[..]), (Warmth::ColdBrowser, &[][..]));
    assert!(ran.memory_peak_mb > Some(1.0), "{:?}", ran.memory_peak_mb);
    until("the browser of the job is ended", || status().sessions.is_empty()).await;
    assert_eq!(status().counters.sessions_recycled, before + 1);
    Box::pin(a_browser_that_is_never_idle_is_weighed_as_well(&bench)).await;
    until("it is ended once it is idle", || status().sessions.is_empty()).await;
    assert_eq!(status().counters.sessions_recycled, before + 2);
    bench.end().await;
}

/// A job's own look at the memory counts, though another runs beside it: the browser takes no more of them.
async fn a_browser_that_is_never_idle_is_weighed_as_well(bench: &Bench) {
    let (cancel, timed) = (CancellationToken::new(), Notify::new());
    let request = timed_for_long(Platform::Wasm);
    let running = async { bench.pool.run(request, &cancel, &|_| timed.notify_one()).await };
    let beside = async {
        timed.notified().await;
        bench.run(gather(Platform::Wasm)).await.expect("there is room for a tab");
        until("it retires", || bench.pool.status().sessions.iter().any(|session| session.state == "retiring")).await;
        cancel.cancel();
    };
    let (ended, ()) = tokio::join!(running, beside);
    let error = ended.expect_err("cancelled, and not before");
    assert_eq!(error.failure_kind(), FailureKind::Cancelled, "{error}");
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
    let _alone = alone().await;
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut daemon = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "broken::holder", "--nocapture"])
        .env(HOLD, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test again");
    let lines = BufReader::new(daemon.stdout.take().expect("piped")).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "holding"), "it starts");
    let mut processes = BrowserProcesses::of_pool(directory.path()).expect("a pool is here");
    let in_use = Pool::start(settings(directory.path(), &[])).await.expect_err("one pool at a time");
    assert!(in_use.to_string().starts_with("another pool uses"), "{in_use}");
    daemon.kill().expect("it is ours");
    daemon.wait().expect("it is ours");
    let left = processes.alive();
    assert!(left.len() > 4, "two browsers outlive their daemon: {left:?}");

    let next = Pool::start(settings(directory.path(), &[])).await.expect("a pool");
    assert!(next.status().counters.reaped > 4, "{:?}", next.status().counters);
    until("nobody is left", || processes.alive().is_empty()).await;
    next.stop().await;
}
