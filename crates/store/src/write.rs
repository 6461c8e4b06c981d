//! Writing records: one transaction per batch, with the stream offset that follows it.
//!
//! The bulk goes in through appenders; what must be looked up (jobs already there, keys of runs, models and devices)
//! is looked up once per batch or remembered, since nobody else writes. Nearly all batches hold nothing but results
//! that count; what the other records need is done only where there are some.

mod benchmarks;
mod compatibility;
mod entries;
mod facts;
mod jobs;
mod known;
mod outbox;
mod predictions;
mod quarantine;
mod runs;
mod salvage;
mod service;
mod standing;
mod tests;
mod web;

use duckdb::{
    Appender, Connection,
    types::{TimeUnit, Value},
};
use messages::{RunId, Timestamp};

pub use salvage::{Refused, Salvaged};

use self::{entries::Fresh, known::Known};
use crate::{Record, Store, StoreError, error::failed, query};
pub(crate) use entries::uuid;

/// Where to go on reading once a batch is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamPosition<'a> {
    /// Name of the stream.
    pub stream: &'a str,
    /// Offset of the first message that is not in the batch.
    pub next_offset: u64,
    /// Names the last message read, so that it is known again: another stream of the same name has another there.
    pub last_message: Option<&'a str>,
}

/// Whether accepted measurements go into the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutboxMode {
    /// Yes: somebody publishes them from there.
    Feed,
    /// No: this is a copy, and they were published before.
    Skip,
}

/// What a batch changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommitSummary {
    /// Results stored.
    pub results_new: usize,
    /// Results left out because their job has one already.
    pub results_duplicate: usize,
    /// Runs not seen before.
    pub runs_new: usize,
    /// Results that predictors may learn from now and might not before: new ones, and those whose quarantine was lifted.
    pub measurements_accepted: usize,
    /// Runs that changed, each once, in order.
    pub runs_touched: Vec<RunId>,
}

impl Store {
    /// Stores a batch and the stream position after it, wholly or not at all.
    ///
    /// A result whose job has one already is not stored again, nor is any other record, here or anywhere before; so a
    /// batch may come again, and in another order.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] if the disk refuses, [`StoreError::Invalidated`] if the file must be opened again.
    pub fn commit(
        &self,
        records: &[Record],
        position: Option<StreamPosition<'_>>,
        outbox: OutboxMode,
    ) -> Result<CommitSummary, StoreError> {
        self.writer().commit(records, position, outbox)
    }
}

/// The connection that writes and what it remembers.
pub(crate) struct Writer {
    connection: Connection,
    /// Read from the file when absent, which it is after a failure.
    known: Option<Known>,
}

impl Writer {
    /// Prepares a connection to a migrated database for writing.
    pub(crate) fn new(connection: Connection) -> Result<Self, StoreError> {
        for table in [runs::SCRATCH_TABLE, standing::SCRATCH_TABLE] {
            connection.execute_batch(table).map_err(failed("create a temporary table"))?;
        }
        facts::create_scratch_tables(&connection).map_err(failed("create temporary tables"))?;
        connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS_MAX);
        Ok(Self { connection, known: None })
    }

    /// The connection itself.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    fn commit(
        &mut self,
        records: &[Record],
        position: Option<StreamPosition<'_>>,
        outbox: OutboxMode,
    ) -> Result<CommitSummary, StoreError> {
        let mut known = match self.known.take() {
            Some(known) => known,
            None => Known::load(&self.connection).map_err(failed("read the known models and devices"))?,
        };
        let summary = commit(&self.connection, &mut known, records, position, outbox)?;
        self.known = Some(known);
        Ok(summary)
    }
}

