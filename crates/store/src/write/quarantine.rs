//! Quarantines that were lifted: the measurement counts from then on, once.
//!
//! Its order and its result may come in any order, in one batch or two; whichever comes second releases it. What it was
//! kept from is done then, in the same transaction: its errors of prediction, and (by the caller) its place in the outbox.

use std::collections::BTreeSet;

use duckdb::{Connection, Result};
use messages::JobId;

use super::{
    entries::{Entry, uuid},
    id_list,
    known::Known,
};
use crate::{Record, Rejection, Standing};

const RELEASE: &str = "
UPDATE measurements SET accepted = true, standing = 'released'
WHERE standing = 'quarantined' AND job_id IN (SELECT unnest(string_split(?, ','))::UUID)
RETURNING job_id::VARCHAR";

/// As [`super::predictions`] has it for what was accepted at once. A metric that is not above zero has no error in percent.
const APPEND_ERRORS: &str = "
INSERT INTO prediction_errors
SELECT job_id, run_uuid, release_id, metric, value, lower, upper, measured, 100 * (value - measured) / measured,
       measured BETWEEN lower AND upper, finished_at
FROM (
    SELECT p.*, j.finished_at,
           CASE p.metric WHEN 'latency_ms' THEN m.latency_p50_ms
                         WHEN 'throughput_items_per_second' THEN m.throughput_items_per_second
                         WHEN 'memory_peak_mb' THEN m.memory_peak_mb
                         WHEN 'power_w' THEN m.power_w
                         WHEN 'load_ms' THEN m.load_ms END AS measured
    FROM predictions p JOIN measurements m ON m.job_id = p.job_id JOIN jobs j ON j.job_id = p.job_id
    LEFT JOIN hardware_platforms h ON h.hardware_id = j.hardware_id
    WHERE p.job_id IN (SELECT unnest(string_split(?, ','))::UUID) AND coalesce(p.device = h.device_name, true)
)
WHERE measured > 0";

/// Releases the measurements that the batch, already stored, lifts out of their quarantine; which ones these are.
///
/// Asks the database nothing where the batch has neither an order nor a result that one waited for.
pub(super) fn release(
    connection: &Connection,
    known: &mut Known,
    records: &[Record],
    entries: &[Entry<'_>],
) -> Result<Vec<JobId>> {
    let ordered = records.iter().filter_map(|record| match record {
        Record::QuarantineLifted(lifted) => Some(lifted.job_id),
        _ => None,
    });
    let mut jobs: BTreeSet<JobId> = ordered.collect();
    known.lifted.extend(&jobs);
    if !known.lifted.is_empty() {
        let awaited = entries.iter().filter(|entry| is_quarantined(entry)).map(|entry| entry.result.job.job_id);
        jobs.extend(awaited.filter(|job| known.lifted.contains(job)));
    }
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let released = connection
        .prepare_cached(RELEASE)?
        .query_map([id_list(jobs.into_iter())], |row| Ok(uuid(&row.get::<_, String>(0)?)))?
        .collect::<Result<Vec<JobId>>>()?;
    if !released.is_empty() {
        connection.prepare_cached(APPEND_ERRORS)?.execute([id_list(released.iter())])?;
    }
    Ok(released)
}

/// Whether the entry cannot be, as far as anybody can tell.
pub(super) fn is_quarantined(entry: &Entry<'_>) -> bool {
    entry.measurement.as_ref().err().map(Rejection::standing) == Some(Standing::Quarantined)
}
