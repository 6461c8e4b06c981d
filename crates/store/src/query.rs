//! What may be asked of the store; each answer is one consistent look at what is committed.

mod measurements;
mod releases;
mod results;
mod runs;
mod workers;

use duckdb::{Connection, Params, Row, types::FromSql};
use messages::Timestamp;

use crate::{OffsetRow, Store, StoreError, error::failed};

impl Store {
    /// Gives the offset to go on reading `stream` at; `None` if nothing of it was stored.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails.
    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method itself is not general enough over lifetimes"
    )]
    pub fn next_offset(&self, stream: &str) -> Result<Option<u64>, StoreError> {
        let sql = "SELECT next_offset FROM stream_offsets WHERE stream = ?";
        Ok(select(&self.reader()?, "read the stream offset", sql, [stream], |columns| columns.get())?.pop())
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
fn select<T>(
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

/// Reads a row's columns from left to right, in the order of the struct that they fill.
struct Columns<'r, 's> {
    row: &'r Row<'s>,
    next: usize,
}

impl Columns<'_, '_> {
    /// The next column.
    fn get<T: FromSql>(&mut self) -> duckdb::Result<T> {
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
