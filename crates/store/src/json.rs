//! What tables hold as JSON.
//!
//! Fields come out in the order of these structs, so equal values give equal text: hardware is told apart by it.

use std::collections::BTreeMap;

use messages::{
    Adapter, BenchmarkSpec, Conditions, Device, GraphCosts, JobSpec, MetricEvaluation, Offer, OperatorCost, PeakSource,
    RunningJob, WebOutcome,
};
use serde::{Deserialize, Serialize};

use crate::ConditionsRow;

/// Serialises `value`.
///
/// # Panics
///
/// Never: the structs here have string keys only, and numbers that JSON lacks become null.
fn text<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain structs always serialise")
}

#[derive(Serialize, Deserialize)]
struct DeviceJson {
    name: String,
    platform: String,
    platform_version: Option<String>,
    driver_version: Option<String>,
    memory_mb: Option<f64>,
    compute_units: Option<u32>,
    hardware_threads: Option<u32>,
    simd: Option<String>,
    clock_mhz: Option<f64>,
    cache_l2_kb: Option<f64>,
    cache_l3_kb: Option<f64>,
    peak_fp32_gflops: Option<f64>,
    memory_bandwidth_gb_per_s: Option<f64>,
    peak_source: Option<String>,
}

/// Everything known of a device.
pub(crate) fn device(device: &Device) -> String {
    text(&DeviceJson {
        name: device.name.clone(),
        platform: device.platform.to_string(),
        platform_version: device.platform_version.clone(),
        driver_version: device.driver_version.clone(),
        memory_mb: device.memory_mb,
        compute_units: device.compute_units,
        hardware_threads: device.hardware_threads,
        simd: device.simd.clone(),
        clock_mhz: device.clock_mhz,
        cache_l2_kb: device.cache_l2_kb,
        cache_l3_kb: device.cache_l3_kb,
        peak_fp32_gflops: device.peak_fp32_gflops,
        memory_bandwidth_gb_per_s: device.memory_bandwidth_gb_per_s,
        peak_source: device.peak_source.map(|source| {
            let word = match source {
                PeakSource::Measured => MEASURED,
                PeakSource::Published => PUBLISHED,
            };
            word.to_owned()
        }),
    })
}

const MEASURED: &str = "measured";
const PUBLISHED: &str = "published";

/// The device that [`device`] wrote; `None` if this is none.
pub(crate) fn parse_device(json: &str) -> Option<Device> {
    let found: DeviceJson = serde_json::from_str(json).ok()?;
    Some(Device {
        platform: found.platform.parse().ok()?,
        name: found.name,
        platform_version: found.platform_version,
        driver_version: found.driver_version,
        memory_mb: found.memory_mb,
        compute_units: found.compute_units,
        hardware_threads: found.hardware_threads,
        simd: found.simd,
        clock_mhz: found.clock_mhz,
        cache_l2_kb: found.cache_l2_kb,
        cache_l3_kb: found.cache_l3_kb,
        peak_fp32_gflops: found.peak_fp32_gflops,
        memory_bandwidth_gb_per_s: found.memory_bandwidth_gb_per_s,
        peak_source: match found.peak_source.as_deref() {
            Some(MEASURED) => Some(PeakSource::Measured),
            Some(PUBLISHED) => Some(PeakSource::Published),
            _ => None,
        },
    })
}

#[derive(Serialize, Deserialize)]
struct OperatorJson {
    kind: String,
    macs: u64,
    activation_elements: u64,
    weight_elements: u64,
    kernel_size: u32,
    count: u32,
}

/// The operators that [`operators`] wrote; `None` if these are none.
pub(crate) fn parse_operators(json: &str) -> Option<Vec<OperatorCost>> {
    let found: Vec<OperatorJson> = serde_json::from_str(json).ok()?;
    let operator = |operator: OperatorJson| {
        let OperatorJson { macs, activation_elements, weight_elements, kernel_size, count, .. } = operator;
        let kind = operator.kind.parse().ok()?;
        Some(OperatorCost { kind, macs, activation_elements, weight_elements, kernel_size, count })
    };
    found.into_iter().map(operator).collect()
}

/// The distinct operators of a graph.
pub(crate) fn operators(costs: &GraphCosts) -> String {
    let operators = costs.operators.iter().map(|operator| OperatorJson {
        kind: operator.kind.to_string(),
        macs: operator.macs,
        activation_elements: operator.activation_elements,
        weight_elements: operator.weight_elements,
        kernel_size: operator.kernel_size,
        count: operator.count,
    });
    text(&operators.collect::<Vec<_>>())
}

/// What a job was to do; the configuration has columns of its own.
pub(crate) fn spec(spec: &JobSpec) -> String {
    #[derive(Serialize)]
    #[serde(tag = "kind", rename_all = "lowercase")]
    enum SpecJson<'a> {
        Test {
            profile: &'a str,
            module: Option<&'a str>,
            class: Option<&'a str>,
            method: Option<&'a str>,
        },
        Benchmark(BenchmarkJson),
        Web {
            #[serde(flatten)]
            benchmark: BenchmarkJson,
            browsers: &'a [String],
            platforms: Vec<&'static str>,
            memory_mb: Option<u64>,
        },
    }
    #[derive(Serialize)]
    struct BenchmarkJson {
        warmup_iterations: u32,
        iterations_min: u32,
        iterations_max: u32,
        median_interval_pct: f64,
        duration_ms_max: u64,
    }
    let benchmark_json = |benchmark: &BenchmarkSpec| BenchmarkJson {
        warmup_iterations: benchmark.warmup_iterations,
        iterations_min: benchmark.iterations_min,
        iterations_max: benchmark.iterations_max,
        median_interval_pct: benchmark.median_interval_pct,
        duration_ms_max: benchmark.duration_ms_max,
    };
    text(&match spec {
        JobSpec::Test(test) => SpecJson::Test {
            profile: &test.profile,
            module: test.module.as_deref(),
            class: test.class.as_deref(),
            method: test.method.as_deref(),
        },
        JobSpec::Benchmark(benchmark) => SpecJson::Benchmark(benchmark_json(benchmark)),
        JobSpec::Web(web) => SpecJson::Web {
            benchmark: benchmark_json(&web.benchmark),
            browsers: &web.browsers,
            platforms: web.acceptable_platforms().into_iter().map(messages::Platform::as_str).collect(),
            memory_mb: web.memory_mb,
        },
    })
}

