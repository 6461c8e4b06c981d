//! What a count of new results does not tell of runs: dead jobs, and jobs whose one result is stored under another run.
//!
//! Counted anew from what is stored, for the runs that a batch may have changed, so that neither order nor repetition
//! matters. A batch of nothing but results of jobs that never died asks nothing here.

use duckdb::{Connection, Result, params};
use messages::AfterFailure;

use super::{entries::Fresh, id_list, known::Known};
use crate::Record;

/// Runs and jobs that may have to be linked; empty between batches.
pub(super) const SCRATCH_TABLE: &str = "CREATE TEMP TABLE new_run_jobs (run_uuid UUID, job_id UUID)";

/// Runs in which these jobs died, among the runs that the batch changes. The broker may tell of a death in a run of which
/// nothing else is known yet: that counts once the run begins.
const ADD_RUNS_OF: &str = "
INSERT INTO temp.run_deltas (run_uuid)
SELECT DISTINCT a.run_uuid FROM attempts a JOIN runs r ON r.run_uuid = a.run_uuid
WHERE a.next = 'dead-letter' AND a.job_id IN (SELECT unnest(string_split(?, ','))::UUID)";

/// A job that died in one run and has a result in another counts by that result in both.
const ADD_DEAD_ELSEWHERE: &str = "
INSERT INTO temp.new_run_jobs
SELECT DISTINCT a.run_uuid, a.job_id FROM attempts a JOIN jobs j ON j.job_id = a.job_id
WHERE a.next = 'dead-letter' AND a.run_uuid <> j.run_uuid AND a.run_uuid IN (SELECT run_uuid FROM temp.run_deltas)";

const DROP_OLD_LINKS: &str = "
DELETE FROM temp.new_run_jobs n
WHERE EXISTS (SELECT 1 FROM run_jobs r WHERE r.run_uuid = n.run_uuid AND r.job_id = n.job_id)";

const COUNT_LINKS: &str = "
UPDATE runs SET
    done = runs.done + l.done,
    passed = runs.passed + l.passed,
    failed = runs.failed + l.failed,
    error = runs.error + l.error,
    cancelled = runs.cancelled + l.cancelled,
    tests = runs.tests + l.tests
FROM (
    SELECT n.run_uuid, count(*) AS done, count(*) FILTER (j.status = 'passed') AS passed,
           count(*) FILTER (j.status = 'failed') AS failed, count(*) FILTER (j.status = 'error') AS error,
           count(*) FILTER (j.status = 'cancelled') AS cancelled, count(*) FILTER (j.kind = 'test') AS tests
    FROM (SELECT DISTINCT run_uuid, job_id FROM temp.new_run_jobs) n JOIN jobs j ON j.job_id = n.job_id
    GROUP BY n.run_uuid
) l
WHERE runs.run_uuid = l.run_uuid";

const STORE_LINKS: &str =
    "INSERT INTO run_jobs (run_uuid, job_id) SELECT DISTINCT run_uuid, job_id FROM temp.new_run_jobs";

const COUNT_DEAD: &str = "
UPDATE runs SET
    dead = (SELECT count(DISTINCT d.job_id) FROM dead_letters d WHERE d.run_uuid = runs.run_uuid),
    last_dead_at = (SELECT max(d.finished_at) FROM dead_letters d WHERE d.run_uuid = runs.run_uuid)
WHERE run_uuid IN (SELECT run_uuid FROM temp.run_deltas)";

/// Brings the counts of the runs up to date that the batch, already stored but for them, may have changed; whether
/// there may be others among them than those that the batch names. `new_runs` says that the batch begins some.
pub(super) fn settle(
    connection: &Connection,
    known: &mut Known,
    fresh: &Fresh<'_>,
    records: &[Record],
    new_runs: bool,
) -> Result<bool> {
    known.any_dead |= fresh.attempts.iter().any(|attempt| attempt.next == AfterFailure::DeadLetter);
    known.any_dead |= !fresh.deaths.is_empty();
    let others = known.any_dead && stirs_dead(connection, fresh, records)?;
    let stirred = others || (known.any_dead && new_runs);
    if stirred {
        connection.prepare_cached(COUNT_DEAD)?.execute([])?;
    }
    if stirred || !fresh.elsewhere.is_empty() {
        link(connection, fresh)?;
    }
    Ok(others)
}

/// Finds the runs in which a job of the batch is or was dead; whether there are any.
fn stirs_dead(connection: &Connection, fresh: &Fresh<'_>, records: &[Record]) -> Result<bool> {
    let ended = fresh.results.iter().map(|result| result.job.job_id);
    let failed = fresh.attempts.iter().map(|attempt| attempt.result.job.job_id);
    let died = fresh.deaths.iter().map(|dead| dead.job_id);
    let sent_back = records.iter().filter_map(|record| match record {
        Record::Replayed(replayed) => Some(replayed.job_id),
        _ => None,
    });
    let jobs = id_list(ended.chain(failed).chain(died).chain(sent_back));
    Ok(!jobs.is_empty() && connection.prepare_cached(ADD_RUNS_OF)?.execute([jobs])? > 0)
}

/// Links runs to jobs whose result is stored under another run, and counts that result in them too.
fn link(connection: &Connection, fresh: &Fresh<'_>) -> Result<()> {
    let mut rows = connection.appender_to_catalog_and_db("new_run_jobs", "temp", "main")?;
    for result in &fresh.elsewhere {
        rows.append_row(params![result.job.run.run_id.to_string(), result.job.job_id.to_string()])?;
    }
    rows.flush()?;
    for sql in [ADD_DEAD_ELSEWHERE, DROP_OLD_LINKS, COUNT_LINKS, STORE_LINKS, "DELETE FROM temp.new_run_jobs"] {
        connection.prepare_cached(sql)?.execute([])?;
    }
    Ok(())
}
