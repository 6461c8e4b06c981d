//! `augur browsers bench`: models in this machine's browsers, several at once, as numbers and as a picture.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use clap::Args;
use futures_util::future::join_all;
use messages::{
    Backend, BenchmarkSpec, Configuration, Dispatch, FailureKind, Job, JobId, JobSpec, LatencySummary, ModelRef,
    Origin, Outcome, Platform, Precision, Priority, RunId, RunRef, Timestamp, WebSpec,
};
use pipeline::resolve_shape;
use runner::WebRunner;
use serde::Serialize;
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    exit::Exit,
    output,
    plots::{Bar, Bars, Plot},
    shutdown,
};

#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    /// Models by name.
    #[arg(long, value_delimiter = ',', required = true)]
    models: Vec<String>,
    /// Timed iterations of each job.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(BenchmarkSpec::ITERATIONS_LIMIT)))]
    iterations: u32,
    /// Jobs at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    concurrent: u32,
    /// How often each model is measured on each browser and platform: the first time is cold.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Platforms; whatever works if not given.
    #[arg(long, value_delimiter = ',')]
    platforms: Vec<Platform>,
    /// Browsers; all that work if not given.
    #[arg(long, value_delimiter = ',')]
    browsers: Vec<String>,
    /// Number formats, e.g. `fp32,fp16,int8,int4`. With several, a browser holds one model at a time, so that the memory
    /// is that of one.
    #[arg(long, alias = "precisions", value_delimiter = ',', default_value = "fp32")]
    precision: Vec<Precision>,
    #[arg(long, default_value_t = 1)]
    batch_size: u32,
    #[arg(long)]
    sequence_length: Option<u32>,
    #[arg(long)]
    image_size: Option<u32>,
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// How long one job may take, in seconds.
    #[arg(long, default_value_t = 300)]
    timeout_s: u64,
    /// Where the numbers go, as JSON; the picture goes beside them, under the same name with `.svg`.
    #[arg(long, default_value = "browsers-bench.json")]
    output: PathBuf,
}

/// One job of the benchmark.
#[derive(Debug, Clone, Serialize)]
struct Measured {
    round: u32,
    model: String,
    precision: String,
    /// Of the model's file.
    model_mb: f64,
    browser: String,
    browser_version: Option<String>,
    platform: String,
    adapter: Option<String>,
    is_fallback: Option<bool>,
    warmth: Option<String>,
    /// From its start to its end, its wait for a free tab included, in seconds.
    job_s: f64,
    fetch_ms: Option<f64>,
    session_ms: Option<f64>,
    first_run_ms: Option<f64>,
    latency_p50_ms: Option<f64>,
    latency_p90_ms: Option<f64>,
    latency_p99_ms: Option<f64>,
    throughput_items_per_second: Option<f64>,
    /// Of the whole browser, while the model was loaded and run.
    memory_peak_mb: Option<f64>,
    /// Time and memory as a part of those in fp32, of the same round in the same place.
    latency_of_fp32: Option<f64>,
    memory_of_fp32: Option<f64>,
    iterations: Option<usize>,
    nodes: BTreeMap<String, u32>,
    recoveries: Vec<String>,
    failure: Option<String>,
    /// Whether that is because there is no such thing here, as 16-bit floats on most adapters.
    is_unavailable: bool,
}

/// What is measured: a model in one format in one place.
struct Case {
    spec: WebSpec,
    model_mb: f64,
}

/// The benchmark's numbers.
#[derive(Debug, Serialize)]
struct Bench {
    iterations: u32,
    concurrent: u32,
    jobs: usize,
    failed: usize,
    wall_s: f64,
    jobs_per_second: f64,
    results: Vec<Measured>,
}

pub(super) async fn run(arguments: &BenchArguments, context: &Context) -> anyhow::Result<Exit> {
    if arguments.output.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("svg")) {
        bail!("--output is where the numbers go; the picture goes beside them");
    }
    let stop = shutdown::token()?;
    let mut settings = super::pool::settings(context)?;
    if arguments.precision.len() > 1 {
        settings.browsers.iter_mut().for_each(|browser| browser.tabs_max = 1);
    }
    let (pool, runner) = super::runner(context, settings).await?;
    let benched = bench(arguments, context, &runner, &stop).await;
    pool.stop().await;
    let bench = benched?;
    let numbers = serde_json::to_string_pretty(&bench)? + "\n";
    let path = &arguments.output;
    std::fs::write(path, numbers).with_context(|| format!("failed to write {}", path.display()))?;
    let picture = path.with_extension("svg");
    bars(&bench).write(&picture)?;
    output::print(&table(&bench.results).to_string())?;
    eprintln!(
        "{} jobs in {:.1} s, {:.2} per second, {} at once; numbers in {}, picture in {}",
        bench.jobs,
        bench.wall_s,
        bench.jobs_per_second,
        bench.concurrent,
        path.display(),
        picture.display()
    );
    Ok(if bench.failed == 0 { Exit::Done } else { Exit::Unwelcome })
}

