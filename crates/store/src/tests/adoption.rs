//! A benchmark database that another program made opens, with its rows.

use duckdb::Connection;

use super::{builders::stream, commit::count};
use crate::{OutboxMode, Store};

/// The older schema as it is found: integer keys without sequences, floats, foreign keys, an index, a view, a column
/// that Augur has not, and tables without `metadata` or `created_at`, or not there at all.
pub(super) const OLDER: &str = "
CREATE TABLE hardware_platforms (hardware_id INTEGER PRIMARY KEY, hardware_type VARCHAR NOT NULL, device_name VARCHAR,
    platform VARCHAR, platform_version VARCHAR, driver_version VARCHAR, memory_gb FLOAT, compute_units INTEGER,
    metadata JSON, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE models (model_id INTEGER PRIMARY KEY, model_name VARCHAR NOT NULL UNIQUE, model_family VARCHAR,
    modality VARCHAR, source VARCHAR, version VARCHAR, parameters_million FLOAT, metadata JSON);
CREATE TABLE test_runs (run_id INTEGER PRIMARY KEY, test_name VARCHAR NOT NULL, test_type VARCHAR NOT NULL,
    started_at TIMESTAMP, completed_at TIMESTAMP, execution_time_seconds FLOAT, success BOOLEAN, git_commit VARCHAR,
    git_branch VARCHAR, command_line VARCHAR, metadata JSON, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE performance_results (result_id INTEGER PRIMARY KEY, run_id INTEGER, model_id INTEGER NOT NULL,
    hardware_id INTEGER NOT NULL, test_case VARCHAR, batch_size INTEGER, \"precision\" VARCHAR,
    total_time_seconds FLOAT, average_latency_ms FLOAT, throughput_items_per_second FLOAT, memory_peak_mb FLOAT,
    iterations INTEGER, warmup_iterations INTEGER, metrics JSON, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    FOREIGN KEY (run_id) REFERENCES test_runs(run_id), FOREIGN KEY (model_id) REFERENCES models(model_id),
    FOREIGN KEY (hardware_id) REFERENCES hardware_platforms(hardware_id));
CREATE TABLE performance_batch_results (batch_id INTEGER PRIMARY KEY, result_id INTEGER NOT NULL, batch_index INTEGER,
    batch_size INTEGER, latency_ms FLOAT, memory_usage_mb FLOAT,
    FOREIGN KEY (result_id) REFERENCES performance_results(result_id));
CREATE TABLE power_notes (note VARCHAR, hardware_id INTEGER REFERENCES hardware_platforms(hardware_id));
CREATE INDEX performance_by_model ON performance_results(model_id, hardware_id);
CREATE VIEW slow AS SELECT model_name, average_latency_ms FROM performance_results JOIN models USING (model_id);
INSERT INTO hardware_platforms VALUES (3, 'cuda', 'RTX 4090', 'linux', '12.4', '550', 24, 128, '{\"slot\": 1}', '2025-03-01');
INSERT INTO models VALUES (5, 'bert-base-uncased', 'bert', 'text', 'hf', 'main', 110, NULL), (9, 'gpt2', 'gpt', 'text', 'hf', 'main', 124, NULL);
INSERT INTO test_runs VALUES (41, 'nightly', 'performance', '2025-03-01', '2025-03-01 01:00:00', 3600, true, 'abc', 'main', 'x', NULL, '2025-03-01');
INSERT INTO performance_results VALUES (1000, 41, 5, 3, 'inference', 8, 'fp16', 1.5, 12.5, 640, 2048, 100, 10, '{\"a\": 1}', '2025-03-01');
INSERT INTO performance_batch_results VALUES (77, 1000, 0, 8, 12.25, 2000);
INSERT INTO power_notes VALUES ('hot', 3);
";

fn adopted(directory: &tempfile::TempDir) -> Store {
    let path = directory.path().join("benchmark_db.duckdb");
    Connection::open(&path).and_then(|older| older.execute_batch(OLDER)).expect("the older file");
    Store::open(&path).expect("adopted")
}

#[test]
fn rows_columns_views_and_indexes_survive() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = adopted(&directory);
    let kept = "SELECT count(*) FROM performance_results p JOIN models m USING (model_id) \
                JOIN hardware_platforms h USING (hardware_id) JOIN test_runs t USING (run_id) \
                JOIN performance_batch_results b USING (result_id) \
                WHERE p.result_id = 1000 AND m.model_name = 'bert-base-uncased' AND (h.metadata ->> 'slot') = '1' \
                AND t.execution_time_seconds = 3600 AND b.latency_ms = 12.25 AND (p.metrics ->> 'a') = '1' \
                AND p.created_at = '2025-03-01' AND b.created_at IS NULL AND p.metadata IS NULL";
    assert_eq!(count(&store, kept), 1);
    assert_eq!(count(&store, "SELECT count(*) FROM slow WHERE average_latency_ms = 12.5"), 1);
    assert_eq!(count(&store, "SELECT count(*) FROM power_notes WHERE hardware_id = 3"), 1);
    assert_eq!(count(&store, "SELECT count(*) FROM duckdb_indexes() WHERE index_name = 'performance_by_model'"), 1);
    assert_eq!(count(&store, "SELECT count(*) FROM duckdb_tables() WHERE table_name LIKE 'augur_aside%'"), 0);
}

#[test]
fn new_keys_continue_after_the_old_ones() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = adopted(&directory);
    store.commit(&stream(), None, OutboxMode::Feed).expect("stored");
    for (table, key, least) in [
        ("hardware_platforms", "hardware_id", 4),
        ("models", "model_id", 10),
        ("test_runs", "run_id", 42),
        ("performance_results", "result_id", 1_001),
        ("performance_batch_results", "batch_id", 78),
        ("hardware_compatibility", "compatibility_id", 1),
    ] {
        let new = format!("SELECT min({key}) FROM {table} WHERE {key} >= {least}");
        assert_eq!(count(&store, &new), least, "first new {key} of {table}");
        let twice = format!("SELECT count(*) - count(DISTINCT {key}) FROM {table}");
        assert_eq!(count(&store, &twice), 0, "{key} of {table} is unique");
    }
}

#[test]
fn an_adopted_file_opens_again_as_ours() {
    let directory = tempfile::tempdir().expect("a directory");
    let digest = adopted(&directory).digest().expect("a digest");
    let store = Store::open(&directory.path().join("benchmark_db.duckdb")).expect("opened again");
    assert_eq!(store.digest().expect("a digest"), digest);
}
