//! Writing an archive, one whole file after the other.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use duckdb::{
    Connection, params,
    types::{TimeUnit, Value},
};

use super::{
    ArchivedMessage, FILE_BODY_BYTES_MAX, FILE_MESSAGES_MAX, PAGE_MESSAGES, connection, file_failed, file_name, quoted,
};
use crate::{StoreError, error::failed};

/// Messages of the file that is being filled.
const TABLE: &str = "CREATE TABLE messages (stream_offset UBIGINT, message_type VARCHAR, schema_version USMALLINT, \
                     message_id VARCHAR, published_at TIMESTAMP, body BLOB)";

/// Writes messages of a stream into files of a directory.
///
/// A file appears under its name once it is whole. What was appended since the last whole file is lost unless
/// [`Self::finish`] is called.
pub struct ArchiveWriter {
    directory: PathBuf,
    connection: Connection,
    first_offset: u64,
    messages: usize,
    body_bytes: usize,
    files: Vec<PathBuf>,
}

impl ArchiveWriter {
    /// Prepares to write into `directory` and makes it if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError::File`] if the directory cannot be made.
    pub fn create(directory: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(directory).map_err(file_failed("make directory", directory))?;
        let connection = connection()?;
        connection.execute_batch(TABLE).map_err(failed("create a table for an archive"))?;
        let directory = directory.to_owned();
        Ok(Self { directory, connection, first_offset: u64::MAX, messages: 0, body_bytes: 0, files: Vec::new() })
    }

    /// Adds messages; writes a file whenever one is full.
    ///
    /// # Errors
    ///
    /// [`StoreError::File`] and [`StoreError::Io`] if the disk refuses.
    pub fn append(&mut self, messages: &[ArchivedMessage]) -> Result<(), StoreError> {
        let mut rest = messages;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(self.fitting(rest));
            self.insert(now).map_err(failed("append to an archive"))?;
            if self.messages == FILE_MESSAGES_MAX || self.body_bytes >= FILE_BODY_BYTES_MAX {
                self.write_file()?;
            }
            rest = later;
        }
        Ok(())
    }

    /// Writes what is left and gives all files that were written, in order.
    ///
    /// # Errors
    ///
    /// As [`Self::append`].
    pub fn finish(mut self) -> Result<Vec<PathBuf>, StoreError> {
        if self.messages > 0 {
            self.write_file()?;
        }
        Ok(self.files)
    }

    /// How many of these messages, at least one, go into the current file.
    fn fitting(&self, messages: &[ArchivedMessage]) -> usize {
        let mut bytes = self.body_bytes;
        let below = messages.iter().take_while(|message| {
            let fits = bytes < FILE_BODY_BYTES_MAX;
            bytes += message.body.len();
            fits
        });
        below.take(FILE_MESSAGES_MAX - self.messages).count()
    }

    fn insert(&mut self, messages: &[ArchivedMessage]) -> duckdb::Result<()> {
        let mut rows = self.connection.appender("messages")?;
        for message in messages {
            rows.append_row(params![
                message.stream_offset,
                message.message_type,
                message.schema_version,
                message.message_id,
                message.published_at.map(|at| Value::Timestamp(TimeUnit::Microsecond, at.as_micros())),
                message.body,
            ])?;
            self.first_offset = self.first_offset.min(message.stream_offset);
            self.messages += 1;
            self.body_bytes += message.body.len();
        }
        rows.flush()
    }

    fn write_file(&mut self) -> Result<(), StoreError> {
        let path = self.directory.join(file_name(self.first_offset));
        let partial = path.with_extension("parquet.partial");
        if path.try_exists().map_err(file_failed("look for", &path))? {
            self.keep_rows_of(&path)?;
        }
        let copy = format!(
            "COPY (SELECT DISTINCT ON (stream_offset) * FROM messages ORDER BY stream_offset) TO {} \
             (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {PAGE_MESSAGES})",
            quoted(&partial)?
        );
        self.connection.execute_batch(&copy).map_err(failed(format!("write {}", partial.display())))?;
        // The broker may drop its copy as soon as the file has its name.
        File::open(&partial).and_then(|file| file.sync_all()).map_err(file_failed("flush", &partial))?;
        fs::rename(&partial, &path).map_err(file_failed("rename", &partial))?;
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(file_failed("flush", &self.directory))?;
        self.connection.execute_batch("DELETE FROM messages").map_err(failed("empty an archive's table"))?;
        (self.first_offset, self.messages, self.body_bytes) = (u64::MAX, 0, 0);
        self.files.push(path);
        Ok(())
    }

    /// A longer file of an earlier export, which begins with the same message, must lose nothing to a shorter one.
    fn keep_rows_of(&self, path: &Path) -> Result<(), StoreError> {
        let keep = format!(
            "INSERT INTO messages BY NAME SELECT * FROM read_parquet({}) f \
             WHERE f.stream_offset NOT IN (SELECT stream_offset FROM messages)",
            quoted(path)?
        );
        self.connection.execute_batch(&keep).map_err(failed(format!("read {}", path.display())))
    }
}

impl std::fmt::Debug for ArchiveWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArchiveWriter").field("directory", &self.directory).finish_non_exhaustive()
    }
}