async fn bench(
    arguments: &BenchArguments,
    context: &Context,
    runner: &WebRunner,
    stop: &CancellationToken,
) -> anyhow::Result<Bench> {
    let wanted = |(browser, platform): &(String, Platform)| {
        (arguments.browsers.is_empty() || arguments.browsers.contains(browser))
            && (arguments.platforms.is_empty() || arguments.platforms.contains(platform))
    };
    let places: Vec<_> = runner.places().into_iter().filter(wanted).collect();
    if places.is_empty() {
        bail!("no browser of this machine gives what was asked for; `augur browsers detect` says what there is");
    }
    let cases = cases(arguments, context, &places)?;
    let slots = Arc::new(Semaphore::new(arguments.concurrent as usize));
    let began = Instant::now();
    let mut results = Vec::new();
    for round in 1..=arguments.rounds {
        let jobs = cases.iter().map(|case| one(round, case, arguments, runner, &slots, stop));
        let mut of_round = join_all(jobs).await;
        compare_with_fp32(&mut of_round);
        results.extend(of_round);
        if stop.is_cancelled() {
            break;
        }
    }
    let wall_s = began.elapsed().as_secs_f64();
    Ok(Bench {
        iterations: arguments.iterations,
        concurrent: arguments.concurrent,
        jobs: results.len(),
        failed: results.iter().filter(|measured| measured.failure.is_some() && !measured.is_unavailable).count(),
        wall_s,
        jobs_per_second: results.len() as f64 / wall_s,
        results,
    })
}

/// Every model in every format in every place.
fn cases(arguments: &BenchArguments, context: &Context, places: &[(String, Platform)]) -> anyhow::Result<Vec<Case>> {
    let models = context.models()?;
    let mut cases = Vec::new();
    for (name, precision) in
        arguments.models.iter().flat_map(|name| arguments.precision.iter().map(move |of| (name, of)))
    {
        let cached = tokio::task::block_in_place(|| models.obtain(name, *precision))?;
        for (browser, platform) in places {
            let spec = spec(arguments, &cached.model, *precision, browser, *platform)?;
            cases.push(Case { spec, model_mb: cached.bytes as f64 / 1e6 });
        }
    }
    Ok(cases)
}

fn spec(
    arguments: &BenchArguments,
    model: &ModelRef,
    precision: Precision,
    browser: &str,
    platform: Platform,
) -> anyhow::Result<WebSpec> {
    let mut configuration = Configuration {
        model: model.clone(),
        platform,
        backend: Backend::OrtWeb,
        precision,
        batch_size: arguments.batch_size,
        sequence_length: arguments.sequence_length,
        image_size: arguments.image_size,
        threads: arguments.threads,
        browser: None,
    };
    resolve_shape(&mut configuration);
    let benchmark = BenchmarkSpec {
        iterations_min: arguments.iterations,
        iterations_max: arguments.iterations,
        duration_ms_max: arguments.timeout_s * 1_000,
        ..BenchmarkSpec::usual(configuration)
    };
    let spec = WebSpec::new(benchmark, vec![browser.to_owned()]);
    spec.validate()?;
    Ok(spec)
}

/// Runs one job when a slot is free.
async fn one(
    round: u32,
    case: &Case,
    arguments: &BenchArguments,
    runner: &WebRunner,
    slots: &Semaphore,
    stop: &CancellationToken,
) -> Measured {
    let _slot = slots.acquire().await.expect("the semaphore is never closed");
    let configuration = &case.spec.benchmark.configuration;
    let job = Job {
        job_id: JobId::new(),
        run: RunRef { run_id: RunId::new(), suite: "bench".to_owned(), jobs_total: 1, origin: Origin::Client },
        case: configuration.to_string(),
        priority: Priority::Normal,
        platform: configuration.platform,
        submitted_at: Timestamp::now(),
        timeout_ms: arguments.timeout_s * 1_000,
        dispatch: Dispatch::default(),
        spec: JobSpec::Web(Box::new(case.spec.clone())),
    };
    let began = Instant::now();
    let outcome = runner.run(&job, stop).await.outcome;
    let job_s = began.elapsed().as_secs_f64();
    let measured = measured(round, case, job_s, outcome);
    let failure = measured.failure.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
    eprintln!("round {round}: {}{failure}", job.case);
    measured
}

