//! The outbox of accepted measurements, and stream offsets.

use duckdb::{Connection, params};
use messages::AcceptedMeasurement;

use super::{StreamPosition, appender, moment};
use crate::{OutboxRow, Store, StoreError, error::failed};

/// Appends measurements, encoded.
pub(super) fn append<'a>(
    connection: &Connection,
    measurements: impl Iterator<Item = &'a AcceptedMeasurement>,
) -> duckdb::Result<()> {
    let mut measurements = measurements.peekable();
    if measurements.peek().is_none() {
        return Ok(());
    }
    let mut rows = appender(connection, "outbox", &["message_type", "schema_version", "body", "created_at"])?;
    for measurement in measurements {
        match messages::encode(measurement) {
            Ok(encoded) => rows.append_row(params![
                encoded.message_type,
                encoded.schema_version,
                encoded.body,
                moment(measurement.measured_at),
            ])?,
            // Its result fitted into a message, and this is a part of it. Were it ever otherwise, stopping here
            // would stop the stream for good.
            Err(error) => tracing::error!(job_id = %measurement.job_id, %error, "measurement is not published"),
        }
    }
    rows.flush()
}

/// Stores where to go on reading a stream.
pub(super) fn store_position(connection: &Connection, position: StreamPosition<'_>) -> duckdb::Result<()> {
    let changed = connection.execute(
        "UPDATE stream_offsets SET next_offset = ?, last_message = ?, updated_at = current_timestamp WHERE stream = ?",
        params![position.next_offset, position.last_message, position.stream],
    )?;
    if changed == 0 {
        connection.execute(
            "INSERT INTO stream_offsets (stream, next_offset, last_message) VALUES (?, ?, ?)",
            params![position.stream, position.next_offset, position.last_message],
        )?;
    }
    Ok(())
}

impl Store {
    /// Reads measurements that still have to be published, oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails.
    pub fn outbox_batch(&self, rows_max: usize) -> Result<Vec<OutboxRow>, StoreError> {
        let read = |connection: &Connection| {
            connection
                .prepare("SELECT id, message_type, schema_version, body FROM outbox ORDER BY id LIMIT ?")?
                .query_map([rows_max], |row| {
                    Ok(OutboxRow {
                        id: row.get(0)?,
                        message_type: row.get(1)?,
                        schema_version: row.get(2)?,
                        body: row.get(3)?,
                    })
                })?
                .collect::<duckdb::Result<Vec<_>>>()
        };
        read(&self.reader()?).map_err(failed("read the outbox"))
    }

    /// Forgets measurements that were published and confirmed.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the write fails.
    pub fn outbox_delete(&self, ids: &[i64]) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let ids = ids.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
        self.writer()
            .connection()
            .execute("DELETE FROM outbox WHERE id IN (SELECT unnest(string_split(?, ','))::BIGINT)", [ids])
            .map(|_| ())
            .map_err(failed("delete from the outbox"))
    }
}
