//! Runs: begun by their announcement or by the first end of an attempt, ended when each job has a result or is dead.
//!
//! Counters move by what a batch adds, so the order of results does not matter: in the end the same rows stand. The
//! dead are counted elsewhere, in [`super::standing`].

use std::collections::{BTreeMap, HashSet};

use duckdb::{Connection, Result, params};
use messages::{AfterFailure, JobKind, JobResult, RunId, RunSubmitted, Status, Timestamp};

use super::{entries::Fresh, id_list, moment};
use crate::json;

/// Holds what the current batch adds to each run; empty between batches.
pub(super) const SCRATCH_TABLE: &str = "CREATE TEMP TABLE run_deltas (
    run_uuid UUID, suite VARCHAR, origin VARCHAR, jobs_total UINTEGER, announced BOOLEAN, submitted_at TIMESTAMP,
    git_commit VARCHAR, git_branch VARCHAR, command_line VARCHAR,
    due_at TIMESTAMP, passed UINTEGER, failed UINTEGER, error UINTEGER, cancelled UINTEGER, tests UINTEGER,
    retried UINTEGER, last_finished_at TIMESTAMP, only_job UUID)";

const INSERT_RUNS: &str = "
INSERT INTO runs (run_uuid, suite, origin, jobs_total, announced, submitted_at,
                  done, passed, failed, error, cancelled, tests, created_at)
SELECT d.run_uuid, d.suite, d.origin, d.jobs_total, false, d.submitted_at, 0, 0, 0, 0, 0, 0, d.submitted_at
FROM temp.run_deltas d WHERE NOT EXISTS (SELECT 1 FROM runs r WHERE r.run_uuid = d.run_uuid)";

const ADD_DELTAS: &str = "
UPDATE runs SET
    submitted_at = CASE WHEN d.announced THEN d.submitted_at WHEN runs.announced THEN runs.submitted_at
                        ELSE least(runs.submitted_at, d.submitted_at) END,
    announced = runs.announced OR d.announced,
    git_commit = coalesce(d.git_commit, runs.git_commit),
    git_branch = coalesce(d.git_branch, runs.git_branch),
    command_line = coalesce(d.command_line, runs.command_line),
    due_at = coalesce(d.due_at, runs.due_at),
    only_job = coalesce(d.only_job, runs.only_job),
    done = runs.done + d.passed + d.failed + d.error + d.cancelled,
    passed = runs.passed + d.passed,
    failed = runs.failed + d.failed,
    error = runs.error + d.error,
    cancelled = runs.cancelled + d.cancelled,
    tests = runs.tests + d.tests,
    retried = runs.retried + d.retried,
    last_finished_at = greatest(runs.last_finished_at, d.last_finished_at)
FROM temp.run_deltas d WHERE runs.run_uuid = d.run_uuid";

const COMPLETE_RUNS: &str = "
UPDATE runs SET
    created_at = submitted_at,
    completed_at = CASE WHEN done + dead >= jobs_total
                        THEN coalesce(greatest(last_finished_at, last_dead_at), submitted_at) END
WHERE run_uuid IN (SELECT run_uuid FROM temp.run_deltas)";

const INSERT_TEST_RUNS: &str = "
INSERT INTO test_runs (run_id)
SELECT r.run_id FROM runs r
WHERE r.run_uuid IN (SELECT run_uuid FROM temp.run_deltas)
      AND NOT EXISTS (SELECT 1 FROM test_runs t WHERE t.run_id = r.run_id)";

const UPDATE_TEST_RUNS: &str = "
UPDATE test_runs SET
    test_name = r.suite,
    test_type = CASE WHEN r.done = 0 THEN NULL WHEN r.tests = 0 THEN 'performance' WHEN r.tests = r.done THEN 'integration'
                     ELSE 'mixed' END,
    started_at = r.submitted_at,
    completed_at = r.completed_at,
    execution_time_seconds = (epoch_us(r.completed_at) - epoch_us(r.submitted_at)) / 1e6,
    success = CASE WHEN r.completed_at IS NOT NULL THEN r.passed = r.done AND r.dead = 0 END,
    git_commit = r.git_commit,
    git_branch = r.git_branch,
    command_line = r.command_line,
    created_at = r.submitted_at,
    metadata = json_object('run_uuid', r.run_uuid::VARCHAR, 'origin', r.origin)
FROM runs r
WHERE test_runs.run_id = r.run_id AND r.run_uuid IN (SELECT run_uuid FROM temp.run_deltas)";

