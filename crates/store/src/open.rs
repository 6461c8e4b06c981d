//! Opening the file, and who may touch it how.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use duckdb::{Config, Connection};

use crate::{
    StoreError,
    error::{failed, open_failed},
    migrations,
    write::Writer,
};

/// Memory, in MB (10^6 bytes), that DuckDB may use before it spills to disk. Enough for its hash tables over millions of
/// rows; the aggregator shares its machine with workers.
const MEMORY_MB_USUAL: u32 = 2_000;

/// Threads that DuckDB may use. Writing gains nothing from more: its statements are small, and handing them to another
/// thread took longer than running them.
const THREADS: i64 = 2;

/// How long the write-ahead log may grow before DuckDB folds it into the file. DuckDB's own 16 MB are full after a few
/// thousand benchmarks; opening a file after a crash reads at most this much again.
const LOG_SIZE_MAX: &str = "128MB";

/// The database. Clones share one writing connection.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    writer: Mutex<Writer>,
    /// Connections for reading are cloned from this one, which itself does nothing.
    parent: Mutex<Connection>,
}

impl Store {
    /// Opens the file at `path`, makes it if there is none, and migrates it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] if another process has it open, [`StoreError::NotADatabase`],
    /// [`StoreError::NewerSchema`], [`StoreError::TableInTheWay`], [`StoreError::Migration`], and [`StoreError::Io`]
    /// for what the file system refuses.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_within(path, MEMORY_MB_USUAL)
    }

    /// As [`Self::open`], but DuckDB may use so much memory, in MB (10^6 bytes), before it spills to disk; what it keeps of
    /// the file in memory counts.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_within(path: &Path, memory_mb: u32) -> Result<Self, StoreError> {
        let config = config().and_then(|config| limited(config, memory_mb)).map_err(failed("configure DuckDB"))?;
        Self::with(Connection::open_with_flags(path, config).map_err(open_failed(path))?)
    }

    /// Makes a database that lives in memory only.
    ///
    /// # Errors
    ///
    /// [`StoreError::Statement`] if DuckDB fails.
    pub fn in_memory() -> Result<Self, StoreError> {
        let config = config().map_err(failed("configure DuckDB"))?;
        Self::with(Connection::open_in_memory_with_flags(config).map_err(failed("open a database in memory"))?)
    }

    fn with(connection: Connection) -> Result<Self, StoreError> {
        migrations::migrate(&connection)?;
        let parent = connection.try_clone().map_err(failed("open a second connection"))?;
        let writer = Writer::new(connection)?;
        Ok(Self { shared: Arc::new(Shared { writer: Mutex::new(writer), parent: Mutex::new(parent) }) })
    }

    /// The one connection that writes, for the caller alone while it holds the guard.
    pub(crate) fn writer(&self) -> MutexGuard<'_, Writer> {
        // A panic while writing rolls the transaction back, so the connection stays usable.
        self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection of the caller's own, to read what is committed.
    pub(crate) fn reader(&self) -> Result<Connection, StoreError> {
        let parent = self.shared.parent.lock().unwrap_or_else(PoisonError::into_inner);
        parent.try_clone().map_err(failed("open a connection for reading"))
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

pub(crate) fn config() -> duckdb::Result<Config> {
    // Extensions that DuckDB would download are never wanted; JSON and Parquet are in the library.
    Config::default()
        .enable_autoload_extension(false)?
        .threads(THREADS)?
        .with("checkpoint_threshold", LOG_SIZE_MAX)
        .and_then(|config| limited(config, MEMORY_MB_USUAL))
}

fn limited(config: Config, memory_mb: u32) -> duckdb::Result<Config> {
    config.max_memory(&format!("{memory_mb}MB"))
}
