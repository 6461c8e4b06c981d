//! What is not worth proposing though nobody has measured it.

use messages::Timestamp;

use super::select;
use crate::{IncompatibleRow, Store, StoreError, WithheldRows};

/// Configurations of runs that are not complete and were not cancelled.
const QUEUED: &str = "
SELECT DISTINCT c.configuration FROM run_configurations c JOIN runs r USING (run_uuid)
WHERE r.completed_at IS NULL AND epoch_us(greatest(r.submitted_at, coalesce(r.due_at, r.submitted_at))) >= ?
  AND NOT EXISTS (SELECT 1 FROM cancels x WHERE x.target = 'run' AND x.target_id = r.run_uuid)
ORDER BY c.configuration";

/// Cases of jobs that are dead letters. One that measures is named after its configuration; suites that measure it more
/// than once put the number of the repeat behind it.
const DEAD: &str = "
SELECT DISTINCT coalesce(c.configuration, d.case_name) AS configuration
FROM dead_letters d
LEFT JOIN run_configurations c ON c.run_uuid = d.run_uuid AND starts_with(d.case_name, c.configuration || ' ')
  AND try_cast(substr(d.case_name, length(c.configuration) + 2) AS UINTEGER) IS NOT NULL
WHERE d.case_name IS NOT NULL AND epoch_us(d.finished_at) >= ?
ORDER BY configuration";

/// What benchmarks measured whose result is an error, written as configurations are everywhere: `concat` leaves out what
/// is null.
const FAILED: &str = "
SELECT DISTINCT concat(model_name, ' ', platform, ' ', \"precision\", ' batch ', batch_size,
                       ' sequence ' || sequence_length::VARCHAR, ' image ' || image_size::VARCHAR,
                       ' threads ', threads, ' ' || browser) AS configuration
FROM jobs
WHERE kind <> 'test' AND status = 'error' AND epoch_us(finished_at) >= ? AND model_name IS NOT NULL
ORDER BY configuration";

/// What a backend refused and that never ran there. A crash or want of memory does not count: another batch size may
/// run.
const INCOMPATIBLE: &str = "
SELECT m.model_name, h.platform, h.device_name, arg_max(c.error_message, c.compatibility_id)
FROM hardware_compatibility c JOIN models m USING (model_id) JOIN hardware_platforms h USING (hardware_id)
GROUP BY m.model_name, h.platform, h.device_name
HAVING NOT bool_or(c.is_compatible) AND bool_or(c.detection_success AND NOT c.initialization_success)
ORDER BY m.model_name, h.platform, h.device_name";

impl Store {
    /// What is not to be proposed: what open runs measure that were due since one moment, what failed since another, what
    /// became a dead letter since that one and was neither sent back nor measured, and models that a device's backend
    /// refused and that never ran there. Each is in order.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if a read fails.
    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method itself is not general enough over lifetimes"
    )]
    pub fn withheld(&self, due_since: Timestamp, failed_since: Timestamp) -> Result<WithheldRows, StoreError> {
        let connection = self.reader()?;
        #[expect(clippy::redundant_closure_for_method_calls, reason = "the method has one lifetime, the closure all")]
        let queued =
            select(&connection, "read what open runs measure", QUEUED, [due_since.as_micros()], |row| row.get());
        let dead = select(&connection, "read which cases are dead", DEAD, [failed_since.as_micros()], |row| row.get());
        let failed = select(&connection, "read what failed", FAILED, [failed_since.as_micros()], |row| row.get());
        let incompatible = select(&connection, "read what cannot be measured", INCOMPATIBLE, [], |row| {
            Ok(IncompatibleRow { model: row.get()?, platform: row.get()?, device: row.get()?, message: row.get()? })
        });
        Ok(WithheldRows { queued: queued?, dead: dead?, failed: failed?, incompatible: incompatible? })
    }
}
