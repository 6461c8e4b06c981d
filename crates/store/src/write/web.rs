//! Rows of `web_platform_results` and `webgpu_advanced_features`: what a browser did with a web job.

use duckdb::{Connection, Result, params};
use messages::{Adapter, Failure, FailureKind, JobResult, JobSpec, Outcome, Platform, Warmth, WebOutcome, WebSpec};

use super::{appender, entries::Entry, moment, offset, take_keys};
use crate::{Rejection, json};

/// The limit of an adapter that `workgroup_size` holds: invocations of one compute workgroup.
const WORKGROUP_LIMIT: &str = "maxComputeInvocationsPerWorkgroup";

/// How a web job ended.
enum Ending<'e> {
    Done(&'e WebOutcome),
    Failed(&'e Failure),
}

/// A web job with its key in `web_platform_results`.
struct WebRow<'e> {
    entry: &'e Entry<'e>,
    result_id: i64,
    spec: &'e WebSpec,
    ending: Ending<'e>,
}

/// Appends the web jobs among the entries; those that were cancelled say nothing about a browser.
pub(super) fn append<'e>(connection: &Connection, entries: &'e [Entry<'e>]) -> Result<()> {
    let row = |entry: &'e Entry<'e>| {
        let (spec, ending) = ended(entry.result)?;
        Some(WebRow { entry, result_id: entry.web_result_id?, spec, ending })
    };
    let rows: Vec<WebRow<'_>> = entries.iter().filter_map(row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    append_results(connection, &rows)?;
    append_features(connection, &rows)
}

/// Whether a result becomes a row.
pub(super) fn is_told(result: &JobResult) -> bool {
    ended(result).is_some()
}

fn ended(result: &JobResult) -> Option<(&WebSpec, Ending<'_>)> {
    let JobSpec::Web(spec) = &result.job.spec else { return None };
    match &result.outcome {
        Outcome::Web(web) => Some((spec, Ending::Done(web))),
        Outcome::Failed(failure) if failure.kind != FailureKind::Cancelled => Some((spec, Ending::Failed(failure))),
        Outcome::Failed(_) | Outcome::Benchmark(_) | Outcome::Test(_) => None,
    }
}

fn append_results(connection: &Connection, web_rows: &[WebRow<'_>]) -> Result<()> {
    let mut rows = appender(
        connection,
        "web_platform_results",
        &[
            "result_id",
            "run_id",
            "model_id",
            "hardware_id",
            "platform",
            "browser",
            "browser_version",
            "test_file",
            "success",
            "load_time_ms",
            "initialization_time_ms",
            "inference_time_ms",
            "total_time_ms",
            "shader_compilation_time_ms",
            "memory_usage_mb",
            "error_message",
            "created_at",
            "metadata",
        ],
    )?;
    for WebRow { entry, result_id, spec, ending } in web_rows {
        let (done, failure) = match ending {
            Ending::Done(web) => (Some(*web), None),
            Ending::Failed(failure) => (None, Some(*failure)),
        };
        let asked = &spec.benchmark.configuration;
        // A warm model is not loaded, which takes no time that anybody measured.
        let loaded = done.filter(|web| web.warmth != Warmth::WarmModel);
        rows.append_row(params![
            result_id,
            entry.run_id,
            entry.model_id,
            entry.hardware_id,
            done.map_or(asked.platform, |web| web.platform).as_str(),
            done.map(|web| &web.browser).or(asked.browser.as_ref()),
            done.map(|web| &web.browser_version),
            entry.result.job.case,
            done.is_some(),
            loaded.map(|web| web.phases.fetch_ms),
            loaded.map(|web| web.phases.session_ms),
            done.map(|web| web.benchmark.latency_ms.p50),
            done.map(|web| web.phases.total_ms),
            done.and_then(shader_compilation_ms),
            done.and_then(|web| web.benchmark.memory_peak_mb),
            failure.map(|failure| &failure.message),
            moment(entry.result.finished_at),
            done.map_or_else(|| json::job_reference(&entry.job_id), |web| json::web(&entry.job_id, web)),
        ])?;
    }
    rows.flush()
}

/// What the first run took longer than a usual one, where it is the one that compiles shaders.
fn shader_compilation_ms(web: &WebOutcome) -> Option<f64> {
    let compiles = web.platform == Platform::Webgpu && web.warmth != Warmth::WarmModel;
    compiles.then(|| (web.phases.first_run_ms - web.benchmark.latency_ms.p50).max(0.0))
}

/// Whether a node is proven to have run on the platform; a measurement is asked for that before anything else.
fn is_proven(entry: &Entry<'_>) -> bool {
    !matches!(entry.measurement, Err(Rejection::Unproven { .. } | Rejection::NoDevice | Rejection::NoIterations))
}

/// What browsers do not tell stays null.
fn append_features(connection: &Connection, web_rows: &[WebRow<'_>]) -> Result<()> {
    let on_gpu: Vec<(&WebRow<'_>, &WebOutcome, &Adapter)> = web_rows
        .iter()
        .filter_map(|row| match &row.ending {
            Ending::Done(web) if web.platform == Platform::Webgpu => Some((row, *web, web.adapter.as_ref()?)),
            Ending::Done(_) | Ending::Failed(_) => None,
        })
        .collect();
    if on_gpu.is_empty() {
        return Ok(());
    }
    let first = take_keys(connection, "feature_id_seq", on_gpu.len())?;
    let columns = [
        "feature_id",
        "result_id",
        "compute_shader_support",
        "workgroup_size",
        "pre_compiled_pipeline",
        "created_at",
        "metadata",
    ];
    let mut rows = appender(connection, "webgpu_advanced_features", &columns)?;
    for (index, (row, web, adapter)) in on_gpu.into_iter().enumerate() {
        #[expect(clippy::cast_possible_truncation, reason = "adapters give a few hundred")]
        let workgroup_size = adapter.limits.get(WORKGROUP_LIMIT).map(|limit| *limit as i32);
        rows.append_row(params![
            first + offset(index),
            row.result_id,
            // ONNX Runtime computes with nothing else, so a node that is proven to have run there proves it.
            is_proven(row.entry).then_some(true),
            workgroup_size,
            web.warmth == Warmth::WarmModel,
            moment(row.entry.result.finished_at),
            json::adapter(&row.entry.job_id, adapter),
        ])?;
    }
    rows.flush()
}
