//! Claims, returned claims, replayed dead letters, cancellations, lifted quarantines: facts that are stored as they come, each once.
//!
//! What follows from them is asked when it is needed, so the order in which they are read does not matter.

use duckdb::{Appender, Connection, Result, params};
use messages::{Cancel, CancelTarget, ClaimReturned, DeadLetterReplayed, JobClaimed, QuarantineLifted};

use super::moment;
use crate::Record;

/// A table of facts and the columns that tell one from another.
struct FactTable {
    name: &'static str,
    key: &'static [&'static str],
}

const CLAIMS: FactTable =
    FactTable { name: "claims", key: &["job_id", "replays", "attempt", "worker_id", "claimed_at"] };
const RETURNS: FactTable =
    FactTable { name: "claim_returns", key: &["job_id", "run_uuid", "attempt", "worker_id", "returned_at"] };
const REPLAYS: FactTable = FactTable { name: "replays", key: &["job_id", "run_uuid", "replays", "replayed_at"] };
const CANCELS: FactTable = FactTable { name: "cancels", key: &["target", "target_id", "requested_at"] };
const LIFTS: FactTable = FactTable { name: "quarantine_lifts", key: &["job_id", "lifted_at"] };

impl FactTable {
    /// Name of the temporary table that takes a batch's facts; empty between batches.
    fn scratch(&self) -> String {
        format!("new_{}", self.name)
    }

    fn insert(&self) -> String {
        let columns = self.key.join(", ");
        let same = self.key.iter().map(|column| format!("o.{column} = n.{column}")).collect::<Vec<_>>().join(" AND ");
        format!(
            "INSERT INTO {0} SELECT DISTINCT ON ({columns}) * FROM temp.{1} n \
             WHERE NOT EXISTS (SELECT 1 FROM {0} o WHERE {same})",
            self.name,
            self.scratch()
        )
    }
}

/// Makes the temporary tables that [`insert`] needs.
pub(super) fn create_scratch_tables(connection: &Connection) -> Result<()> {
    // Made once: every change of the catalog has all cached statements planned anew.
    [CLAIMS, RETURNS, REPLAYS, CANCELS, LIFTS].iter().try_for_each(|table| {
        connection.execute_batch(&format!("CREATE TEMP TABLE {} AS FROM {} LIMIT 0", table.scratch(), table.name))
    })
}

/// Stores the facts of a batch that are not there yet.
pub(super) fn insert(connection: &Connection, records: &[Record]) -> Result<()> {
    let mut claims = Vec::new();
    let (mut returns, mut replays, mut cancels, mut lifts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for record in records {
        match record {
            Record::Claim(claim) => claims.push(claim.as_ref()),
            Record::ClaimReturned(returned) => returns.push(returned),
            Record::Replayed(replayed) => replays.push(replayed),
            Record::Cancel(cancel) => cancels.push(cancel),
            Record::QuarantineLifted(lifted) => lifts.push(lifted),
            Record::Run(_) | Record::Result(_) | Record::Attempt(_) | Record::DeadLettered(_) => {}
        }
    }
    insert_new(connection, &CLAIMS, &claims, append_claim)?;
    insert_new(connection, &RETURNS, &returns, append_return)?;
    insert_new(connection, &REPLAYS, &replays, append_replay)?;
    insert_new(connection, &CANCELS, &cancels, append_cancel)?;
    insert_new(connection, &LIFTS, &lifts, append_lift)
}

/// Inserts the facts whose key no row has yet.
fn insert_new<F>(
    connection: &Connection,
    table: &FactTable,
    facts: &[&F],
    append: impl Fn(&mut Appender<'_>, &F) -> Result<()>,
) -> Result<()> {
    if facts.is_empty() {
        return Ok(());
    }
    let scratch = table.scratch();
    let mut rows = connection.appender_to_catalog_and_db(&scratch, "temp", "main")?;
    facts.iter().try_for_each(|fact| append(&mut rows, fact))?;
    rows.flush()?;
    connection.prepare_cached(&table.insert())?.execute([])?;
    connection.prepare_cached(&format!("DELETE FROM temp.{scratch}"))?.execute([])?;
    Ok(())
}

fn append_claim(rows: &mut Appender<'_>, claim: &JobClaimed) -> Result<()> {
    match messages::encode(claim) {
        Ok(encoded) => rows.append_row(params![
            claim.job.job_id.to_string(),
            claim.job.run.run_id.to_string(),
            claim.job.dispatch.replays,
            claim.attempt,
            claim.worker_id.as_str(),
            moment(claim.claimed_at),
            claim.lease_ms,
            encoded.schema_version,
            encoded.body,
        ]),
        // It came in a message of the same schema. Were it ever otherwise, stopping here would stop the stream.
        Err(error) => {
            tracing::error!(job_id = %claim.job.job_id, %error, "claim is not stored");
            Ok(())
        }
    }
}

fn append_return(rows: &mut Appender<'_>, returned: &ClaimReturned) -> Result<()> {
    rows.append_row(params![
        returned.job_id.to_string(),
        returned.run_id.to_string(),
        returned.attempt,
        returned.worker_id.as_str(),
        moment(returned.returned_at),
    ])
}

fn append_replay(rows: &mut Appender<'_>, replayed: &DeadLetterReplayed) -> Result<()> {
    rows.append_row(params![
        replayed.job_id.to_string(),
        replayed.run_id.to_string(),
        replayed.replays,
        moment(replayed.replayed_at),
    ])
}

fn append_cancel(rows: &mut Appender<'_>, cancel: &Cancel) -> Result<()> {
    let (target, id) = match cancel.target {
        CancelTarget::Job(job) => ("job", job.to_string()),
        CancelTarget::Run(run) => ("run", run.to_string()),
    };
    rows.append_row(params![target, id, moment(cancel.requested_at)])
}

fn append_lift(rows: &mut Appender<'_>, lifted: &QuarantineLifted) -> Result<()> {
    rows.append_row(params![lifted.job_id.to_string(), moment(lifted.lifted_at)])
}