fn commit(
    connection: &Connection,
    known: &mut Known,
    records: &[Record],
    position: Option<StreamPosition<'_>>,
    outbox_mode: OutboxMode,
) -> Result<CommitSummary, StoreError> {
    // Dropped before its commit, a transaction rolls back.
    let transaction = connection.unchecked_transaction().map_err(failed("begin a transaction"))?;
    let fresh = Fresh::select(&transaction, records).map_err(failed("find out which results are new"))?;
    let mut runs = runs::touch(&transaction, &fresh).map_err(failed("store runs"))?;
    let entries = entries::with_keys(&transaction, known, &fresh, &runs).map_err(failed("allocate keys"))?;
    let dead = entries::of_dead_letters(&transaction, known, &fresh, &runs).map_err(failed("learn of dead letters"))?;
    benchmarks::append(&transaction, known, &entries).map_err(failed("store measurements"))?;
    compatibility::append(&transaction, entries.iter().chain(&dead)).map_err(failed("store compatibility"))?;
    web::append(&transaction, &entries).map_err(failed("store what browsers did"))?;
    tests::append(&transaction, &entries).map_err(failed("store test results"))?;
    jobs::append(&transaction, &entries).map_err(failed("store jobs"))?;
    jobs::append_failed_attempts(&transaction, &fresh.attempts).map_err(failed("store failed attempts"))?;
    jobs::append_deaths(&transaction, &fresh.deaths).map_err(failed("store dead letters of the broker's"))?;
    predictions::append(&transaction, &entries).map_err(failed("store predictions"))?;
    facts::insert(&transaction, records)
        .map_err(failed("store claims, returns, replays, cancellations and lifted quarantines"))?;
    let others = standing::settle(&transaction, known, &fresh, records, runs.new > 0)
        .map_err(failed("count dead and shared jobs"))?;
    runs::complete(&transaction, &mut runs, others).map_err(failed("complete runs"))?;
    let released = quarantine::release(&transaction, known, records, &entries).map_err(failed("lift quarantines"))?;
    let released = query::accepted_of(&transaction, &released)?;
    if outbox_mode == OutboxMode::Feed {
        let accepted = entries.iter().filter_map(|entry| entry.measurement.as_deref().ok());
        outbox::append(&transaction, accepted.chain(&released)).map_err(failed("fill the outbox"))?;
    }
    if let Some(position) = position {
        outbox::store_position(&transaction, position).map_err(failed("store the stream offset"))?;
    }
    transaction.commit().map_err(failed("commit a batch"))?;
    Ok(CommitSummary {
        results_new: entries.len(),
        results_duplicate: fresh.duplicates,
        runs_new: runs.new,
        measurements_accepted: entries.iter().filter(|entry| entry.measurement.is_ok()).count() + released.len(),
        runs_touched: runs.ids.into_keys().collect(),
    })
}

/// Statements that a batch uses, kept planned.
const CACHED_STATEMENTS_MAX: usize = 48;

/// An appender for some of a table's columns; the others take their defaults.
///
/// The benchmark tables need it: an adopted file may have more columns, in another order. Our own tables are appended
/// to whole, which is cheaper; a column that a migration adds there fails every test until it is filled.
fn appender<'c>(connection: &'c Connection, table: &str, columns: &[&str]) -> duckdb::Result<Appender<'c>> {
    connection.appender_with_columns(table, columns)
}

/// A moment as DuckDB takes it.
pub(crate) fn moment(timestamp: Timestamp) -> Value {
    Value::Timestamp(TimeUnit::Microsecond, timestamp.as_micros())
}

/// Ids as one parameter for `SELECT unnest(string_split(?, ','))::UUID`.
fn id_list<T: ToString>(ids: impl Iterator<Item = T>) -> String {
    ids.map(|id| id.to_string()).collect::<Vec<_>>().join(",")
}

/// Takes `count` keys from a sequence and gives the first; the rest follow it.
///
/// They do because one statement takes them while this connection is the only one that writes.
fn take_keys(connection: &Connection, sequence: &str, count: usize) -> duckdb::Result<i64> {
    if count == 0 {
        return Ok(0);
    }
    let sql = format!("SELECT min(key), max(key) FROM (SELECT nextval('{sequence}') AS key FROM range(?))");
    let (first, last): (i64, i64) =
        connection.prepare_cached(&sql)?.query_row([offset(count)], |row| Ok((row.get(0)?, row.get(1)?)))?;
    debug_assert_eq!(usize::try_from(last - first + 1).ok(), Some(count), "keys of {sequence} have gaps");
    Ok(first)
}

/// A count as a key's offset; counts here are bounded by the size of a batch.
fn offset(count: usize) -> i64 {
    i64::try_from(count).expect("a batch has fewer than 2^63 rows")
}
