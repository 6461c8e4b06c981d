//! Claims that nothing has ended.

use messages::{JobClaimed, Message};

use super::select;
use crate::{OpenClaim, Store, StoreError};

/// The latest claim of each job in each run that has it, unless a result, an attempt as late as the claimed one, or its
/// worker's handing back ended it. Attempts before times: the clocks of workers differ.
const OPEN: &str = "
WITH latest AS (
    SELECT job_id, run_uuid, replays, attempt, worker_id, claimed_at, schema_version, body FROM claims
    QUALIFY row_number() OVER (PARTITION BY job_id, run_uuid, replays
                               ORDER BY attempt DESC, claimed_at DESC, worker_id DESC) = 1
)
SELECT c.job_id::VARCHAR, c.schema_version, c.body FROM latest c
WHERE NOT EXISTS (SELECT 1 FROM jobs j WHERE j.job_id = c.job_id AND j.run_uuid = c.run_uuid)
  AND NOT EXISTS (SELECT 1 FROM run_jobs l WHERE l.job_id = c.job_id AND l.run_uuid = c.run_uuid)
  AND NOT EXISTS (SELECT 1 FROM attempts a
                  WHERE a.job_id = c.job_id AND a.run_uuid = c.run_uuid AND a.replays = c.replays
                    AND a.attempt >= c.attempt)
  AND NOT EXISTS (SELECT 1 FROM claim_returns r
                  WHERE r.job_id = c.job_id AND r.run_uuid = c.run_uuid AND r.worker_id = c.worker_id
                    AND r.returned_at >= c.claimed_at)
ORDER BY c.claimed_at, c.job_id";

impl Store {
    /// Jobs that workers hold under leases, as far as the result stream tells, the oldest claim first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails or a stored claim does not decode.
    pub fn open_claims(&self) -> Result<Vec<OpenClaim>, StoreError> {
        let rows = select(&self.reader()?, "read the open claims", OPEN, [], |columns| {
            Ok((columns.get::<String>()?, columns.get::<u16>()?, columns.get::<Vec<u8>>()?))
        })?;
        rows.into_iter()
            .map(|(job_id, schema_version, body)| {
                JobClaimed::from_bytes(schema_version, &body)
                    .map(|claim| OpenClaim { claim })
                    .map_err(|_| StoreError::Unreadable { what: "a claim of job", found: job_id })
            })
            .collect()
    }
}
