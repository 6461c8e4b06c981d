//! Which of a batch's results are new, and the keys of the rows that they become.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry as Slot},
    str::FromStr,
};

use duckdb::{Connection, Result};
use messages::{
    AcceptedMeasurement, AfterFailure, BenchmarkOutcome, DeadLettered, FailedAttempt, IdError, JobId, JobResult, RunId,
    RunSubmitted,
};

use super::{compatibility, id_list, jobs::BROKER, known::Known, offset, runs::Runs, take_keys, tests::rows_of, web};
use crate::{Record, Rejection, accept};

/// The part of a batch that the database lacks.
pub(super) struct Fresh<'a> {
    /// Results of jobs that have none, the first of each job.
    pub(super) results: Vec<&'a JobResult>,
    /// Results of jobs whose one result is of another run. They may have been seen before.
    pub(super) elsewhere: Vec<&'a JobResult>,
    /// Failed attempts, each once.
    pub(super) attempts: Vec<&'a FailedAttempt>,
    /// Jobs that the broker made dead letters, each once.
    pub(super) deaths: Vec<&'a DeadLettered>,
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
        let (mut failed, mut died): (Vec<&FailedAttempt>, Vec<&DeadLettered>) = (Vec::new(), Vec::new());
        for record in records {
            match record {
                Record::Run(submitted) => announcements.push(submitted),
                Record::Result(result) => all.push(result),
                Record::Attempt(attempt) => failed.push(attempt),
                Record::DeadLettered(dead) => died.push(dead),
                Record::Claim(_)
                | Record::ClaimReturned(_)
                | Record::Cancel(_)
                | Record::Replayed(_)
                | Record::QuarantineLifted(_) => {}
            }
        }
        let mut runs = stored_jobs(connection, &all)?;
        let (mut results, mut elsewhere) = (Vec::with_capacity(all.len()), Vec::new());
        for result in &all {
            match runs.entry(result.job.job_id) {
                Slot::Vacant(slot) => {
                    slot.insert(result.job.run.run_id);
                    results.push(*result);
                }
                Slot::Occupied(slot) if *slot.get() != result.job.run.run_id => elsewhere.push(*result),
                Slot::Occupied(_) => {}
            }
        }
        let tried = failed.iter().map(|attempt| attempt.result.job.job_id);
        let mut seen = stored_attempts(connection, tried.chain(died.iter().map(|dead| dead.job_id)))?;
        let attempts = failed.into_iter().filter(|attempt| seen.insert(AttemptKey::of(attempt))).collect();
        let deaths = died.into_iter().filter(|dead| seen.insert(AttemptKey::of_death(dead))).collect();
        let duplicates = all.len() - results.len();
        Ok(Self { results, elsewhere, attempts, deaths, announcements, duplicates })
    }
}

/// The run under which each job is stored, for those that are.
fn stored_jobs(connection: &Connection, results: &[&JobResult]) -> Result<HashMap<JobId, RunId>> {
    if results.is_empty() {
        return Ok(HashMap::new());
    }
    let ids = id_list(results.iter().map(|result| result.job.job_id));
    let mut statement = connection.prepare_cached(
        "SELECT job_id::VARCHAR, run_uuid::VARCHAR FROM jobs \
         WHERE job_id IN (SELECT unnest(string_split(?, ','))::UUID)",
    )?;
    let stored =
        statement.query_map([ids], |row| Ok((uuid(&row.get::<_, String>(0)?), uuid(&row.get::<_, String>(1)?))))?;
    stored.collect()
}

/// What tells one failed attempt from another.
#[derive(PartialEq, Eq, Hash)]
struct AttemptKey {
    job_id: JobId,
    replays: u32,
    attempt: u32,
    worker_id: String,
    started_at_us: i64,
    next: String,
}

impl AttemptKey {
    fn of(attempt: &FailedAttempt) -> Self {
        Self {
            job_id: attempt.result.job.job_id,
            replays: attempt.result.job.dispatch.replays,
            attempt: attempt.result.attempt,
            worker_id: attempt.result.worker_id.to_string(),
            started_at_us: attempt.result.started_at.as_micros(),
            next: attempt.next.as_str().to_owned(),
        }
    }

