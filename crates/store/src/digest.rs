//! Whether two databases hold the same results.
//!
//! Replaying a result stream gives other surrogate keys and another order of rows, so every table is digested by its
//! natural columns: keys are replaced by what they point to, and row hashes are added up. Left out are the tables that
//! the stream does not determine (outbox, offsets, workers, releases, comparisons with earlier runs) and `created_at` of
//! models and devices, which is that of whichever result came first. Where two results of one job differ, the first
//! counts, and then the order in which they are read does matter.

use crate::{Store, StoreError, TableDigest, error::failed};

/// Name and natural rows of each table that the result stream determines.
const TABLES: &[(&str, &str)] = &[
    ("runs", "SELECT * EXCLUDE (run_id) FROM runs"),
    ("test_runs", "SELECT r.run_uuid, t.* EXCLUDE (run_id) FROM test_runs t LEFT JOIN runs r USING (run_id)"),
    (
        "jobs",
        "SELECT j.* EXCLUDE (hardware_id, result_id, test_result_id, web_result_id), h.metadata AS device,
                result_id IS NOT NULL AS measured, test_result_id IS NOT NULL AS tested,
                web_result_id IS NOT NULL AS browsed
         FROM jobs j LEFT JOIN hardware_platforms h USING (hardware_id)",
    ),
    ("attempts", "SELECT * FROM attempts"),
    ("claims", "SELECT * EXCLUDE (schema_version, body) FROM claims"),
    ("claim_returns", "SELECT * FROM claim_returns"),
    ("replays", "SELECT * FROM replays"),
    ("cancels", "SELECT * FROM cancels"),
    ("quarantine_lifts", "SELECT * FROM quarantine_lifts"),
    // Of the runs that share a job, the first one has it in `jobs`.
    ("run_jobs", "SELECT run_uuid, job_id FROM jobs UNION ALL SELECT run_uuid, job_id FROM run_jobs"),
    ("run_needs", "SELECT * FROM run_needs"),
    ("run_configurations", "SELECT * FROM run_configurations"),
    ("models", "SELECT * EXCLUDE (model_id, created_at) FROM models"),
    ("hardware_platforms", "SELECT * EXCLUDE (hardware_id, created_at) FROM hardware_platforms"),
    (
        "performance_results",
        "SELECT p.* EXCLUDE (result_id, run_id, model_id, hardware_id), r.run_uuid, m.model_name, m.version,
                h.metadata AS device
         FROM performance_results p LEFT JOIN runs r USING (run_id) LEFT JOIN models m USING (model_id)
              LEFT JOIN hardware_platforms h USING (hardware_id)",
    ),
    (
        "performance_batch_results",
        "SELECT b.* EXCLUDE (batch_id, result_id), m.job_id
         FROM performance_batch_results b LEFT JOIN measurements m USING (result_id)",
    ),
    ("measurements", "SELECT * EXCLUDE (result_id) FROM measurements"),
    ("graph_costs", "SELECT * FROM graph_costs"),
    (
        "hardware_compatibility",
        "SELECT c.* EXCLUDE (compatibility_id, run_id, model_id, hardware_id), r.run_uuid, m.model_name, m.version,
                h.metadata AS device
         FROM hardware_compatibility c LEFT JOIN runs r USING (run_id) LEFT JOIN models m USING (model_id)
              LEFT JOIN hardware_platforms h USING (hardware_id)",
    ),
    (
        "integration_test_results",
        "SELECT t.* EXCLUDE (test_result_id, run_id, model_id, hardware_id), r.run_uuid, h.metadata AS device
         FROM integration_test_results t LEFT JOIN runs r USING (run_id)
              LEFT JOIN hardware_platforms h USING (hardware_id)",
    ),
    ("integration_test_assertions", "SELECT * EXCLUDE (assertion_id, test_result_id) FROM integration_test_assertions"),
    (
        "web_platform_results",
        "SELECT w.* EXCLUDE (result_id, run_id, model_id, hardware_id), r.run_uuid, m.model_name, m.version,
                h.metadata AS device
         FROM web_platform_results w LEFT JOIN runs r USING (run_id) LEFT JOIN models m USING (model_id)
              LEFT JOIN hardware_platforms h USING (hardware_id)",
    ),
    ("webgpu_advanced_features", "SELECT * EXCLUDE (feature_id, result_id) FROM webgpu_advanced_features"),
    ("predictions", "SELECT * FROM predictions"),
    ("prediction_errors", "SELECT * FROM prediction_errors"),
];

impl Store {
    /// Digests every table that the result stream determines, all at one moment.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if a read fails.
    pub fn digest(&self) -> Result<Vec<TableDigest>, StoreError> {
        let connection = self.reader()?;
        let transaction = connection.unchecked_transaction().map_err(failed("begin a transaction"))?;
        TABLES
            .iter()
            .map(|(table, natural_rows)| {
                // Two 64-bit halves of an MD5 per row, each summed in 128 bits: sums do not depend on the order and,
                // unlike exclusive or, tell one row from three.
                let sql = format!(
                    "SELECT count(*), format('{{:x}}-{{:x}}', coalesce(sum(md5_number_lower(t::VARCHAR)::HUGEINT), 0), \
                     coalesce(sum(md5_number_upper(t::VARCHAR)::HUGEINT), 0)) FROM ({natural_rows}) t"
                );
                transaction
                    .query_row(&sql, [], |row| {
                        Ok(TableDigest { table: (*table).to_owned(), rows: row.get(0)?, digest: row.get(1)? })
                    })
                    .map_err(failed(format!("digest table {table}")))
            })
            .collect()
    }
}
