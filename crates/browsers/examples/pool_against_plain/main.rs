//! What the pool saves: a cold job, a warm session, a warm model, and jobs per second, against plain thirtyfour, which
//! starts a browser for each job and closes it again.
//!
//! `cargo run --release --workspace --example pool_against_plain [-- JOBS]` prints one JSON object; both sides run the
//! same model with the same runtime in the same browser, one job at a time.

mod plain;

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use browsers::{BrowserSettings, Family, InputTensor, ModelFile, Pool, PoolSettings, WebRequest, WebRun};
use messages::{ContentHash, Platform, Precision, Priority};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

/// Jobs of each kind, if the command line names no number.
const JOBS: usize = 5;

/// Iterations per job, timed or not, on both sides.
const ITERATIONS: u32 = 10;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let jobs = env::args().nth(1).map_or(Ok(JOBS), |text| text.parse())?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/mixer.onnx");
    let plain_ms = plain::jobs(&path, &runtime()?, ITERATIONS, jobs).await?;
    let request = request(&path)?;
    let mut cold_ms = Vec::new();
    let mut warm_session_ms = Vec::new();
    let mut warm_model_ms = Vec::new();
    let mut added_ms = Vec::new();
    for _ in 0..jobs {
        // A new state directory, so that the verification is part of the cold job, as it is for a new model.
        let directory = tempfile::tempdir()?;
        let pool = Pool::start(settings(directory.path())?).await?;
        let (ms, run) = timed(&pool, &other_model(&request, 1)).await?;
        warm_session_ms.push(ms);
        drop(run);
        let key = timed(&pool, &request).await?;
        drop(key);
        for _ in 0..jobs {
            let (ms, run) = timed(&pool, &request).await?;
            added_ms.push(ms - run.phases.total_ms);
            warm_model_ms.push(ms);
        }
        pool.stop().await;
        cold_ms.push(cold(&request).await?);
    }
    let warm_ms = median(&mut warm_model_ms);
    let report = json!({
        "jobs": jobs,
        "plain_thirtyfour_job_ms": median(&mut plain_ms.clone()),
        "cold_pool_and_job_ms": median(&mut cold_ms),
        "new_model_in_running_browser_ms": median(&mut warm_session_ms),
        "warm_model_ms": warm_ms,
        "added_by_pool_to_warm_job_ms": median(&mut added_ms),
        "jobs_per_second_warm": 1e3 / warm_ms,
        "jobs_per_second_plain": 1e3 / median(&mut plain_ms.clone()),
    });
    println!("{report:#}");
    Ok(())
}

/// From nothing to a result: pool, browser, probes, verification, model.
async fn cold(request: &WebRequest) -> Result<f64, AnyError> {
    let directory = tempfile::tempdir()?;
    let began = Instant::now();
    let pool = Pool::start(settings(directory.path())?).await?;
    timed(&pool, request).await?;
    let ms = began.elapsed().as_secs_f64() * 1e3;
    pool.stop().await;
    Ok(ms)
}

async fn timed(pool: &Pool, request: &WebRequest) -> Result<(f64, WebRun), AnyError> {
    let began = Instant::now();
    let run = pool.run(request.clone(), &CancellationToken::new(), &|_| {}).await?;
    Ok((began.elapsed().as_secs_f64() * 1e3, run))
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

fn request(path: &Path) -> Result<WebRequest, AnyError> {
    let bytes = fs::read(path)?;
    let x = (0_u8..32).flat_map(|index| f32::from(index).to_le_bytes()).collect();
    Ok(WebRequest {
        model: ModelFile {
            name: "mixer".to_owned(),
            family: None,
            sha256: ContentHash(Sha256::digest(&bytes).into()),
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
    })
}

/// The same file for another session: the pool keys sessions by threads too.
fn other_model(request: &WebRequest, threads: u32) -> WebRequest {
    WebRequest { threads: threads + 1, ..request.clone() }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