    fn of_death(dead: &DeadLettered) -> Self {
        Self {
            job_id: dead.job_id,
            replays: dead.replays,
            attempt: dead.attempt,
            worker_id: BROKER.to_owned(),
            started_at_us: dead.died_at.as_micros(),
            next: AfterFailure::DeadLetter.as_str().to_owned(),
        }
    }
}

/// The failed attempts of these jobs that are stored.
fn stored_attempts(connection: &Connection, jobs: impl Iterator<Item = JobId>) -> Result<HashSet<AttemptKey>> {
    let ids = id_list(jobs);
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let mut statement = connection.prepare_cached(
        "SELECT job_id::VARCHAR, replays, attempt, worker_id, epoch_us(started_at), next FROM attempts \
         WHERE next IS NOT NULL AND job_id IN (SELECT unnest(string_split(?, ','))::UUID)",
    )?;
    let stored = statement.query_map([ids], |row| {
        Ok(AttemptKey {
            job_id: uuid(&row.get::<_, String>(0)?),
            replays: row.get(1)?,
            attempt: row.get(2)?,
            worker_id: row.get(3)?,
            started_at_us: row.get(4)?,
            next: row.get(5)?,
        })
    })?;
    stored.collect()
}

pub(crate) fn uuid<T: FromStr<Err = IdError>>(text: &str) -> T {
    text.parse().expect("DuckDB writes UUIDs that parse")
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
    /// Key in `web_platform_results`, if a browser ended it.
    pub(super) web_result_id: Option<i64>,
    /// What may be learned from it.
    pub(super) measurement: std::result::Result<Box<AcceptedMeasurement>, Rejection>,
}

impl<'a> Entry<'a> {
    /// Gives what every entry has; the keys of what it measured or tested are left out.
    fn new(known: &Known, runs: &Runs, result: &'a JobResult) -> Self {
        Self {
            result,
            job_id: result.job.job_id.to_string(),
            run_uuid: result.job.run.run_id.to_string(),
            run_id: runs.ids[&result.job.run.run_id],
            model_id: result.job.spec.benchmark().and_then(|spec| known.model_id(&spec.configuration.model)),
            hardware_id: result.device.as_ref().and_then(|device| known.hardware_id(device)),
            result_id: None,
            test_result_id: None,
            web_result_id: None,
            measurement: accept(result).map(Box::new),
        }
    }

    /// What was measured with its key, if anything was.
    pub(super) fn benchmark(&self) -> Option<(i64, &'a BenchmarkOutcome)> {
        Some((self.result_id?, self.result.outcome.benchmark()?))
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
    let measured = |result: &JobResult| result.outcome.benchmark().is_some();
    let benchmarks = fresh.results.iter().filter(|result| measured(result)).count();
    let test_rows = fresh.results.iter().map(|result| rows_of(result)).sum();
    let mut next_result = take_keys(connection, "result_id_seq", benchmarks)?;
    let mut next_test = take_keys(connection, "test_result_id_seq", test_rows)?;
    let web_rows = fresh.results.iter().filter(|result| web::is_told(result)).count();
    let mut next_web = take_keys(connection, "web_result_id_seq", web_rows)?;
    let take = |next: &mut i64, count: usize| {
        let key = *next;
        *next += offset(count);
        (count > 0).then_some(key)
    };
    let entry = |result: &&'a JobResult| Entry {
        result_id: take(&mut next_result, usize::from(measured(result))),
        test_result_id: take(&mut next_test, rows_of(result)),
        web_result_id: take(&mut next_web, usize::from(web::is_told(result))),
        ..Entry::new(known, runs, result)
    };
    Ok(fresh.results.iter().map(entry).collect())
}

/// The new dead letters that say something about their hardware, as entries that measured and tested nothing.
pub(super) fn of_dead_letters<'a>(
    connection: &Connection,
    known: &mut Known,
    fresh: &Fresh<'a>,
    runs: &Runs,
) -> Result<Vec<Entry<'a>>> {
    let dead: Vec<&'a JobResult> = fresh
        .attempts
        .iter()
        .filter(|attempt| attempt.next == AfterFailure::DeadLetter)
        .map(|attempt| &attempt.result)
        .filter(|result| compatibility::verdict(result).is_some())
        .collect();
    known.learn(connection, &dead)?;
    Ok(dead.into_iter().map(|result| Entry::new(known, runs, result)).collect())
}