fn measured(round: u32, case: &Case, job_s: f64, outcome: Outcome) -> Measured {
    let asked = &case.spec.benchmark.configuration;
    let (web, failure) = match outcome {
        Outcome::Web(web) => (Some(*web), None),
        Outcome::Failed(failure) => (None, Some(failure)),
        Outcome::Benchmark(_) | Outcome::Test(_) => unreachable!("a web job has a web outcome"),
    };
    let web = web.as_ref();
    let latency = |of: fn(&LatencySummary) -> f64| web.map(|web| of(&web.benchmark.latency_ms));
    let adapter = web.and_then(|web| web.adapter.as_ref());
    Measured {
        round,
        model: asked.model.name.clone(),
        precision: asked.precision.to_string(),
        model_mb: case.model_mb,
        browser: asked.browser.clone().unwrap_or_default(),
        browser_version: web.map(|web| web.browser_version.clone()),
        platform: web.map_or(asked.platform, |web| web.platform).to_string(),
        adapter: adapter.map(messages::Adapter::name),
        is_fallback: adapter.map(|adapter| adapter.is_fallback),
        warmth: web.map(|web| web.warmth.to_string()),
        job_s,
        fetch_ms: web.map(|web| web.phases.fetch_ms),
        session_ms: web.map(|web| web.phases.session_ms),
        first_run_ms: web.map(|web| web.phases.first_run_ms),
        latency_p50_ms: latency(|latency| latency.p50),
        latency_p90_ms: latency(|latency| latency.p90),
        latency_p99_ms: latency(|latency| latency.p99),
        throughput_items_per_second: web.map(|web| web.benchmark.throughput_items_per_second),
        memory_peak_mb: web.and_then(|web| web.benchmark.memory_peak_mb),
        latency_of_fp32: None,
        memory_of_fp32: None,
        iterations: web.map(|web| web.benchmark.latency_ms.iterations.len()),
        nodes: web.map(|web| web.nodes.clone()).unwrap_or_default(),
        recoveries: web.map(|web| web.recoveries.clone()).unwrap_or_default(),
        is_unavailable: failure.as_ref().is_some_and(|failure| failure.kind == FailureKind::Unavailable),
        failure: failure.map(|failure| format!("{}: {}", failure.kind, failure.message)),
    }
}

/// Holds each other format against fp32.
fn compare_with_fp32(round: &mut [Measured]) {
    let fp32 = Precision::Fp32.to_string();
    let place = |row: &Measured| (row.model.clone(), row.browser.clone(), row.platform.clone());
    let numbers = |row: &Measured| (row.latency_p50_ms, row.memory_peak_mb);
    let usual: HashMap<_, _> =
        round.iter().filter(|row| row.precision == fp32).map(|row| (place(row), numbers(row))).collect();
    for row in round.iter_mut().filter(|row| row.precision != fp32) {
        let Some((latency_ms, memory_mb)) = usual.get(&place(row)) else { continue };
        row.latency_of_fp32 = row.latency_p50_ms.zip(*latency_ms).map(|(own, fp32)| own / fp32);
        row.memory_of_fp32 = row.memory_peak_mb.zip(*memory_mb).map(|(own, fp32)| own / fp32);
    }
}

fn table(results: &[Measured]) -> comfy_table::Table {
    let headings = [
        "round",
        "model",
        "precision",
        "file MB",
        "platform",
        "browser",
        "warmth",
        "p50 ms",
        "p99 ms",
        "items/s",
        "of fp32",
        "memory MB",
        "of fp32",
        "job s",
        "failure",
    ];
    let mut table = output::table(headings);
    for row in results {
        table.add_row([
            row.round.to_string(),
            row.model.clone(),
            row.precision.clone(),
            output::number(Some(row.model_mb)),
            platform(row),
            row.browser.clone(),
            output::text(row.warmth.as_ref()),
            output::number(row.latency_p50_ms),
            output::number(row.latency_p99_ms),
            output::number(row.throughput_items_per_second),
            output::number(row.latency_of_fp32),
            output::number(row.memory_peak_mb),
            output::number(row.memory_of_fp32),
            output::number(Some(row.job_s)),
            row.failure.clone().unwrap_or_default(),
        ]);
    }
    table
}

/// The platform; a GPU interface that computes on the processor says so.
fn platform(row: &Measured) -> String {
    let software = if row.is_fallback == Some(true) { " (on the processor)" } else { "" };
    format!("{}{software}", row.platform)
}

/// The last round's medians with the range from them to the 90th percentile.
fn bars(bench: &Bench) -> Bars {
    let last = bench.results.iter().map(|row| row.round).max().unwrap_or_default();
    let bar = |row: &Measured| {
        let (median, p90) = (row.latency_p50_ms?, row.latency_p90_ms?);
        Some(Bar {
            name: format!("{} {} {} in {}", row.model, row.precision, platform(row), row.browser),
            value: median,
            interval: Some((median, p90)),
            note: row.warmth.clone().unwrap_or_default(),
        })
    };
    Bars {
        title: format!("Latency in browsers, {} iterations, {} at once", bench.iterations, bench.concurrent),
        axis: "median latency of a batch, ms; whiskers to the 90th percentile".to_owned(),
        rows: bench.results.iter().filter(|row| row.round == last).filter_map(bar).collect(),
    }
}
