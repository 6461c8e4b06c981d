//! Which of a batch's results are new, and the keys of the rows that they become.

use std::collections::HashSet;

use duckdb::{Connection, Result};
use messages::{AcceptedMeasurement, BenchmarkOutcome, JobId, JobResult, JobSpec, Outcome, RunSubmitted};

use super::{Record, known::Known, offset, runs::Runs, take_keys, tests::rows_of};
use crate::{Rejection, accept};

/// The part of a batch that the database lacks.
pub(super) struct Fresh<'a> {
    /// Results of jobs that have none, the first of each job.
    pub(super) results: Vec<&'a JobResult>,
    /// Runs that begin; some may be announced already.
    pub(super) announcements: Vec<&'a RunSubmitted>,
    /// Results left out.
    pub(super) duplicates: usize,
}

impl<'a> Fresh<'a> {
    /// Compares a batch with itself and with the database.
    pub(super) fn select(connection: &Connection, records: &'a [Record]) -> Result<Self> {
        let mut announcements = Vec::new();
        let mut all: Vec<&JobResult> = Vec::with_capacity(records.len());
        for record in records {
            match record {
                Record::Run(submitted) => announcements.push(submitted),
                Record::Result(result) => all.push(result),
            }
        }
        let mut seen = stored_jobs(connection, &all)?;
        let results: Vec<_> = all.iter().copied().filter(|result| seen.insert(result.job.job_id)).collect();
        let duplicates = all.len() - results.len();
        Ok(Self { results, announcements, duplicates })
    }
}

fn stored_jobs(connection: &Connection, results: &[&JobResult]) -> Result<HashSet<JobId>> {
    if results.is_empty() {
        return Ok(HashSet::new());
    }
    let ids = results.iter().map(|result| result.job.job_id.to_string()).collect::<Vec<_>>().join(",");
    let mut statement = connection.prepare_cached(
        "SELECT job_id::VARCHAR FROM jobs WHERE job_id IN (SELECT unnest(string_split(?, ','))::UUID)",
    )?;
    let stored = statement.query_map([ids], |row| row.get::<_, String>(0))?;
    stored.map(|id| Ok(id?.parse().expect("DuckDB writes UUIDs that parse"))).collect()
}

/// A new result with the keys of its rows.
pub(super) struct Entry<'a> {
    /// The result.
    pub(super) result: &'a JobResult,
    /// Its job, as text.
    pub(super) job_id: String,
    /// Its run, as text.
    pub(super) run_uuid: String,
    /// Key in `test_runs`.
    pub(super) run_id: i64,
    /// Key in `models`, for a benchmark.
    pub(super) model_id: Option<i64>,
    /// Key in `hardware_platforms`, if it ran on a device.
    pub(super) hardware_id: Option<i64>,
    /// Key in `performance_results`, if it measured.
    pub(super) result_id: Option<i64>,
    /// Key of the first row in `integration_test_results`, for a test.
    pub(super) test_result_id: Option<i64>,
    /// What may be learned from it.
    pub(super) measurement: std::result::Result<Box<AcceptedMeasurement>, Rejection>,
}

impl<'a> Entry<'a> {
    /// The benchmark's outcome with its key, if it is one.
    pub(super) fn benchmark(&self) -> Option<(i64, &'a BenchmarkOutcome)> {
        match (&self.result.outcome, self.result_id) {
            (Outcome::Benchmark(outcome), Some(result_id)) => Some((result_id, outcome)),
            _ => None,
        }
    }
}

/// Gives every new result the keys that its rows need.
pub(super) fn with_keys<'a>(
    connection: &Connection,
    known: &mut Known,
    fresh: &Fresh<'a>,
    runs: &Runs,
) -> Result<Vec<Entry<'a>>> {
    known.learn(connection, &fresh.results)?;
    let benchmarks = fresh.results.iter().filter(|result| matches!(result.outcome, Outcome::Benchmark(_))).count();
    let test_rows = fresh.results.iter().map(|result| rows_of(result)).sum();
    let mut next_result = take_keys(connection, "result_id_seq", benchmarks)?;
    let mut next_test = take_keys(connection, "test_result_id_seq", test_rows)?;
    let entry = |result: &&'a JobResult| {
        let result: &'a JobResult = result;
        let take = |next: &mut i64, count: usize| {
            let key = *next;
            *next += offset(count);
            (count > 0).then_some(key)
        };
        Entry {
            result,
            job_id: result.job.job_id.to_string(),
            run_uuid: result.job.run.run_id.to_string(),
            run_id: runs.ids[&result.job.run.run_id],
            model_id: match &result.job.spec {
                JobSpec::Benchmark(spec) => known.model_id(&spec.configuration.model),
                JobSpec::Test(_) => None,
            },
            hardware_id: result.device.as_ref().and_then(|device| known.hardware_id(device)),
            result_id: take(&mut next_result, usize::from(matches!(result.outcome, Outcome::Benchmark(_)))),
            test_result_id: take(&mut next_test, rows_of(result)),
            measurement: accept(result).map(Box::new),
        }
    };
    Ok(fresh.results.iter().map(entry).collect())
}
