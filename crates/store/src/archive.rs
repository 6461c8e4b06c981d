//! History of a stream as Parquet files: written before the broker's retention takes it, read back like the stream.
//!
//! The files hold messages as they came, undecoded, so whatever reads the stream reads them too. They need no
//! [`Store`](crate::Store): DuckDB works in memory here, on one file's messages at a time.

mod read;
mod write;

use std::path::{Path, PathBuf};

use duckdb::Connection;
use messages::Timestamp;

pub use read::read_archive;
pub use write::ArchiveWriter;

use crate::{StoreError, error::failed, open::config};

/// Most messages in one file.
pub const FILE_MESSAGES_MAX: usize = 200_000;

/// A file ends once its bodies are this large, in bytes (128 MiB), though it may hold more messages: it is in memory
/// until it is written, and when it is read.
pub const FILE_BODY_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Messages that Parquet keeps together and that are read at once.
const PAGE_MESSAGES: u64 = 8_192;

/// One message of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedMessage {
    /// Its offset in the stream.
    pub stream_offset: u64,
    /// AMQP property `type`.
    pub message_type: Option<String>,
    /// Header `schema-version`.
    pub schema_version: Option<u16>,
    /// AMQP property `message-id`.
    pub message_id: Option<String>,
    /// When it was published, where that is known.
    pub published_at: Option<Timestamp>,
    /// The body.
    pub body: Vec<u8>,
}

fn connection() -> Result<Connection, StoreError> {
    config().and_then(Connection::open_in_memory_with_flags).map_err(failed("open a database in memory for an archive"))
}

/// Name of the file that begins with this offset; names sort as offsets do.
fn file_name(first_offset: u64) -> String {
    format!("results-{first_offset:020}.parquet")
}

/// A path as a text of SQL.
pub(crate) fn quoted(path: &Path) -> Result<String, StoreError> {
    let text = path.to_str().ok_or_else(|| StoreError::File {
        attempted: "name a file in SQL",
        path: path.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidFilename, "its path is not UTF-8"),
    })?;
    Ok(format!("'{}'", text.replace('\'', "''")))
}

pub(crate) fn file_failed(attempted: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path: PathBuf = path.to_owned();
    move |source| StoreError::File { attempted, path, source }
}

#[cfg(test)]
mod tests;
