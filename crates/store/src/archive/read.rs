//! Reading an archive in the order of offsets, each once.

use std::{
    fs,
    path::{Path, PathBuf},
};

use duckdb::{Connection, OptionalExt, params};
use messages::Timestamp;

use super::{ArchivedMessage, PAGE_MESSAGES, connection, file_failed, quoted};
use crate::{StoreError, error::failed};

/// A file and the offsets of its first and its last message.
struct Span {
    path: PathBuf,
    first: u64,
    last: u64,
}

/// Hands the messages of a file, or of all Parquet files of a directory, to `take`: in the order of offsets, each
/// once even if files overlap. Gives how many there were.
///
/// # Errors
///
/// Whatever `take` returns, which ends the reading; [`StoreError::File`] if the directory cannot be listed, another
/// [`StoreError`] if a file is no archive.
pub fn read_archive<E: From<StoreError>>(
    path: &Path,
    mut take: impl FnMut(ArchivedMessage) -> Result<(), E>,
) -> Result<u64, E> {
    let connection = connection()?;
    let mut count = 0;
    for overlapping in overlapping(spans(&connection, path)?) {
        let files = overlapping.iter().map(|span| quoted(&span.path)).collect::<Result<Vec<_>, _>>()?.join(", ");
        let mut next = first_offset(&connection, &files, 0)?;
        while let Some(from) = next {
            let page = page(&connection, &files, from)?;
            // Offsets have gaps, which may be wider than a page.
            next = match from.checked_add(PAGE_MESSAGES) {
                Some(end) if page.is_empty() => first_offset(&connection, &files, end)?,
                end => end.filter(|end| overlapping.iter().any(|span| span.last >= *end)),
            };
            for message in page {
                take(message)?;
                count += 1;
            }
        }
    }
    Ok(count)
}

/// The files at `path` that hold messages, in the order of their first offsets.
fn spans(connection: &Connection, path: &Path) -> Result<Vec<Span>, StoreError> {
    let mut spans = Vec::new();
    for path in files(path)? {
        let sql = format!("SELECT min(stream_offset), max(stream_offset) FROM read_parquet({})", quoted(&path)?);
        let ends: (Option<u64>, Option<u64>) = connection
            .query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(failed(format!("read archive {}", path.display())))?;
        if let (Some(first), Some(last)) = ends {
            spans.push(Span { path, first, last });
        }
    }
    spans.sort_by_key(|span| span.first);
    Ok(spans)
}

fn files(path: &Path) -> Result<Vec<PathBuf>, StoreError> {
    if !fs::metadata(path).map_err(file_failed("find", path))?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(file_failed("list directory", path))? {
        let file = entry.map_err(file_failed("list directory", path))?.path();
        if file.extension().is_some_and(|extension| extension == "parquet") {
            files.push(file);
        }
    }
    Ok(files)
}

/// Groups files, in the order of their first offsets, so that no offset is in two groups.
fn overlapping(spans: Vec<Span>) -> Vec<Vec<Span>> {
    let mut groups: Vec<Vec<Span>> = Vec::new();
    for span in spans {
        match groups.last_mut() {
            Some(group) if group.iter().any(|before| before.last >= span.first) => group.push(span),
            _ => groups.push(vec![span]),
        }
    }
    groups
}

/// The first offset at or after `from`.
fn first_offset(connection: &Connection, files: &str, from: u64) -> Result<Option<u64>, StoreError> {
    let sql = format!("SELECT min(stream_offset) FROM read_parquet([{files}]) WHERE stream_offset >= ?");
    connection
        .query_row(&sql, [from], |row| row.get(0))
        .optional()
        .map(Option::flatten)
        .map_err(failed("read an archive"))
}

/// The messages of one page of offsets.
fn page(connection: &Connection, files: &str, from: u64) -> Result<Vec<ArchivedMessage>, StoreError> {
    let read = || {
        let sql = format!(
            "SELECT DISTINCT ON (stream_offset) stream_offset, message_type, schema_version, message_id, \
             epoch_us(published_at), body FROM read_parquet([{files}]) \
             WHERE stream_offset BETWEEN ? AND ? ORDER BY stream_offset"
        );
        connection
            .prepare(&sql)?
            .query_map(params![from, from.saturating_add(PAGE_MESSAGES - 1)], |row| {
                Ok(ArchivedMessage {
                    stream_offset: row.get(0)?,
                    message_type: row.get(1)?,
                    schema_version: row.get(2)?,
                    message_id: row.get(3)?,
                    published_at: row.get::<_, Option<i64>>(4)?.map(Timestamp::from_micros),
                    body: row.get(5)?,
                })
            })?
            .collect::<duckdb::Result<Vec<_>>>()
    };
    read().map_err(failed("read an archive"))
}
