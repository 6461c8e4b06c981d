//! Files that open, and files that do not.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use super::builders::stream;
use crate::{OutboxMode, Store, StoreError};

/// Names the file that [`hold_a_database`] shall hold.
const HOLD: &str = "AUGUR_STORE_TEST_HOLD";

fn path(directory: &tempfile::TempDir) -> std::path::PathBuf {
    directory.path().join("augur.duckdb")
}

#[test]
fn a_file_keeps_its_content_when_opened_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open(&path(&directory)).expect("a new file");
    store.commit(&stream(), None, OutboxMode::Feed).expect("stored");
    let digest = store.digest().expect("a digest");
    drop(store);
    let store = Store::open(&path(&directory)).expect("the same file");
    assert_eq!(store.digest().expect("a digest"), digest);
    let summary = store.commit(&stream(), None, OutboxMode::Feed).expect("stored");
    assert_eq!((summary.results_new, summary.results_duplicate), (0, 8));
    assert_eq!(store.digest().expect("a digest"), digest, "models and devices are known again");
}

#[test]
fn a_file_opens_after_a_crash_at_any_time_since_it_was_made() {
    let directory = tempfile::tempdir().expect("a directory");
    let crashed = |name: &str| {
        let copy = directory.path().join(name);
        for suffix in ["", ".wal"] {
            let of = |path: &Path| std::path::PathBuf::from(format!("{}{suffix}", path.display()));
            if of(&path(&directory)).exists() {
                std::fs::copy(of(&path(&directory)), of(&copy)).expect("copied");
            }
        }
        Store::open(&copy).unwrap_or_else(|error| panic!("{name}: {error:?}"))
    };
    // A copy of the files of an open database is what a crash leaves.
    let store = Store::open(&path(&directory)).expect("a new file");
    drop(crashed("migrated"));
    store.commit(&stream(), None, OutboxMode::Feed).expect("stored");
    assert_eq!(crashed("filled").digest().expect("a digest"), store.digest().expect("a digest"));
}

#[test]
fn something_else_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(path(&directory), "no database at all\n".repeat(1_000)).expect("written");
    let error = Store::open(&path(&directory)).expect_err("text");
    assert!(matches!(error, StoreError::NotADatabase { .. }), "{error:?}");
    let error = Store::open(&directory.path().join("absent/augur.duckdb")).expect_err("no directory");
    assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open(&path(&directory)).expect("a new file");
    store
        .writer()
        .connection()
        .execute_batch("INSERT INTO schema_migrations (version, name) VALUES (999, 'from the future')")
        .expect("inserted");
    drop(store);
    for _ in 0..2 {
        let error = Store::open(&path(&directory)).expect_err("newer");
        assert!(matches!(error, StoreError::NewerSchema { found: 999, .. }), "{error:?}");
    }
}

#[test]
fn a_foreign_table_of_our_name_is_not_overwritten() {
    let directory = tempfile::tempdir().expect("a directory");
    duckdb::Connection::open(path(&directory))
        .and_then(|other| other.execute_batch("CREATE TABLE jobs (title VARCHAR); INSERT INTO jobs VALUES ('cook')"))
        .expect("made");
    let error = Store::open(&path(&directory)).expect_err("in the way");
    assert_eq!(error.to_string(), "the database has a table `jobs` that Augur did not make; rename it first");
}

/// Not a test of its own: [`a_held_file_names_its_holder`] runs it as another process.
#[test]
fn hold_a_database() {
    let Some(path) = std::env::var_os(HOLD) else { return };
    let store = Store::open(Path::new(&path)).expect("opened by the other process");
    println!("\nholding");
    std::io::stdin().lock().read_line(&mut String::new()).expect("told to end");
    drop(store);
}

#[test]
fn a_held_file_names_its_holder() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut holder = Command::new(std::env::current_exe().expect("this test binary"))
        .args(["tests::opening::hold_a_database", "--exact", "--nocapture"])
        .env(HOLD, path(&directory))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(holder.stdout.take().expect("piped")).lines();
    assert!(lines.by_ref().any(|line| line.expect("text") == "holding"), "the other process opened the file");
    let error = Store::open(&path(&directory)).expect_err("held");
    let pid = format!("(PID {})", holder.id());
    assert!(matches!(&error, StoreError::Locked { holder: Some(holder), .. } if holder.contains(&pid)), "{error:?}");
    assert!(error.is_transient());
    holder.stdin.take().expect("piped").write_all(b"\n").expect("told to end");
    assert!(lines.all(|line| line.is_ok()), "the other process printed text to its end");
    holder.wait().expect("ended");
    Store::open(&path(&directory)).expect("free again");
}
