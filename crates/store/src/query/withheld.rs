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

/// Cases of jobs that are dead letters. One that measures is named after its configuration: by the learner, by
/// `job submit` and by suites that measure each once.
const DEAD: &str = "
SELECT DISTINCT case_name FROM dead_letters
WHERE case_name IS NOT NULL AND epoch_us(finished_at) >= ?
ORDER BY case_name";

/// What a backend refused and that never ran there. A crash or want of memory does not count: another batch size may
/// run.
const INCOMPATIBLE: &str = "
SELECT m.model_name, h.platform, h.device_name, arg_max(c.error_message, c.compatibility_id)
FROM hardware_compatibility c JOIN models m USING (model_id) JOIN hardware_platforms h USING (hardware_id)
GROUP BY m.model_name, h.platform, h.device_name
HAVING NOT bool_or(c.is_compatible) AND bool_or(c.detection_success AND NOT c.initialization_success)
ORDER BY m.model_name, h.platform, h.device_name";

impl Store {
    /// What is not to be proposed: what open runs measure that were due since a moment, what became a dead letter since
    /// then and was neither sent back nor measured, and models that a device's backend refused and that never ran there.
    /// Each is in order.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if a read fails.
    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method itself is not general enough over lifetimes"
    )]
    pub fn withheld(&self, since: Timestamp) -> Result<WithheldRows, StoreError> {
        let connection = self.reader()?;
        #[expect(clippy::redundant_closure_for_method_calls, reason = "the method has one lifetime, the closure all")]
        let queued = select(&connection, "read what open runs measure", QUEUED, [since.as_micros()], |row| row.get());
        let dead = select(&connection, "read which cases are dead", DEAD, [since.as_micros()], |row| row.get());
        let incompatible = select(&connection, "read what cannot be measured", INCOMPATIBLE, [], |row| {
            Ok(IncompatibleRow { model: row.get()?, platform: row.get()?, device: row.get()?, message: row.get()? })
        });
        Ok(WithheldRows { queued: queued?, dead: dead?, incompatible: incompatible? })
    }
}
