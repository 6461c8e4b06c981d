//! Runs web jobs: finds the model, fills its inputs, has the browser pool measure, and says on what that was.

mod device;

use std::{
    num::NonZero,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use browsers::{InputTensor, ModelFile, Pool, WebError, WebRequest, WebRun};
use hardware::LeaseMode;
use messages::{
    BenchmarkOutcome, BenchmarkSpec, Device, Failure, FailureKind, Job, JobSpec, LatencySummary, Outcome, Platform,
    Progress, WebOutcome, WebSpec,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Charge, Execute, Execution,
    benchmark::check_iterations,
    child::{Watch, input_bytes},
    device_wait::device_lease,
    failure::{FailureExt, chain, failure},
    marks::{self, Allowed},
    model::{Models, PreparedModel, prepare},
    protocol::{Element, Input},
};

/// Executes web jobs on this machine's browsers; clones share pool and models.
#[derive(Clone)]
pub struct WebRunner {
    pool: Pool,
    models: Arc<Models>,
    devices: Arc<Vec<Device>>,
    lease_directory: Arc<PathBuf>,
    /// Browsers and platforms that worked when the pool started: what the worker says that it has.
    offered: Arc<Vec<(String, Platform)>>,
}

/// A failed attempt and whom it is charged to.
struct Failed {
    failure: Failure,
    charge: Charge,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self { failure, charge: Charge::Attempt }
    }
}

impl WebRunner {
    /// A runner over a pool. `devices` are this machine's, as [`hardware::detect`] found them; `lease_directory` is
    /// where every worker of this machine locks them.
    pub fn new(pool: Pool, models: graphs::ModelCache, devices: Vec<Device>, lease_directory: PathBuf) -> Self {
        let offered = Arc::new(working(&pool));
        Self {
            pool,
            models: Arc::new(Models::new(models)),
            devices: Arc::new(devices),
            lease_directory: Arc::new(lease_directory),
            offered,
        }
    }

    /// The platforms that at least one browser truly gives.
    pub fn platforms(&self) -> Vec<Platform> {
        let given = |platform: &Platform| self.offered.iter().any(|(_, given)| given == platform);
        Platform::WEB.into_iter().filter(given).collect()
    }

    /// Every browser with every platform that it truly gives.
    pub fn places(&self) -> Vec<(String, Platform)> {
        self.offered.to_vec()
    }

    /// As [`Execute::run_reporting`], for those who do not want to know how far it is.
    pub async fn run(&self, job: &Job, cancel: &CancellationToken) -> Execution {
        self.run_reporting(job, cancel, &|_| {}).await
    }

    async fn measure(
        &self,
        job: &Job,
        spec: &WebSpec,
        cancel: &CancellationToken,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<(WebOutcome, Device), Failed> {
        check(job, spec)?;
        let prepared = prepare(&self.models, &spec.benchmark.configuration).await?;
        let costs = prepared.costs.clone();
        let request = request(job, spec, prepared).await?;
        // Native benchmarks take the processor alone, and must not be measured beside a browser.
        let lease = device_lease(&self.lease_directory, Platform::Cpu, LeaseMode::Shared, cancel).await?;
        let watch = Mutex::new(None);
        let watching = |so_far: Progress| {
            if so_far.done == 0 {
                *watch.lock().unwrap_or_else(PoisonError::into_inner) = Some(Watch::begin_for_others());
            }
            progress(so_far);
        };
        let run = self.pool.run(request, cancel, &watching).await.map_err(|error| failed(&error))?;
        let watch = watch.into_inner().unwrap_or_else(PoisonError::into_inner);
        drop(lease);
        let conditions = watch.map(|watch| marks::conditions(&watch.end(), &run.iterations_ms, &allowed(run.threads)));
        let device = device::of_run(&run, &self.devices);
        let Some(latency_ms) = LatencySummary::from_iterations(run.iterations_ms.clone()) else {
            return Err(failure(FailureKind::BackendError, "the browser timed no iteration").into());
        };
        let benchmark = BenchmarkOutcome {
            throughput_items_per_second: f64::from(spec.benchmark.configuration.batch_size) * 1e3 / latency_ms.p50,
            latency_ms,
            memory_peak_mb: run.memory_peak_mb,
            power_w: None,
            load_ms: run.phases.fetch_ms + run.phases.session_ms,
            warmup_iterations: spec.benchmark.warmup_iterations,
            stop: run.stop,
            backend_version: run.backend_version.clone(),
            costs,
            conditions,
        };
        Ok((outcome(benchmark, run), device))
    }
}

impl Execute for WebRunner {
    fn devices(&self) -> &[Device] {
        &self.devices
    }

