//! Rows of `performance_results`, `performance_batch_results`, `measurements` and `graph_costs`.

use duckdb::{Connection, Result, params};
use messages::{BenchmarkOutcome, Precision};

use super::{appender, entries::Entry, known::Known, moment, offset, take_keys};
use crate::{Rejection, Standing, json};

/// A benchmark's entry with its key and its outcome.
struct Measured<'e> {
    entry: &'e Entry<'e>,
    result_id: i64,
    outcome: &'e BenchmarkOutcome,
    batch_size: Option<u32>,
    precision: Option<Precision>,
}

/// Appends what the benchmarks among the entries measured, accepted or not.
pub(super) fn append(connection: &Connection, known: &mut Known, entries: &[Entry<'_>]) -> Result<()> {
    let measured: Vec<Measured<'_>> = entries
        .iter()
        .filter_map(|entry| {
            let (result_id, outcome) = entry.benchmark()?;
            let configuration = entry.result.job.spec.benchmark().map(|spec| &spec.configuration);
            let batch_size = configuration.map(|of| of.batch_size);
            Some(Measured { entry, result_id, outcome, batch_size, precision: configuration.map(|of| of.precision) })
        })
        .collect();
    if measured.is_empty() {
        return Ok(());
    }
    append_results(connection, &measured)?;
    append_iterations(connection, &measured)?;
    append_measurements(connection, known, &measured)
}

fn append_results(connection: &Connection, measured: &[Measured<'_>]) -> Result<()> {
    let mut rows = appender(
        connection,
        "performance_results",
        &[
            "result_id",
            "run_id",
            "model_id",
            "hardware_id",
            "test_case",
            "batch_size",
            "precision",
            "total_time_seconds",
            "average_latency_ms",
            "throughput_items_per_second",
            "memory_peak_mb",
            "iterations",
            "warmup_iterations",
            "created_at",
            "metadata",
        ],
    )?;
    for Measured { entry, result_id, outcome, batch_size, precision } in measured {
        rows.append_row(params![
            result_id,
            entry.run_id,
            entry.model_id,
            entry.hardware_id,
            entry.result.job.case,
            batch_size,
            precision.map(Precision::as_str),
            outcome.latency_ms.iterations.iter().sum::<f64>() / 1_000.0,
            outcome.latency_ms.mean,
            outcome.throughput_items_per_second,
            outcome.memory_peak_mb,
            outcome.latency_ms.iterations.len(),
            outcome.warmup_iterations,
            moment(entry.result.finished_at),
            json::job_reference(&entry.job_id),
        ])?;
    }
    rows.flush()
}

fn append_iterations(connection: &Connection, measured: &[Measured<'_>]) -> Result<()> {
    let count = measured.iter().map(|of| of.outcome.latency_ms.iterations.len()).sum();
    let mut batch_id = take_keys(connection, "batch_id_seq", count)?;
    let columns = ["batch_id", "result_id", "batch_index", "batch_size", "latency_ms", "created_at"];
    let mut rows = appender(connection, "performance_batch_results", &columns)?;
    for Measured { entry, result_id, outcome, batch_size, .. } in measured {
        let finished_at = moment(entry.result.finished_at);
        for (index, latency_ms) in outcome.latency_ms.iterations.iter().enumerate() {
            rows.append_row(params![batch_id, result_id, offset(index), batch_size, latency_ms, finished_at])?;
            batch_id += 1;
        }
    }
    rows.flush()
}

fn append_measurements(connection: &Connection, known: &mut Known, measured: &[Measured<'_>]) -> Result<()> {
    let costs = known.costs(connection, measured.iter().map(|of| &of.outcome.costs))?;
    let mut rows = connection.appender("measurements")?;
    for (Measured { entry, result_id, outcome, .. }, costs_sha256) in measured.iter().zip(costs) {
        rows.append_row(params![
            result_id,
            entry.job_id,
            outcome.latency_ms.mean,
            outcome.latency_ms.p50,
            outcome.latency_ms.p90,
            outcome.latency_ms.p99,
            outcome.throughput_items_per_second,
            outcome.memory_peak_mb,
            outcome.power_w,
            // Null where nothing was loaded.
            entry.result.outcome.load_ms(),
            outcome.latency_ms.iterations.len(),
            outcome.stop.as_str(),
            outcome.backend_version,
            costs_sha256,
            entry.measurement.is_ok(),
            entry.measurement.as_ref().err().map(ToString::to_string),
            moment(entry.result.finished_at),
            entry.measurement.as_ref().map_or_else(Rejection::standing, |_| Standing::Accepted).as_str(),
            outcome.conditions.as_ref().map(json::conditions),
        ])?;
    }
    rows.flush()
}
