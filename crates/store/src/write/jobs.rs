//! Rows of `jobs` and `attempts`, every column in the order of the table.

use duckdb::{Connection, Result, params};
use messages::{AfterFailure, DeadLettered, FailedAttempt, Failure, Outcome, Status, TestCaseStatus, TestOutcome};

use super::{entries::Entry, moment};
use crate::json;

/// Stands for the worker where it was the broker that ended an attempt.
pub(super) const BROKER: &str = "broker";

/// Appends one job and one attempt per entry.
pub(super) fn append(connection: &Connection, entries: &[Entry<'_>]) -> Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    append_jobs(connection, entries)?;
    append_attempts(connection, entries)
}

fn append_jobs(connection: &Connection, entries: &[Entry<'_>]) -> Result<()> {
    let mut rows = connection.appender("jobs")?;
    for entry in entries {
        let (result, job) = (entry.result, &entry.result.job);
        let configuration = result.configuration();
        let configuration = configuration.as_deref();
        let test = test(&result.outcome);
        let failure = failure(&result.outcome);
        let output_tail = test.map(|test| &test.output_tail).or(failure.map(|failure| &failure.output_tail));
        rows.append_row(params![
            entry.job_id,
            entry.run_uuid,
            job.case,
            job.kind().as_str(),
            // A browser may have had to run it on another one than the lane's.
            configuration.map_or(job.platform, |of| of.platform).as_str(),
            job.priority.as_str(),
            result.status().as_str(),
            result.attempt,
            result.worker_id.as_str(),
            moment(job.submitted_at),
            moment(result.started_at),
            moment(result.finished_at),
            job.timeout_ms,
            entry.hardware_id,
            entry.result_id,
            entry.test_result_id,
            configuration.map(|of| of.model.name.as_str()),
            configuration.map(|of| of.model.sha256.to_string()),
            configuration.map(|of| of.backend.as_str()),
            configuration.map(|of| of.precision.as_str()),
            configuration.map(|of| of.batch_size),
            configuration.and_then(|of| of.sequence_length),
            configuration.and_then(|of| of.image_size),
            configuration.map(|of| of.threads),
            test.and_then(|test| test.exit_code),
            test.map(|test| test.cases.len()),
            test.map(failed_cases),
            failure.map(|failure| failure.kind.as_str()),
            failure.map(|failure| failure.message.as_str()),
            output_tail,
            failure.and_then(|failure| failure.suggestion.as_deref()),
            json::spec(&job.spec),
            moment(result.finished_at),
            configuration.and_then(|of| of.browser.as_deref()),
            entry.web_result_id,
        ])?;
    }
    rows.flush()
}

fn append_attempts(connection: &Connection, entries: &[Entry<'_>]) -> Result<()> {
    let mut rows = connection.appender("attempts")?;
    let nothing: Option<&str> = None;
    for Entry { result, job_id, .. } in entries {
        rows.append_row(params![
            job_id,
            result.attempt,
            result.worker_id.as_str(),
            result.status().as_str(),
            moment(result.started_at),
            moment(result.finished_at),
            moment(result.finished_at),
            result.job.dispatch.replays,
            // What follows is in the job's row.
            nothing,
            nothing,
            nothing,
            nothing,
            nothing,
            nothing,
            nothing,
        ])?;
    }
    rows.flush()
}

/// Appends attempts that failed and are not counted.
pub(super) fn append_failed_attempts(connection: &Connection, attempts: &[&FailedAttempt]) -> Result<()> {
    if attempts.is_empty() {
        return Ok(());
    }
    let mut rows = connection.appender("attempts")?;
    for FailedAttempt { result, next } in attempts {
        let failure = failure(&result.outcome);
        rows.append_row(params![
            result.job.job_id.to_string(),
            result.attempt,
            result.worker_id.as_str(),
            result.status().as_str(),
            moment(result.started_at),
            moment(result.finished_at),
            moment(result.finished_at),
            result.job.dispatch.replays,
            next.as_str(),
            result.job.run.run_id.to_string(),
            result.job.case,
            result.job.platform.as_str(),
            failure.map(|failure| failure.kind.as_str()),
            failure.map(|failure| failure.message.as_str()),
            failure.map(|failure| failure.output_tail.as_str()),
        ])?;
    }
    rows.flush()
}

/// Appends attempts that the broker ended by making their jobs dead letters; when they began is not known.
pub(super) fn append_deaths(connection: &Connection, deaths: &[&DeadLettered]) -> Result<()> {
    if deaths.is_empty() {
        return Ok(());
    }
    let mut rows = connection.appender("attempts")?;
    let nothing: Option<&str> = None;
    for dead in deaths {
        rows.append_row(params![
            dead.job_id.to_string(),
            dead.attempt,
            BROKER,
            Status::Error.as_str(),
            moment(dead.died_at),
            moment(dead.died_at),
            moment(dead.died_at),
            dead.replays,
            AfterFailure::DeadLetter.as_str(),
            dead.run_id.to_string(),
            dead.case,
            dead.platform.as_str(),
            dead.reason,
            dead.message,
            nothing,
        ])?;
    }
    rows.flush()
}

fn test(outcome: &Outcome) -> Option<&TestOutcome> {
    match outcome {
        Outcome::Test(test) => Some(test),
        Outcome::Benchmark(_) | Outcome::Web(_) | Outcome::Failed(_) => None,
    }
}

fn failure(outcome: &Outcome) -> Option<&Failure> {
    match outcome {
        Outcome::Failed(failure) => Some(failure),
        Outcome::Benchmark(_) | Outcome::Web(_) | Outcome::Test(_) => None,
    }
}

fn failed_cases(test: &TestOutcome) -> usize {
    test.cases.iter().filter(|case| matches!(case.status, TestCaseStatus::Failed | TestCaseStatus::Error)).count()
}
