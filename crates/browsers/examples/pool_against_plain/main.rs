//! What the pool saves: a cold job, a warm session, a warm model, and jobs per second, against plain thirtyfour, which
//! starts a browser for each job, or keeps one and loads a page for each job.
//!
//! `cargo run --release --workspace --example pool_against_plain [-- ROUNDS [JOBS]]` prints one JSON object of medians.
//! All sides run the same model, as WebAssembly, with the same runtime in the same Chromium. A round measures each side
//! once, so that noise hits all alike; what stays warm does so for a round.

mod plain;

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use browsers::{BrowserSettings, Family, InputTensor, ModelFile, Pool, PoolSettings, WebRequest};
use futures_util::future::try_join_all;
use messages::{ContentHash, Platform, Precision, Priority, Warmth};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

/// Rounds and warm jobs of each, if the command line names no number.
const ROUNDS: usize = 5;
const JOBS: usize = 20;

/// Iterations per job on every side, beside the first.
const ITERATIONS: u32 = 10;

/// Tabs of the pool.
const TABS: usize = 3;

/// Models in turn: more than there are tabs, so that each finds its tab closed.
const MODELS: usize = TABS + 2;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// What was measured, in milliseconds per job.
#[derive(Debug, Default, Serialize)]
struct Samples {
    /// From nothing: pool, browser, probes, verification, model, and the first result.
    cold: Vec<f64>,
    /// A model that this machine never saw, in a browser that runs: verification, model, result.
    new_model: Vec<f64>,
    /// A model that was seen before, and whose tab is closed.
    warm_session: Vec<f64>,
    /// A model that a tab holds.
    warm_model: Vec<f64>,
    /// Of these, what passed outside the page.
    added_to_warm_model: Vec<f64>,
    /// As many warm models at once as there are tabs, per job.
    warm_models_at_once: Vec<f64>,
    /// Plain thirtyfour, driver and browser for each job.
    plain_cold: Vec<f64>,
    /// Plain thirtyfour, page for each job in a browser that runs.
    plain_page: Vec<f64>,
}

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let number = |at: usize, usual: usize| env::args().nth(at).map_or(Ok(usual), |text| text.parse());
    let (rounds, jobs) = (number(1, ROUNDS)?, number(2, JOBS)?);
    let models = tempfile::tempdir()?;
    let requests = requests(models.path())?;
    let mut samples = Samples::default();
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        plain_round(&mut samples, &requests[0].model.path, jobs).await?;
        pool_round(&mut samples, &requests, jobs).await?;
    }
    println!("{:#}", report(&mut samples, rounds, jobs));
    Ok(())
}

async fn plain_round(samples: &mut Samples, model: &Path, jobs: usize) -> Result<(), AnyError> {
    let server = plain::Server::start(model, &runtime()?).await?;
    let began = Instant::now();
    let browser = plain::Browser::start().await?;
    browser.job(&server, ITERATIONS).await?;
    browser.end().await?;
    samples.plain_cold.push(ms_since(began));
    let browser = plain::Browser::start().await?;
    browser.job(&server, ITERATIONS).await?;
    for _ in 0..jobs {
        let began = Instant::now();
        browser.job(&server, ITERATIONS).await?;
        samples.plain_page.push(ms_since(began));
    }
    browser.end().await
}

async fn pool_round(samples: &mut Samples, requests: &[WebRequest], jobs: usize) -> Result<(), AnyError> {
    // A new state directory, so that the verification is part of the cold job, as it is for a new model.
    let directory = tempfile::tempdir()?;
    let began = Instant::now();
    let pool = Pool::start(settings(directory.path())?).await?;
    run(&pool, &requests[0], Warmth::WarmPage).await?;
    samples.cold.push(ms_since(began));
    for request in &requests[1..] {
        samples.new_model.push(run(&pool, request, Warmth::WarmSession).await?.0);
    }
    for request in requests {
        samples.warm_session.push(run(&pool, request, Warmth::WarmSession).await?.0);
    }
    let held = &requests[MODELS - TABS..];
    for request in held.iter().cycle().take(jobs) {
        let (ms, outside_ms) = run(&pool, request, Warmth::WarmModel).await?;
        samples.warm_model.push(ms);
        samples.added_to_warm_model.push(outside_ms);
    }
    for _ in 0..jobs.div_ceil(TABS) {
        let began = Instant::now();
        try_join_all(held.iter().map(|request| run(&pool, request, Warmth::WarmModel))).await?;
        samples.warm_models_at_once.push(ms_since(began) / TABS as f64);
    }
    pool.stop().await;
    Ok(())
}

