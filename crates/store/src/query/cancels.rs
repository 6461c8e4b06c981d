//! Cancel orders that may still have to be obeyed.

use duckdb::params;
use messages::{Cancel, CancelTarget, Timestamp};

use super::select;
use crate::{Store, StoreError};

/// Orders about jobs without a result and about runs that are not complete, each target once, the newest first. Who
/// replays a dead letter after its order wants it to run.
const OPEN: &str = "
SELECT c.target = 'run', c.target_id::VARCHAR, epoch_us(max(c.requested_at)) FROM cancels c
LEFT JOIN jobs j ON c.target = 'job' AND j.job_id = c.target_id
LEFT JOIN runs r ON c.target = 'run' AND r.run_uuid = c.target_id AND r.completed_at IS NOT NULL
WHERE j.job_id IS NULL AND r.run_uuid IS NULL AND epoch_us(c.requested_at) >= ?
  AND NOT EXISTS (SELECT 1 FROM replays p WHERE p.replayed_at > c.requested_at
                  AND CASE c.target WHEN 'run' THEN p.run_uuid ELSE p.job_id END = c.target_id)
GROUP BY c.target, c.target_id ORDER BY max(c.requested_at) DESC, c.target_id LIMIT ?";

impl Store {
    /// The newest orders since a moment, at most `limit`, that something may still be left to end by.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails.
    pub fn open_cancels(&self, since: Timestamp, limit: usize) -> Result<Vec<Cancel>, StoreError> {
        let rows = select(
            &self.reader()?,
            "read the open cancel orders",
            OPEN,
            params![since.as_micros(), limit],
            |columns| Ok((columns.get::<bool>()?, columns.get::<String>()?, columns.get::<i64>()?)),
        )?;
        rows.into_iter()
            .map(|(is_run, id, requested_at)| {
                let target = if is_run { id.parse().map(CancelTarget::Run) } else { id.parse().map(CancelTarget::Job) };
                let target =
                    target.map_err(|_| StoreError::Unreadable { what: "the target of a cancel", found: id })?;
                Ok(Cancel { target, requested_at: Timestamp::from_micros(requested_at) })
            })
            .collect()
    }
}