/// What a browser did, beside what `web_platform_results` has columns for, as its `metadata` hold it.
#[derive(Serialize, Deserialize)]
pub(crate) struct WebDetails {
    pub(crate) adapter: Option<String>,
    pub(crate) is_fallback: Option<bool>,
    pub(crate) warmth: String,
    pub(crate) first_run_ms: Option<f64>,
    pub(crate) nodes: BTreeMap<String, u32>,
    pub(crate) recoveries: Vec<String>,
}

/// What a browser did.
pub(crate) fn web(job_id: &str, web: &WebOutcome) -> String {
    #[derive(Serialize)]
    struct WebJson<'a> {
        job_id: &'a str,
        #[serde(flatten)]
        details: WebDetails,
    }
    let details = WebDetails {
        adapter: web.adapter.as_ref().map(Adapter::name),
        is_fallback: web.adapter.as_ref().map(|adapter| adapter.is_fallback),
        warmth: web.warmth.to_string(),
        first_run_ms: Some(web.phases.first_run_ms),
        nodes: web.nodes.clone(),
        recoveries: web.recoveries.clone(),
    };
    text(&WebJson { job_id, details })
}

/// What the machine was doing while it measured; the mark is in columns of its own.
pub(crate) fn conditions(conditions: &Conditions) -> String {
    text(&ConditionsRow::from(conditions))
}

/// A GPU adapter as the browser describes it.
pub(crate) fn adapter(job_id: &str, adapter: &Adapter) -> String {
    #[derive(Serialize)]
    struct AdapterJson<'a> {
        job_id: &'a str,
        vendor: &'a str,
        architecture: &'a str,
        device: &'a str,
        description: &'a str,
        is_fallback: bool,
        features: &'a [String],
        limits: &'a BTreeMap<String, f64>,
    }
    let Adapter { vendor, architecture, device, description, is_fallback, features, limits } = adapter;
    let is_fallback = *is_fallback;
    text(&AdapterJson { job_id, vendor, architecture, device, description, is_fallback, features, limits })
}

/// Ties a row of a benchmark table to the job that it comes from.
pub(crate) fn job_reference(job_id: &str) -> String {
    #[derive(Serialize)]
    struct JobReference<'a> {
        job_id: &'a str,
    }
    text(&JobReference { job_id })
}

/// A job that a worker is running, as `workers.running` holds it.
#[derive(Serialize, Deserialize)]
pub(crate) struct RunningJson {
    pub(crate) job_id: String,
    pub(crate) run_id: String,
    pub(crate) case: String,
    pub(crate) started_at: i64,
    // Rows that an earlier version wrote lack what follows.
    #[serde(default = "first")]
    pub(crate) attempt: u32,
    #[serde(default)]
    pub(crate) progress: Option<[u32; 2]>,
    #[serde(default)]
    pub(crate) leased: bool,
}

const fn first() -> u32 {
    1
}

/// The jobs that a worker is running.
pub(crate) fn running(jobs: &[RunningJob]) -> String {
    let jobs = jobs.iter().map(|job| RunningJson {
        job_id: job.job_id.to_string(),
        run_id: job.run_id.to_string(),
        case: job.case.clone(),
        started_at: job.started_at.as_micros(),
        attempt: job.attempt,
        progress: job.progress.map(|progress| [progress.done, progress.total]),
        leased: job.leased,
    });
    text(&jobs.collect::<Vec<_>>())
}

/// The platforms that a worker takes jobs for.
pub(crate) fn platforms(platforms: &[messages::Platform]) -> String {
    text(&platforms.iter().map(|platform| platform.as_str()).collect::<Vec<_>>())
}

/// What a worker has beyond its platforms, as `workers.offer` holds it.
#[derive(Serialize, Deserialize, Default)]
pub(crate) struct OfferJson {
    pub(crate) memory_mb: Option<u64>,
    pub(crate) device_memory_mb: Option<u64>,
    pub(crate) browsers: Vec<String>,
    pub(crate) tags: Vec<String>,
}

/// What a worker has beyond its platforms.
pub(crate) fn offer(offer: &Offer) -> String {
    let Offer { memory_mb, device_memory_mb, browsers, tags } = offer.clone();
    text(&OfferJson { memory_mb, device_memory_mb, browsers, tags })
}

/// A list of words.
pub(crate) fn texts(texts: &[String]) -> String {
    text(&texts)
}

/// One metric's evaluation, as `releases.evaluation` holds it.
pub(crate) fn evaluation(evaluation: &[MetricEvaluation]) -> String {
    let rows = evaluation.iter().map(|metric| crate::EvaluationRow {
        metric: metric.metric.as_str().to_owned(),
        rows: metric.rows,
        mape_pct: Some(metric.mape_pct).filter(|pct| pct.is_finite()),
        interval_90_coverage_pct: Some(metric.interval_90_coverage_pct).filter(|pct| pct.is_finite()),
    });
    text(&rows.collect::<Vec<_>>())
}
