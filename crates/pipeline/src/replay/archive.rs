//! Reading an archive as if it were the stream.

use std::path::Path;

use store::{
    Record, StoreError,
    archive::{ArchivedMessage, read_archive},
};
use tokio_util::sync::CancellationToken;

use super::{Place, ReplayFrom, ReplayRange, ReplaySummary, Window};
use crate::{PipelineError, export::archive_end};

/// Why the reading ended before the archive did.
enum Ended {
    Failed(Box<PipelineError>),
    /// What follows is not wanted.
    Enough,
}

impl From<StoreError> for Ended {
    fn from(source: StoreError) -> Self {
        Self::Failed(Box::new(PipelineError::Store { stage: "replay", source }))
    }
}

/// Reads the part of an archive (a file, or all files of a directory) that `range` names, or until `stop`, and hands
/// each record with its offset in the stream to `take`. An archive has an end, so that nothing is followed. Blocks.
///
/// # Errors
///
/// [`PipelineError::Store`] if the files cannot be read, or what `take` returns.
pub fn read_archived_results(
    path: &Path,
    range: ReplayRange,
    stop: &CancellationToken,
    mut take: impl FnMut(u64, Record) -> Result<(), PipelineError>,
) -> Result<ReplaySummary, PipelineError> {
    let mut summary = ReplaySummary::default();
    let end = match range.from {
        ReplayFrom::Last => archive_end(path)?.map(|last| last.offset),
        ReplayFrom::Next => return Ok(summary),
        ReplayFrom::First | ReplayFrom::Offset(_) | ReplayFrom::Timestamp(_) => None,
    };
    let window = Window::of(range, end);
    let read = read_archive(path, |message: ArchivedMessage| {
        let offset = message.stream_offset;
        match window.place(offset, message.published_at) {
            _ if stop.is_cancelled() => return Err(Ended::Enough),
            Place::Past => return Err(Ended::Enough),
            Place::Outside => return Ok(()),
            Place::Inside => {}
        }
        let decoded = Record::decode(message.message_type.as_deref(), message.schema_version, &message.body);
        match summary.count(range, offset, decoded) {
            Some(record) => take(offset, record).map_err(|error| Ended::Failed(Box::new(error))),
            None => Ok(()),
        }
    });
    match read {
        Ok(_) | Err(Ended::Enough) => Ok(summary),
        Err(Ended::Failed(error)) => Err(*error),
    }
}
