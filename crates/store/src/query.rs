//! What may be asked of the store; each answer is one consistent look at what is committed.

mod accepted;
mod attempts;
mod cancels;
mod claims;
mod held_back;
mod judgements;
mod measurements;
mod needs;
mod releases;
mod results;
mod runs;
mod withheld;
mod workers;

use duckdb::{Connection, Params, Row, types::FromSql};
use messages::Timestamp;
use serde::de::DeserializeOwned;

pub(crate) use accepted::accepted_of;

use crate::{OffsetRow, Store, StoreError, StoredPosition, error::failed};

impl Store {
    /// Gives where to go on reading `stream`; `None` if nothing of it was stored.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails.
    pub fn stream_position(&self, stream: &str) -> Result<Option<StoredPosition>, StoreError> {
        let sql = "SELECT next_offset, last_message FROM stream_offsets WHERE stream = ?";
        let mut rows = select(&self.reader()?, "read the stream offset", sql, [stream], |columns| {
            Ok(StoredPosition { next_offset: columns.get()?, last_message: columns.get()? })
        })?;
        Ok(rows.pop())
    }

    /// Gives where each stream is read on, in the order of their names.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails.
    pub fn stream_offsets(&self) -> Result<Vec<OffsetRow>, StoreError> {
        let sql = "SELECT stream, next_offset FROM stream_offsets ORDER BY stream";
        select(&self.reader()?, "read the stream offsets", sql, [], |columns| {
            Ok(OffsetRow { stream: columns.get()?, next_offset: columns.get()? })
        })
    }
}

/// Runs a query and reads each row with `read`; `attempted` completes "failed to …".
pub(crate) fn select<T>(
    connection: &Connection,
    attempted: &'static str,
    sql: &str,
    params: impl Params,
    read: impl Fn(&mut Columns<'_, '_>) -> duckdb::Result<T>,
) -> Result<Vec<T>, StoreError> {
    let rows = |connection: &Connection| {
        connection
            .prepare(sql)?
            .query_map(params, |row| read(&mut Columns { row, next: 0 }))?
            .collect::<duckdb::Result<Vec<T>>>()
    };
    rows(connection).map_err(failed(attempted))
}

/// Reads a list that a table holds as JSON; `what` names it, e.g. `a list of platforms`.
fn parse<T: DeserializeOwned>(what: &'static str, found: String) -> Result<T, StoreError> {
    serde_json::from_str(&found).map_err(|_| StoreError::Unreadable { what, found })
}

/// Reads a row's columns from left to right, in the order of the struct that they fill.
pub(crate) struct Columns<'r, 's> {
    pub(crate) row: &'r Row<'s>,
    next: usize,
}

impl Columns<'_, '_> {
    /// The next column.
    pub(crate) fn get<T: FromSql>(&mut self) -> duckdb::Result<T> {
        self.next += 1;
        self.row.get(self.next - 1)
    }

    /// The next column, a number that JSON can hold.
    fn number(&mut self) -> duckdb::Result<Option<f64>> {
        Ok(self.get::<Option<f64>>()?.filter(|number| number.is_finite()))
    }

    /// The next column, a moment.
    fn moment(&mut self) -> duckdb::Result<String> {
        Ok(Timestamp::from_micros(self.get()?).to_string())
    }

    /// The next column, a moment or nothing.
    fn moment_or_none(&mut self) -> duckdb::Result<Option<String>> {
        Ok(self.get::<Option<i64>>()?.map(|micros| Timestamp::from_micros(micros).to_string()))
    }
}
