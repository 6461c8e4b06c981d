//! Brings a file's schema up to date: numbered SQL files, each applied in a transaction of its own.

mod adopt;

use duckdb::{Connection, OptionalExt, params};

use crate::{StoreError, error::failed};

struct Migration {
    version: u32,
    name: &'static str,
    apply: fn(&Connection) -> duckdb::Result<()>,
}

/// All migrations in order. Released ones are frozen: change the schema by adding another.
const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "benchmark tables",
        apply: |connection| {
            adopt::benchmark_tables(connection, include_str!("../migrations/0001_benchmark_tables.sql"))
        },
    },
    Migration {
        version: 2,
        name: "augur tables",
        apply: |connection| connection.execute_batch(include_str!("../migrations/0002_augur_tables.sql")),
    },
    Migration {
        version: 3,
        name: "delivery tables",
        apply: |connection| connection.execute_batch(include_str!("../migrations/0003_delivery_tables.sql")),
    },
    Migration {
        version: 4,
        name: "imported tables",
        apply: |connection| connection.execute_batch(include_str!("../migrations/0004_imported_tables.sql")),
    },
    Migration {
        version: 5,
        name: "web columns",
        apply: |connection| connection.execute_batch(include_str!("../migrations/0005_web_columns.sql")),
    },
    Migration {
        version: 6,
        name: "quarantine",
        apply: |connection| connection.execute_batch(include_str!("../migrations/0006_quarantine.sql")),
    },
    Migration {
        version: 7,
        name: "regressions",
        apply: |connection| connection.execute_batch(include_str!("../migrations/0007_regressions.sql")),
    },
    Migration {
        version: 8,
        name: "runs of one",
        apply: |connection| connection.execute_batch(include_str!("../migrations/0008_runs_of_one.sql")),
    },
    Migration {
        version: 9,
        name: "predicted devices",
        apply: |connection| connection.execute_batch(include_str!("../migrations/0009_predicted_devices.sql")),
    },
    Migration {
        version: 10,
        name: "run configurations",
        apply: |connection| connection.execute_batch(include_str!("../migrations/0010_run_configurations.sql")),
    },
];

/// Names that migrations take for Augur's own tables.
const OWN_TABLES: &[&str] = &[
    "runs",
    "jobs",
    "attempts",
    "measurements",
    "graph_costs",
    "predictions",
    "prediction_errors",
    "releases",
    "workers",
    "stream_offsets",
    "outbox",
    "claims",
    "claim_returns",
    "replays",
    "cancels",
    "run_jobs",
    "run_needs",
    "run_configurations",
    "dead_letters",
    "imported_measurements",
    "measurement_table",
    "quarantine_lifts",
    "run_judgements",
    "regressions",
];

/// The schema version that this build writes.
const KNOWN: u32 = MIGRATIONS[MIGRATIONS.len() - 1].version;

/// Applies the migrations that the file lacks; an empty file lacks all.
pub(crate) fn migrate(connection: &Connection) -> Result<(), StoreError> {
    let found = applied_version(connection).map_err(failed("read the schema version"))?;
    if found.is_none() {
        refuse_foreign_tables(connection)?;
    }
    let found = found.unwrap_or_default();
    if found > KNOWN {
        return Err(StoreError::NewerSchema { found, known: KNOWN });
    }
    let missing: Vec<_> = MIGRATIONS.iter().filter(|migration| migration.version > found).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let log_size_max = past_the_log(connection).map_err(failed("switch the write-ahead log off"))?;
    for migration in missing {
        apply(connection, migration).map_err(|source| StoreError::Migration {
            version: migration.version,
            name: migration.name,
            source,
        })?;
        tracing::info!(version = migration.version, name = migration.name, "migration applied");
    }
    set_log_size(connection, &log_size_max).map_err(failed("switch the write-ahead log on"))
}

/// Has what follows committed into the file itself, and gives the setting to go back to.
///
/// DuckDB 1.5.6 cannot read an `ALTER TABLE` from its write-ahead log if one of the table's defaults calls a function:
/// a crash before the log is folded into the file would leave a file that does not open any more.
fn past_the_log(connection: &Connection) -> duckdb::Result<String> {
    let log_size_max = connection.query_row("SELECT current_setting('checkpoint_threshold')", [], |row| row.get(0))?;
    set_log_size(connection, "1 byte")?;
    Ok(log_size_max)
}

fn set_log_size(connection: &Connection, size: &str) -> duckdb::Result<()> {
    connection.execute_batch(&format!("SET GLOBAL checkpoint_threshold = '{size}'"))
}

fn apply(connection: &Connection, migration: &Migration) -> duckdb::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema_migrations \
         (version UINTEGER NOT NULL, name VARCHAR NOT NULL, applied_at TIMESTAMP DEFAULT current_timestamp)",
    )?;
    (migration.apply)(&transaction)?;
    transaction.execute(
        "INSERT INTO schema_migrations (version, name) VALUES (?, ?)",
        params![migration.version, migration.name],
    )?;
    transaction.commit()
}

/// The latest migration applied; `None` if this file was never Augur's.
fn applied_version(connection: &Connection) -> duckdb::Result<Option<u32>> {
    if !table_exists(connection, "schema_migrations")? {
        return Ok(None);
    }
    connection.query_row("SELECT coalesce(max(version), 0) FROM schema_migrations", [], |row| row.get(0)).map(Some)
}

fn refuse_foreign_tables(connection: &Connection) -> Result<(), StoreError> {
    for table in OWN_TABLES {
        if table_exists(connection, table).map_err(failed("list the tables"))? {
            return Err(StoreError::TableInTheWay { table: (*table).to_owned() });
        }
    }
    Ok(())
}

fn table_exists(connection: &Connection, table: &str) -> duckdb::Result<bool> {
    connection
        .query_row(
            "SELECT 1 FROM information_schema.tables WHERE table_catalog = current_database() \
             AND table_schema = 'main' AND lower(table_name) = ?",
            [table],
            |_| Ok(()),
        )
        .optional()
        .map(|found| found.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_second_schema_keeps_its_runs_and_attempts() {
        let connection = Connection::open_in_memory().expect("a database");
        for migration in &MIGRATIONS[..2] {
            apply(&connection, migration).expect("applied");
        }
        let earlier = "INSERT INTO runs (run_uuid, suite, origin, jobs_total, announced, submitted_at, done, passed, \
                       failed, error, cancelled, tests) \
                       VALUES (uuid(), 's', 'client', 1, true, '2026-11-01', 0, 0, 0, 0, 0, 0); \
                       INSERT INTO attempts \
                       VALUES (uuid(), 1, 'w', 'passed', '2026-11-01', '2026-11-01', '2026-11-01'); \
                       INSERT INTO stream_offsets (stream, next_offset) VALUES ('results', 7)";
        connection.execute_batch(earlier).expect("inserted");
        migrate(&connection).expect("migrated");
        let kept = "SELECT count(*) FROM runs, attempts, stream_offsets WHERE dead = 0 AND retried = 0 \
                    AND replays = 0 AND next IS NULL AND next_offset = 7 AND last_message IS NULL";
        let kept: i64 = connection.query_row(kept, [], |row| row.get(0)).expect("read");
        assert_eq!(kept, 1);
        assert_eq!(applied_version(&connection).expect("read"), Some(KNOWN));
    }
}
