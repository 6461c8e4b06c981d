//! What runs ask of workers.

use std::collections::HashMap;

use messages::RunId;

use super::{parse, select};
use crate::{NeedRow, Store, StoreError};

const ENDED: &str = "
SELECT platform, count(DISTINCT job_id)::UINTEGER FROM (
    SELECT j.platform, j.job_id FROM jobs j
    WHERE j.run_uuid = $1::UUID OR j.job_id IN (SELECT job_id FROM run_jobs WHERE run_uuid = $1::UUID)
    UNION ALL
    SELECT d.platform, d.job_id FROM dead_letters d WHERE d.run_uuid = $1::UUID
) GROUP BY platform";

impl Store {
    /// What the jobs of a run ask of workers, in the order of platforms; nothing if the run was not announced.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails or a stored list is not what Augur writes.
    pub fn run_needs(&self, run: RunId) -> Result<Vec<NeedRow>, StoreError> {
        let sql = "SELECT platform, memory_mb_min, device_memory_mb_min, browser, jobs, tags::VARCHAR FROM run_needs \
                   WHERE run_uuid = ?::UUID \
                   ORDER BY platform, memory_mb_min NULLS FIRST, device_memory_mb_min NULLS FIRST, \
                   browser NULLS FIRST, json_array_length(tags), tags::VARCHAR";
        let rows = select(&self.reader()?, "read the needs of a run", sql, [run.to_string()], |columns| {
            let need = NeedRow {
                platform: columns.get()?,
                memory_mb_min: columns.get()?,
                device_memory_mb_min: columns.get()?,
                browser: columns.get()?,
                jobs: columns.get()?,
                tags: Vec::new(),
            };
            Ok((need, columns.get::<String>()?))
        })?;
        rows.into_iter().map(|(need, tags)| Ok(NeedRow { tags: parse("a list of tags", tags)?, ..need })).collect()
    }

    /// How many jobs of a run have a result or are dead, by platform.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails.
    pub fn ended_by_platform(&self, run: RunId) -> Result<HashMap<String, u32>, StoreError> {
        let rows = select(&self.reader()?, "count the ended jobs of a run", ENDED, [run.to_string()], |columns| {
            Ok((columns.get()?, columns.get()?))
        })?;
        Ok(rows.into_iter().collect())
    }
}
