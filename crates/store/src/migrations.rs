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
    for migration in MIGRATIONS.iter().filter(|migration| migration.version > found) {
        apply(connection, migration).map_err(|source| StoreError::Migration {
            version: migration.version,
            name: migration.name,
            source,
        })?;
        tracing::info!(version = migration.version, name = migration.name, "migration applied");
    }
    Ok(())
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
            "SELECT 1 FROM duckdb_tables() WHERE database_name = current_database() \
             AND schema_name = 'main' AND lower(table_name) = ?",
            [table],
            |_| Ok(()),
        )
        .optional()
        .map(|found| found.is_some())
}
