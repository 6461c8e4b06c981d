//! Rows of `integration_test_results` and `integration_test_assertions`.

use duckdb::{Connection, Result, params};
use messages::{JobResult, JobSpec, Outcome, TestCase, TestSpec};

use super::{appender, entries::Entry, moment, offset, take_keys};
use crate::json;

/// How many rows of `integration_test_results` a result becomes: one per case, one if it reports none.
pub(super) fn rows_of(result: &JobResult) -> usize {
    match (&result.job.spec, &result.outcome) {
        (JobSpec::Test(_), Outcome::Test(test)) => test.cases.len().max(1),
        (JobSpec::Test(_), Outcome::Benchmark(_) | Outcome::Web(_) | Outcome::Failed(_)) => 1,
        (JobSpec::Benchmark(_) | JobSpec::Web(_), _) => 0,
    }
}

/// One test, as its table shows it.
struct TestRow<'e> {
    entry: &'e Entry<'e>,
    test_result_id: i64,
    module: Option<&'e str>,
    class: Option<&'e str>,
    name: &'e str,
    status: &'static str,
    duration_s: f64,
    message: Option<&'e str>,
    traceback: Option<&'e str>,
}

/// Appends the tests among the entries.
pub(super) fn append(connection: &Connection, entries: &[Entry<'_>]) -> Result<()> {
    let tests: Vec<TestRow<'_>> = entries.iter().flat_map(test_rows).collect();
    if tests.is_empty() {
        return Ok(());
    }
    append_results(connection, &tests)?;
    append_assertions(connection, &tests)
}

fn test_rows<'e>(entry: &'e Entry<'e>) -> Vec<TestRow<'e>> {
    let (JobSpec::Test(spec), Some(first)) = (&entry.result.job.spec, entry.test_result_id) else {
        return Vec::new();
    };
    match &entry.result.outcome {
        Outcome::Test(test) if !test.cases.is_empty() => {
            let rows = test.cases.iter().enumerate();
            rows.map(|(index, case)| case_row(entry, first + offset(index), case)).collect()
        }
        Outcome::Test(test) => {
            let output = (test.exit_code != Some(0)).then_some(test.output_tail.as_str());
            vec![job_row(entry, first, spec, None, output)]
        }
        Outcome::Failed(failure) => {
            vec![job_row(entry, first, spec, Some(&failure.message), Some(&failure.output_tail))]
        }
        Outcome::Benchmark(_) | Outcome::Web(_) => vec![job_row(entry, first, spec, None, None)],
    }
}

fn case_row<'e>(entry: &'e Entry<'e>, test_result_id: i64, case: &'e TestCase) -> TestRow<'e> {
    TestRow {
        entry,
        test_result_id,
        module: case.module.as_deref(),
        class: case.class.as_deref(),
        name: &case.name,
        status: case.status.as_str(),
        duration_s: case.duration_s,
        message: case.message.as_deref(),
        traceback: case.traceback.as_deref(),
    }
}

fn job_row<'e>(
    entry: &'e Entry<'e>,
    test_result_id: i64,
    spec: &'e TestSpec,
    message: Option<&'e str>,
    output: Option<&'e str>,
) -> TestRow<'e> {
    TestRow {
        entry,
        test_result_id,
        module: spec.module.as_deref(),
        class: spec.class.as_deref(),
        name: spec.method.as_deref().unwrap_or(&entry.result.job.case),
        status: entry.result.status().as_str(),
        duration_s: entry.result.finished_at.seconds_since(entry.result.started_at),
        message,
        traceback: output.filter(|output| !output.is_empty()),
    }
}

fn append_results(connection: &Connection, tests: &[TestRow<'_>]) -> Result<()> {
    let mut rows = appender(
        connection,
        "integration_test_results",
        &[
            "test_result_id",
            "run_id",
            "test_module",
            "test_class",
            "test_name",
            "status",
            "execution_time_seconds",
            "hardware_id",
            "error_message",
            "error_traceback",
            "created_at",
            "metadata",
        ],
    )?;
    for test in tests {
        rows.append_row(params![
            test.test_result_id,
            test.entry.run_id,
            test.module,
            test.class,
            test.name,
            test.status,
            test.duration_s,
            test.entry.hardware_id,
            test.message,
            test.traceback,
            moment(test.entry.result.finished_at),
            json::job_reference(&test.entry.job_id),
        ])?;
    }
    rows.flush()
}

/// Frameworks report no single assertions, only what a failed case says: that is one failed assertion.
fn append_assertions(connection: &Connection, tests: &[TestRow<'_>]) -> Result<()> {
    let failed: Vec<_> = tests.iter().filter(|test| test.status == "failed" && test.message.is_some()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let first = take_keys(connection, "assertion_id_seq", failed.len())?;
    let columns = ["assertion_id", "test_result_id", "assertion_name", "passed", "message", "created_at", "metadata"];
    let mut rows = appender(connection, "integration_test_assertions", &columns)?;
    for (index, test) in failed.iter().enumerate() {
        rows.append_row(params![
            first + offset(index),
            test.test_result_id,
            test.name,
            false,
            test.message,
            moment(test.entry.result.finished_at),
            json::job_reference(&test.entry.job_id),
        ])?;
    }
    rows.flush()
}
