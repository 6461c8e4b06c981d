//! Measurement tables in and out: each row once, repeats kept, nothing lost on the way.

use duckdb::Connection;
use messages::MeasuredRow;

use super::{adoption::OLDER, builders::stream, commit::count};
use crate::{ImportSummary, ImportedTable, OutboxMode, Store, StoreError, read_database};

fn row(model: &str, latency_ms: f64) -> MeasuredRow {
    MeasuredRow {
        model: model.to_owned(),
        family: Some("family".to_owned()),
        device: "Tesla \"T4\", 16 GB".to_owned(),
        platform: Some("cuda".to_owned()),
        precision: Some("fp16".to_owned()),
        batch_size: 8.0,
        image_size: Some(224.0),
        latency_ms: Some(latency_ms),
        ..MeasuredRow::default()
    }
}

fn imported(store: &Store, rows: &[MeasuredRow]) -> ImportSummary {
    store.import(&[ImportedTable { source: "t.csv", rows }]).expect("imported")[0]
}

#[test]
fn a_row_counts_once_and_what_disagrees_is_a_repeat() {
    let store = Store::in_memory().expect("a store");
    let rows = [row("a", 1.0 / 3.0), row("a", 0.5), row("b", 1e-3), row("b", 1e-3)];
    assert_eq!(imported(&store, &rows), ImportSummary { new: 3, known: 1, repeats: 1 });
    // Another source describes the same model otherwise; what it measured is the same.
    let described = MeasuredRow { family: None, params_m: Some(5.0), ..row("a", 0.5) };
    assert_eq!(imported(&store, &[described]), ImportSummary { new: 0, known: 1, repeats: 0 });
    assert_eq!(imported(&store, &rows), ImportSummary { new: 0, known: 4, repeats: 0 });
    assert_eq!(store.table_rows().expect("read").rows, [row("a", 1.0 / 3.0), row("a", 0.5), row("b", 1e-3)]);
    let coverage = store.coverage().expect("counted");
    let counts: Vec<_> =
        coverage.iter().map(|cell| (cell.model.as_str(), cell.configurations, cell.measurements)).collect();
    assert_eq!(counts, [("a", 1, 2), ("b", 1, 1)]);
}

#[test]
fn what_the_queue_measured_is_in_the_table() {
    let store = Store::in_memory().expect("a store");
    store.commit(&stream(), None, OutboxMode::Skip).expect("stored");
    imported(&store, &[row("a", 2.0)]);
    let read = store.table_rows().expect("read");
    let measured = store.measured().expect("read");
    assert_eq!(read.bad, []);
    assert_eq!(store.brought_rows().expect("read").rows, [row("a", 2.0)]);
    assert_eq!(read.rows.len(), 1 + measured.iter().map(|row| row.measurements as usize).sum::<usize>());
    let queued = read.rows.iter().find(|row| row.backend.as_deref() == Some("onnxruntime")).expect("a benchmark");
    assert!(queued.latency_ms.is_some() && queued.threads.is_some() && queued.params_m.is_some(), "{queued:?}");
}

#[test]
fn an_older_database_is_read_and_left_as_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("benchmark_db.duckdb");
    let broken = "INSERT INTO performance_results VALUES (1001, 41, 9, 3, 'inference', 4, 'fp16', 1, -2.5, NULL, NULL, \
                  100, 10, NULL, '2025-03-01')";
    Connection::open(&path)
        .and_then(|older| older.execute_batch(&format!("{OLDER}; {broken}; CHECKPOINT")))
        .expect("the older file");
    let before = std::fs::read(&path).expect("read");
    let read = read_database(&path).expect("read");
    let [row] = &read.rows[..] else { panic!("{read:?}") };
    assert_eq!((row.model.as_str(), row.device.as_str(), row.batch_size), ("bert-base-uncased", "RTX 4090", 8.0));
    assert_eq!((row.latency_ms, row.memory_peak_mb, row.params_m), (Some(12.5), Some(2048.0), Some(110.0)));
    assert_eq!((row.platform.as_deref(), row.precision.as_deref()), (Some("cuda"), Some("fp16")));
    assert_eq!(read.bad, [(1001, "`latency_ms` is -2.5, not above 0".to_owned())]);
    assert_eq!(std::fs::read(&path).expect("read"), before, "the file is untouched");
    let missing = read_database(&directory.path().join("none.duckdb")).expect_err("missing");
    assert!(matches!(missing, StoreError::File { .. }), "{missing}");
}

#[test]
fn an_export_has_every_row_in_every_form() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::in_memory().expect("a store");
    imported(&store, &[row("a", 1.0 / 3.0), row("b", 2.0)]);
    for (name, reader) in [
        ("t.csv", "read_csv('{}', all_varchar = true)"),
        ("t.csv.gz", "read_csv('{}', all_varchar = true)"),
        ("t.parquet", "read_parquet('{}')"),
    ] {
        let path = directory.path().join(name);
        assert_eq!(store.export(&path).expect("written"), 2, "{name}");
        let sql = format!(
            "SELECT count(*) FROM {} WHERE device = 'Tesla \"T4\", 16 GB' AND latency_ms::DOUBLE IN (1 / 3, 2) \
             AND power_w IS NULL",
            reader.replace("{}", &path.display().to_string())
        );
        assert_eq!(count(&store, &sql), 2, "{name}");
    }
    assert_eq!(std::fs::read_dir(directory.path()).expect("listed").count(), 3, "nothing partial is left");
    let error = store.export(&directory.path().join("t.xlsx")).expect_err("no such form");
    assert!(matches!(error, StoreError::File { .. }), "{error}");
}