const SELECT_IDS: &str =
    "SELECT run_uuid::VARCHAR, run_id FROM runs WHERE run_uuid IN (SELECT run_uuid FROM temp.run_deltas)";

/// The runs that a batch changes.
pub(super) struct Runs {
    /// Keys in `test_runs`.
    pub(super) ids: BTreeMap<RunId, i64>,
    /// How many were not there before.
    pub(super) new: usize,
}

/// What one batch adds to one run.
struct Delta<'a> {
    suite: &'a str,
    origin: &'static str,
    jobs_total: u32,
    announcement: Option<&'a RunSubmitted>,
    submitted_at: Timestamp,
    counts: [u32; 4],
    tests: u32,
    retried: u32,
    last_finished_at: Option<Timestamp>,
}

/// Creates the rows of all runs in the batch and adds what the batch brings. [`complete`] must follow once the rest of
/// the batch is stored.
pub(super) fn touch(connection: &Connection, fresh: &Fresh<'_>) -> Result<Runs> {
    let deltas = deltas(connection, fresh)?;
    if deltas.is_empty() {
        return Ok(Runs { ids: BTreeMap::new(), new: 0 });
    }
    append_deltas(connection, &deltas)?;
    append_needs(connection, deltas.values().filter_map(|delta| delta.announcement))?;
    append_configurations(connection, deltas.values().filter_map(|delta| delta.announcement))?;
    // Cached statements: planning these takes longer than running them.
    let execute = |sql| connection.prepare_cached(sql)?.execute([]);
    let new = execute(INSERT_RUNS)?;
    execute(ADD_DELTAS)?;
    Ok(Runs { ids: ids(connection)?, new })
}

/// Decides which of the runs that the batch changed are complete, and brings their test runs up to date.
///
/// `others` says that [`super::standing`] has added runs to those of the batch.
pub(super) fn complete(connection: &Connection, runs: &mut Runs, others: bool) -> Result<()> {
    let execute = |sql| connection.prepare_cached(sql)?.execute([]);
    if others {
        runs.ids = ids(connection)?;
    }
    if runs.ids.is_empty() {
        return Ok(());
    }
    execute(COMPLETE_RUNS)?;
    if runs.new > 0 {
        execute(INSERT_TEST_RUNS)?;
    }
    execute(UPDATE_TEST_RUNS)?;
    execute("DELETE FROM temp.run_deltas")?;
    Ok(())
}

/// The keys of the runs in the batch.
fn ids(connection: &Connection) -> Result<BTreeMap<RunId, i64>> {
    connection
        .prepare_cached(SELECT_IDS)?
        .query_map([], |row| Ok((run_id(&row.get::<_, String>(0)?), row.get(1)?)))?
        .collect()
}

fn deltas<'a>(connection: &Connection, fresh: &Fresh<'a>) -> Result<BTreeMap<RunId, Delta<'a>>> {
    let mut deltas: BTreeMap<RunId, Delta<'a>> = BTreeMap::new();
    let mut announced = announced(connection, &fresh.announcements)?;
    for submitted in &fresh.announcements {
        if announced.insert(submitted.run_id) {
            deltas.insert(submitted.run_id, Delta::begun_by(submitted));
        }
    }
    let mut of = |result: &'a JobResult, add: fn(&mut Delta<'a>, &'a JobResult)| {
        let delta = deltas.entry(result.job.run.run_id).or_insert_with(|| Delta::first_seen_in(result));
        delta.see(result);
        add(delta, result);
    };
    fresh.results.iter().for_each(|result| of(result, Delta::count));
    // The one result of such a job is counted where runs are linked to it; this one says only when it ended here.
    fresh.elsewhere.iter().for_each(|result| of(result, Delta::end));
    for attempt in &fresh.attempts {
        match attempt.next {
            AfterFailure::Retry => of(&attempt.result, |delta, _| delta.retried += 1),
            AfterFailure::DeadLetter => of(&attempt.result, |_, _| {}),
        }
    }
    Ok(deltas)
}

impl<'a> Delta<'a> {
    fn begun_by(submitted: &'a RunSubmitted) -> Self {
        Self {
            suite: &submitted.suite,
            origin: submitted.origin.as_str(),
            jobs_total: submitted.jobs_total,
            announcement: Some(submitted),
            submitted_at: submitted.submitted_at,
            counts: [0; 4],
            tests: 0,
            retried: 0,
            last_finished_at: None,
        }
    }

