//! Takes over a benchmark database that another program made.
//!
//! Such a file has the benchmark tables, perhaps without our sequences, without some columns, with narrower numbers,
//! with foreign keys and indexes. DuckDB refuses most `ALTER TABLE`s on tables that foreign keys refer to, so the
//! tables are set aside, made anew and filled again, all in the caller's transaction. Rows, columns that only the old
//! file has, views and plain indexes survive; foreign keys and unique constraints do not.

use duckdb::{Connection, Result};

/// Each benchmark table with its key and the sequence that the key comes from.
const KEYS: &[(&str, &str, &str)] = &[
    ("hardware_platforms", "hardware_id", "hardware_id_seq"),
    ("models", "model_id", "model_id_seq"),
    ("test_runs", "run_id", "run_id_seq"),
    ("performance_results", "result_id", "result_id_seq"),
    ("performance_batch_results", "batch_id", "batch_id_seq"),
    ("hardware_compatibility", "compatibility_id", "compatibility_id_seq"),
    ("integration_test_results", "test_result_id", "test_result_id_seq"),
    ("integration_test_assertions", "assertion_id", "assertion_id_seq"),
    ("web_platform_results", "result_id", "web_result_id_seq"),
    ("webgpu_advanced_features", "feature_id", "feature_id_seq"),
];

/// Creates the benchmark tables with `schema_sql`, keeping what the file already has of them.
pub(super) fn benchmark_tables(connection: &Connection, schema_sql: &str) -> Result<()> {
    let affected = affected_tables(connection)?;
    let indexes = plain_indexes(connection, &affected)?;
    set_aside(connection, &affected)?;
    for (table, key, sequence) in KEYS {
        let start = next_key(connection, table, key)?;
        connection
            .execute_batch(&format!("DROP SEQUENCE IF EXISTS {sequence}; CREATE SEQUENCE {sequence} START {start}"))?;
    }
    connection.execute_batch(schema_sql)?;
    for table in &affected {
        if KEYS.iter().any(|(ours, ..)| ours == table) {
            restore_rows(connection, table)?;
        } else {
            tracing::warn!(table, "constraints and defaults of this table were given up with its foreign key");
            connection.execute_batch(&format!("ALTER TABLE {} RENAME TO {}", aside(table), quoted(table)))?;
        }
    }
    indexes.iter().try_for_each(|sql| connection.execute_batch(sql))
}

/// The benchmark tables that exist and every table that refers to one of them, referring tables first.
fn affected_tables(connection: &Connection) -> Result<Vec<String>> {
    let existing = strings(
        connection,
        "SELECT lower(table_name) FROM duckdb_tables() \
         WHERE database_name = current_database() AND schema_name = 'main'",
    )?;
    let references: Vec<(String, String)> = connection
        .prepare(
            "SELECT lower(table_name), lower(referenced_table) FROM duckdb_constraints() \
             WHERE database_name = current_database() AND schema_name = 'main' AND constraint_type = 'FOREIGN KEY'",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_>>()?;
    let mut pending: Vec<String> =
        KEYS.iter().map(|(table, ..)| (*table).to_owned()).filter(|table| existing.contains(table)).collect();
    let mut next = 0;
    while next < pending.len() {
        for (referring, referred) in &references {
            if *referred == pending[next] && !pending.contains(referring) {
                pending.push(referring.clone());
            }
        }
        next += 1;
    }
    let mut ordered = Vec::with_capacity(pending.len());
    while !pending.is_empty() {
        // DuckDB cannot make circular foreign keys; a table that refers to itself counts as free.
        let free = pending
            .iter()
            .position(|table| {
                !references
                    .iter()
                    .any(|(referring, referred)| referred == table && referring != table && pending.contains(referring))
            })
            .unwrap_or(0);
        ordered.push(pending.remove(free));
    }
    Ok(ordered)
}

fn plain_indexes(connection: &Connection, tables: &[String]) -> Result<Vec<String>> {
    let mut all = connection.prepare(
        "SELECT lower(table_name), sql FROM duckdb_indexes() \
         WHERE database_name = current_database() AND schema_name = 'main' AND NOT is_unique AND sql IS NOT NULL",
    )?;
    let rows: Vec<(String, String)> =
        all.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_>>()?;
    Ok(rows.into_iter().filter(|(table, _)| tables.contains(table)).map(|(_, sql)| sql).collect())
}

fn set_aside(connection: &Connection, tables: &[String]) -> Result<()> {
    for table in tables {
        connection.execute_batch(&format!(
            "CREATE TABLE {} AS FROM {}; DROP TABLE {}",
            aside(table),
            quoted(table),
            quoted(table)
        ))?;
    }
    Ok(())
}

/// One more than the largest key set aside; 1 if there is none.
fn next_key(connection: &Connection, table: &str, key: &str) -> Result<i64> {
    let columns = columns(connection, &aside_name(table))?;
    if !columns.iter().any(|(name, _)| name.eq_ignore_ascii_case(key)) {
        return Ok(1);
    }
    connection.query_row(
        &format!("SELECT greatest(coalesce(max(CAST({} AS BIGINT)), 0) + 1, 1) FROM {}", quoted(key), aside(table)),
        [],
        |row| row.get(0),
    )
}

fn restore_rows(connection: &Connection, table: &str) -> Result<()> {
    let ours = columns(connection, table)?;
    let theirs = columns(connection, &aside_name(table))?;
    let lacks =
        |columns: &[(String, String)], name: &str| !columns.iter().any(|(column, _)| column.eq_ignore_ascii_case(name));
    for (name, data_type) in theirs.iter().filter(|(name, _)| lacks(&ours, name)) {
        connection.execute_batch(&format!("ALTER TABLE {} ADD COLUMN {} {data_type}", quoted(table), quoted(name)))?;
    }
    connection.execute_batch(&format!(
        "INSERT INTO {} BY NAME FROM {}; DROP TABLE {}",
        quoted(table),
        aside(table),
        aside(table)
    ))?;
    if lacks(&theirs, "created_at") {
        // Nobody knows when those rows were made; the moment of this migration would be a lie.
        connection.execute_batch(&format!("UPDATE {} SET created_at = NULL", quoted(table)))?;
    }
    Ok(())
}

/// Names and types of a table's columns; none if there is no such table.
fn columns(connection: &Connection, table: &str) -> Result<Vec<(String, String)>> {
    connection
        .prepare(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = current_database() \
             AND schema_name = 'main' AND lower(table_name) = ? ORDER BY column_index",
        )?
        .query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

fn strings(connection: &Connection, sql: &str) -> Result<Vec<String>> {
    connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}

fn aside_name(table: &str) -> String {
    format!("augur_aside_{table}")
}

fn aside(table: &str) -> String {
    quoted(&aside_name(table))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