    fn browsers(&self) -> Vec<String> {
        let mut browsers: Vec<String> = self.offered.iter().map(|(browser, _)| browser.clone()).collect();
        browsers.sort();
        browsers.dedup();
        browsers
    }

    fn unmet(&self, job: &Job) -> Option<String> {
        let JobSpec::Web(spec) = &job.spec else { return None };
        // What did not work at first may have come since. What worked and is broken now is waited for in the pool.
        lacking(spec, &self.offered).and_then(|_| lacking(spec, &working(&self.pool)))
    }

    async fn run_reporting(
        &self,
        job: &Job,
        cancel: &CancellationToken,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Execution {
        let measured = match &job.spec {
            _ if cancel.is_cancelled() => Err(failure(FailureKind::Cancelled, "cancelled before it started").into()),
            JobSpec::Web(spec) => self.measure(job, spec, cancel, progress).await,
            JobSpec::Test(_) | JobSpec::Benchmark(_) => {
                let failed = failure(FailureKind::Unavailable, "this worker runs jobs for browsers only");
                Err(failed
                    .suggest("leave its platforms out of `worker.platforms` of other workers, or start one")
                    .into())
            }
        };
        match measured {
            Ok((outcome, device)) => {
                Execution { outcome: Outcome::Web(Box::new(outcome)), device: Some(device), charge: Charge::Attempt }
            }
            Err(Failed { failure, charge }) => Execution { outcome: Outcome::Failed(failure), device: None, charge },
        }
    }
}

/// Each browser with each platform that its last probe computed right on.
fn working(pool: &Pool) -> Vec<(String, Platform)> {
    let works = pool.capabilities().into_iter().filter(|capability| capability.works);
    works.map(|capability| (capability.browser, capability.platform)).collect()
}

/// What a job asks for that none of these browsers gives on any of these platforms.
fn lacking(spec: &WebSpec, pairs: &[(String, Platform)]) -> Option<String> {
    let platforms = spec.acceptable_platforms();
    let is_asked = |browser: &String| spec.browsers.is_empty() || spec.browsers.contains(browser);
    if pairs.iter().any(|(browser, platform)| is_asked(browser) && platforms.contains(platform)) {
        return None;
    }
    let platforms = platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
    let browsers = if spec.browsers.is_empty() { "any browser".to_owned() } else { spec.browsers.join(" or ") };
    Some(format!("no {platforms} in {browsers}"))
}

/// Refuses what no browser could measure.
fn check(job: &Job, spec: &WebSpec) -> Result<(), Failure> {
    let invalid = |message: String| Err(failure(FailureKind::InvalidJob, message));
    if let Err(error) = spec.validate() {
        return invalid(chain(&error));
    }
    if !(1..=Job::TIMEOUT_MS_LIMIT).contains(&job.timeout_ms) {
        return invalid(format!("timeout_ms is {}; 1 to {} is possible", job.timeout_ms, Job::TIMEOUT_MS_LIMIT));
    }
    check_iterations(job, &spec.benchmark)
}

async fn request(job: &Job, spec: &WebSpec, prepared: PreparedModel) -> Result<WebRequest, Failure> {
    let PreparedModel { path, inputs, .. } = prepared;
    let BenchmarkSpec { configuration, .. } = &spec.benchmark;
    let file = tokio::fs::metadata(&path).await;
    let file = file.map_err(|error| failure(FailureKind::Machine, format!("failed to look at the model: {error}")))?;
    let filled = tokio::task::spawn_blocking(move || inputs.iter().map(tensor).collect::<Vec<_>>()).await;
    let inputs = filled.map_err(|error| failure(FailureKind::Machine, format!("filling inputs failed: {error}")))?;
    Ok(WebRequest {
        model: ModelFile {
            name: configuration.model.name.clone(),
            family: graphs::zoo_entry(&configuration.model.name).map(|entry| entry.family.to_owned()),
            sha256: configuration.model.sha256,
            path,
            bytes: file.len(),
        },
        inputs,
        platforms: spec.acceptable_platforms(),
        browsers: spec.browsers.clone(),
        precision: configuration.precision,
        threads: configuration.threads,
        warmup_iterations: spec.benchmark.warmup_iterations,
        iterations_min: spec.benchmark.iterations_min,
        iterations_max: spec.benchmark.iterations_max,
        median_interval_pct: spec.benchmark.median_interval_pct,
        duration_ms_max: spec.benchmark.duration_ms_max,
        timeout: Duration::from_millis(job.timeout_ms),
        memory_mb: spec.memory_mb,
        priority: job.priority,
        keep_outputs: false,
    })
}

/// What the rules ask; how long a browser's threads waited is not known.
fn allowed(threads: u32) -> Allowed {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    Allowed {
        waited_pct_max: 100.0,
        arithmetic_pct_min: 0.0,
        handoff_ns_max: None,
        threads: threads as usize,
        processors,
    }
}

/// The input as a browser takes it.
fn tensor(input: &Input) -> InputTensor {
    let element = match input.element {
        Element::Float32 => "float32",
        Element::Float64 => "float64",
        Element::Int32 => "int32",
        Element::Int64 => "int64",
        Element::Uint8 => "uint8",
        Element::Bool => "bool",
    };
    InputTensor {
        name: input.name.clone(),
        element: element.to_owned(),
        dims: input.dims.clone(),
        bytes: input_bytes(input),
    }
}

fn outcome(benchmark: BenchmarkOutcome, run: WebRun) -> WebOutcome {
    let mut recoveries = run.recoveries;
    recoveries.truncate(WebOutcome::RECOVERIES_MAX);
    WebOutcome {
        benchmark,
        platform: run.platform,
        browser: run.browser,
        browser_version: run.browser_version,
        adapter: run.adapter,
        nodes: run.nodes,
        phases: run.phases,
        warmth: run.warmth,
        threads: run.threads.max(1),
        recoveries,
    }
}

fn failed(error: &WebError) -> Failed {
    let charge = match () {
        () if error.is_poison() => Charge::Everything,
        () if error.is_charged() => Charge::Attempt,
        () => Charge::Nothing,
    };
    let failure = failure(error.failure_kind(), chain(error));
    let failure = match error {
        WebError::Unavailable { .. } => failure.suggest("`augur browsers detect` shows what each browser can do"),
        WebError::MemoryBudget { .. } => failure.suggest("raise browsers.memory_mb_max, or use a smaller model"),
        _ => failure,
    };
    Failed { failure, charge }
}

#[cfg(test)]
mod tests {
    use messages::{Backend, Configuration, ContentHash, ModelRef, Precision};