    fn first_seen_in(result: &'a JobResult) -> Self {
        Self {
            suite: &result.job.run.suite,
            origin: result.job.run.origin.as_str(),
            jobs_total: result.job.run.jobs_total,
            announcement: None,
            submitted_at: result.job.submitted_at,
            counts: [0; 4],
            tests: 0,
            retried: 0,
            last_finished_at: None,
        }
    }

    /// Notes a job of the run.
    fn see(&mut self, result: &JobResult) {
        if self.announcement.is_none() {
            self.submitted_at = self.submitted_at.min(result.job.submitted_at);
        }
    }

    /// Counts a result of the run's own.
    fn count(&mut self, result: &JobResult) {
        let status = match result.status() {
            Status::Passed => 0,
            Status::Failed => 1,
            Status::Error => 2,
            Status::Cancelled => 3,
        };
        self.counts[status] += 1;
        self.tests += u32::from(result.job.kind() == JobKind::Test);
        self.end(result);
    }

    /// Notes when a job of the run ended.
    fn end(&mut self, result: &JobResult) {
        self.last_finished_at = self.last_finished_at.max(Some(result.finished_at));
    }
}

fn append_deltas(connection: &Connection, deltas: &BTreeMap<RunId, Delta<'_>>) -> Result<()> {
    let mut rows = connection.appender_to_catalog_and_db("run_deltas", "temp", "main")?;
    for (run_id, delta) in deltas {
        let [passed, failed, error, cancelled] = delta.counts;
        let submitted = delta.announcement;
        rows.append_row(params![
            run_id.to_string(),
            delta.suite,
            delta.origin,
            delta.jobs_total,
            submitted.is_some(),
            moment(delta.submitted_at),
            submitted.and_then(|run| run.git_commit.as_deref()),
            submitted.and_then(|run| run.git_branch.as_deref()),
            submitted.and_then(|run| run.command_line.as_deref()),
            submitted.and_then(|run| run.due_at).map(moment),
            passed,
            failed,
            error,
            cancelled,
            delta.tests,
            delta.retried,
            delta.last_finished_at.map(moment),
            submitted.and_then(|run| run.only_job).map(|job| job.to_string()),
        ])?;
    }
    rows.flush()
}

/// Appends what newly announced runs ask of workers.
fn append_needs<'a>(connection: &Connection, announcements: impl Iterator<Item = &'a RunSubmitted>) -> Result<()> {
    let needs: Vec<_> = announcements.flat_map(|run| run.needs.iter().map(|need| (run.run_id, need))).collect();
    if needs.is_empty() {
        return Ok(());
    }
    let mut rows = connection.appender("run_needs")?;
    for (run_id, need) in needs {
        rows.append_row(params![
            run_id.to_string(),
            need.platform.as_str(),
            need.requirements.memory_mb_min,
            need.requirements.device_memory_mb_min,
            need.requirements.browser,
            json::texts(&need.requirements.tags),
            need.jobs,
        ])?;
    }
    rows.flush()
}

/// Appends what the jobs of newly announced runs measure.
fn append_configurations<'a>(
    connection: &Connection,
    announcements: impl Iterator<Item = &'a RunSubmitted>,
) -> Result<()> {
    let told: Vec<_> = announcements.filter(|run| !run.configurations.is_empty()).collect();
    if told.is_empty() {
        return Ok(());
    }
    let mut rows = connection.appender("run_configurations")?;
    for run in told {
        let run_id = run.run_id.to_string();
        for configuration in &run.configurations {
            rows.append_row(params![run_id, configuration])?;
        }
    }
    rows.flush()
}

/// Which of these runs were announced in an earlier batch: the first announcement counts.
fn announced(connection: &Connection, announcements: &[&RunSubmitted]) -> Result<HashSet<RunId>> {
    if announcements.is_empty() {
        return Ok(HashSet::new());
    }
    let ids = id_list(announcements.iter().map(|run| run.run_id));
    connection
        .prepare(
            "SELECT run_uuid::VARCHAR FROM runs \
             WHERE announced AND run_uuid IN (SELECT unnest(string_split(?, ','))::UUID)",
        )?
        .query_map([ids], |row| Ok(run_id(&row.get::<_, String>(0)?)))?
        .collect()
}

fn run_id(text: &str) -> RunId {
    text.parse().expect("DuckDB writes UUIDs that parse")
}