/// Runs a job that must find the pool this warm; gives how long it took and how much of that was not the page's.
async fn run(pool: &Pool, request: &WebRequest, warmth: Warmth) -> Result<(f64, f64), AnyError> {
    let began = Instant::now();
    let run = pool.run(request.clone(), &CancellationToken::new(), &|_| {}).await?;
    let ms = ms_since(began);
    // A spare tab may be open already: it is as empty as a new one.
    let is_as_expected = run.warmth == warmth || (warmth, run.warmth) == (Warmth::WarmSession, Warmth::WarmPage);
    if !is_as_expected || !run.recoveries.is_empty() {
        return Err(format!("a {warmth} job found {} and {:?}", run.warmth, run.recoveries).into());
    }
    Ok((ms, ms - run.phases.total_ms))
}

fn report(samples: &mut Samples, rounds: usize, jobs: usize) -> serde_json::Value {
    let Samples { cold, new_model, warm_session, warm_model, added_to_warm_model, .. } = samples;
    let (cold_ms, warm_ms) = (median(cold), median(warm_model));
    let plain_page_ms = median(&mut samples.plain_page);
    json!({
        "rounds": rounds,
        "warm_jobs_per_round": jobs,
        "cold_job_ms": cold_ms,
        "new_model_ms": median(new_model),
        "warm_session_ms": median(warm_session),
        "warm_model_ms": warm_ms,
        "cold_by_warm": cold_ms / warm_ms,
        "added_by_pool_to_warm_job_ms": median(added_to_warm_model),
        "plain_browser_per_job_ms": median(&mut samples.plain_cold),
        "plain_page_per_job_ms": plain_page_ms,
        "jobs_per_second": {
            "pool_one_at_a_time": 1e3 / warm_ms,
            "pool_three_at_once": 1e3 / median(&mut samples.warm_models_at_once),
            "plain_browser_per_job": 1e3 / median(&mut samples.plain_cold),
            "plain_page_per_job": 1e3 / plain_page_ms,
        },
    })
}

fn settings(directory: &Path) -> Result<PoolSettings, AnyError> {
    Ok(PoolSettings {
        ort_web_directory: Some(runtime()?),
        browsers: vec![BrowserSettings::usual("chromium", Family::Chromium)],
        ..PoolSettings::usual(directory.to_owned())
    })
}

fn runtime() -> Result<PathBuf, AnyError> {
    let path = env::var_os("AUGUR_ORT_WEB_DIRECTORY").ok_or("ONNX Runtime Web is not set up; run deploy/setup.sh")?;
    Ok(path.into())
}

/// One small model under several hashes: field 6 of ONNX's `ModelProto` is its documentation.
fn requests(directory: &Path) -> Result<Vec<WebRequest>, AnyError> {
    let mixer = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/mixer.onnx"))?;
    let copy = |number: u8| {
        let bytes = [&mixer[..], &[0x32, 1, b'a' + number]].concat();
        let path = directory.join(format!("{number}.onnx"));
        fs::write(&path, &bytes)?;
        Ok(request(&path, &bytes))
    };
    (0_u8..).take(MODELS).map(copy).collect()
}

fn request(path: &Path, bytes: &[u8]) -> WebRequest {
    let x = (0_u8..32).flat_map(|index| f32::from(index).to_le_bytes()).collect();
    WebRequest {
        model: ModelFile {
            name: "mixer".to_owned(),
            family: None,
            sha256: ContentHash(Sha256::digest(bytes).into()),
            path: path.to_owned(),
            bytes: bytes.len() as u64,
        },
        inputs: vec![InputTensor { name: "x".to_owned(), element: "float32".to_owned(), dims: vec![2, 16], bytes: x }],
        platforms: vec![Platform::Wasm],
        browsers: Vec::new(),
        precision: Precision::Fp32,
        threads: 1,
        warmup_iterations: 1,
        iterations_min: ITERATIONS,
        iterations_max: ITERATIONS,
        median_interval_pct: 5.0,
        duration_ms_max: 10_000,
        timeout: Duration::from_mins(2),
        memory_mb: None,
        priority: Priority::Normal,
        keep_outputs: false,
    }
}

fn ms_since(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