    use super::*;

    fn spec(platforms: &[Platform], browsers: &[&str]) -> WebSpec {
        let configuration = Configuration {
            model: ModelRef { name: "a".to_owned(), sha256: ContentHash([1; 32]) },
            platform: platforms[0],
            backend: Backend::OrtWeb,
            precision: Precision::Fp32,
            batch_size: 1,
            sequence_length: None,
            image_size: None,
            threads: 1,
            browser: None,
        };
        let browsers = browsers.iter().map(|name| (*name).to_owned()).collect();
        WebSpec { platforms: platforms[1..].to_vec(), ..WebSpec::new(BenchmarkSpec::usual(configuration), browsers) }
    }

    #[test]
    fn a_job_is_handed_on_where_no_browser_gives_what_it_asks_for() {
        let pairs = [
            ("chromium".to_owned(), Platform::Wasm),
            ("firefox".to_owned(), Platform::Wasm),
            ("firefox".to_owned(), Platform::Webgpu),
        ];
        let check = |platforms: &[Platform], browsers: &[&str], expected: Option<&str>| {
            assert_eq!(lacking(&spec(platforms, browsers), &pairs).as_deref(), expected);
        };
        check(&[Platform::Wasm], &[], None);
        check(&[Platform::Webgpu], &["chromium", "firefox"], None);
        check(&[Platform::Webgpu], &["chromium"], Some("no webgpu in chromium"));
        check(&[Platform::Webgpu, Platform::Wasm], &["chromium"], None);
        check(
            &[Platform::Webnn, Platform::Webgpu],
            &["edge", "chromium"],
            Some("no webnn or webgpu in edge or chromium"),
        );
        check(&[Platform::Webnn], &[], Some("no webnn in any browser"));
    }

    #[test]
    fn only_what_the_job_did_is_charged_to_it() {
        let check = |error: &WebError, charge, kind| {
            let failed = failed(error);
            assert_eq!((failed.charge, failed.failure.kind), (charge, kind), "{error}");
        };
        check(
            &WebError::Unavailable { reason: "no browser has WebNN".to_owned() },
            Charge::Attempt,
            FailureKind::Unavailable,
        );
        check(&WebError::NoBrowser { reasons: vec!["it died".to_owned()] }, Charge::Nothing, FailureKind::Machine);
        check(&WebError::Poison { deaths: vec!["chromium".to_owned()] }, Charge::Everything, FailureKind::BackendError);
    }
}
