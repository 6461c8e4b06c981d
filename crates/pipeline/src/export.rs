//! Archiving the result stream as Parquet files, before the broker's retention takes it.

use std::path::{Path, PathBuf};

use broker::{AmqpUrl, Continuity, Delivery, continuity, fingerprint};
use store::{
    StoreError,
    archive::{ArchiveWriter, ArchivedMessage, read_archive},
};
use tokio_util::sync::CancellationToken;
use topology::names;

use crate::{
    PipelineError,
    replay::{ReplayFrom, ReplayRange, read_stream},
};

/// Messages handed to the archive at once.
const BATCH_MESSAGES_MAX: usize = 2_000;

/// What an export wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExportSummary {
    /// Messages written.
    pub messages: usize,
    /// Bytes of their bodies.
    pub body_bytes: u64,
    /// Offset of the first of them.
    pub first_offset: Option<u64>,
    /// Offset of the last of them.
    pub last_offset: Option<u64>,
    /// Offset of the last archived message and of the first one that the stream still has, if retention took what was
    /// archived last, and with it perhaps what came between.
    pub gap: Option<(u64, u64)>,
    /// The files, in order.
    pub files: Vec<PathBuf>,
}

/// Writes the result stream into files of `directory`, from `from` (by default from what follows the archive that is
/// there) to its last message at the call. Messages are archived as they are, decodable or not.
///
/// An export that is stopped or fails leaves whole files only; the next one goes on behind them.
///
/// # Errors
///
/// [`PipelineError::Broker`] if the stream cannot be read, [`PipelineError::Store`] if the files cannot be written,
/// [`PipelineError::OtherStream`] if those that are there are another stream's.
pub async fn export_results(
    url: &AmqpUrl,
    directory: &Path,
    from: Option<u64>,
    stop: &CancellationToken,
    mut progress: impl FnMut(usize),
) -> Result<ExportSummary, PipelineError> {
    let (from, gap) = match from {
        Some(from) => (ReplayFrom::Offset(from), None),
        None => match tokio::task::block_in_place(|| archive_end(directory))? {
            Some(last) => (ReplayFrom::Offset(last.offset + 1), gap_behind(url, directory, &last).await?),
            None => (ReplayFrom::First, None),
        },
    };
    let failed = || PipelineError::store("export");
    let mut writer = tokio::task::block_in_place(|| ArchiveWriter::create(directory)).map_err(failed())?;
    let mut summary = ExportSummary { gap, ..ExportSummary::default() };
    let mut batch = Vec::with_capacity(BATCH_MESSAGES_MAX);
    read_stream(url, ReplayRange::from(from), stop, |offset, delivery| {
        summary.first_offset.get_or_insert(offset);
        summary.last_offset = Some(offset);
        summary.messages += 1;
        summary.body_bytes += delivery.body().len() as u64;
        batch.push(archived(offset, delivery));
        if batch.len() == BATCH_MESSAGES_MAX {
            tokio::task::block_in_place(|| writer.append(&batch)).map_err(failed())?;
            progress(batch.len());
            batch.clear();
        }
        Ok(())
    })
    .await?;
    let finish = || {
        writer.append(&batch)?;
        writer.finish()
    };
    summary.files = tokio::task::block_in_place(finish).map_err(failed())?;
    progress(batch.len());
    Ok(summary)
}

fn archived(offset: u64, delivery: &Delivery) -> ArchivedMessage {
    ArchivedMessage {
        stream_offset: offset,
        message_type: delivery.message_type().map(str::to_owned),
        schema_version: delivery.schema_version(),
        message_id: delivery.message_id().map(str::to_owned),
        published_at: delivery.published_at(),
        body: delivery.body().to_vec(),
    }
}

/// What lies between an archive and what the stream still has; nothing unless retention was faster.
async fn gap_behind(url: &AmqpUrl, directory: &Path, last: &ArchiveEnd) -> Result<Option<(u64, u64)>, PipelineError> {
    let stands = continuity(url, names::RESULTS, last.offset, Some(&last.fingerprint)).await;
    match stands.map_err(PipelineError::broker("export"))? {
        Continuity::Unbroken => Ok(None),
        Continuity::Cut { first_offset } => Ok(Some((last.offset, first_offset))),
        Continuity::Other { found } => Err(PipelineError::OtherStream {
            directory: directory.to_owned(),
            last: last.fingerprint.clone(),
            found: found.unwrap_or_else(|| "nothing".to_owned()),
        }),
    }
}

/// The last message of an archive.
pub(crate) struct ArchiveEnd {
    pub(crate) offset: u64,
    /// As [`Delivery::stream_fingerprint`] gives it.
    fingerprint: String,
}

/// The last message in an archive (a file, or all files of a directory); `None` if it is empty or absent.
///
/// # Errors
///
/// [`PipelineError::File`] and [`PipelineError::Store`] if its files cannot be read.
pub(crate) fn archive_end(path: &Path) -> Result<Option<ArchiveEnd>, PipelineError> {
    // Names sort as offsets do: the last file has the end.
    let file = if path.is_dir() { last_file(path)? } else { path.exists().then(|| path.to_owned()) };
    let Some(file) = file else { return Ok(None) };
    let mut last = None;
    read_archive(&file, |message| -> Result<(), StoreError> {
        let offset = message.stream_offset;
        last = Some(ArchiveEnd { offset, fingerprint: fingerprint(offset, message.message_id.as_deref()) });
        Ok(())
    })
    .map_err(PipelineError::store("archive"))?;
    Ok(last)
}

fn last_file(directory: &Path) -> Result<Option<PathBuf>, PipelineError> {
    let failed = |source| PipelineError::File { action: "list", path: directory.to_owned(), source };
    let mut last: Option<PathBuf> = None;
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "parquet") {
            last = last.max(Some(path));
        }
    }
    Ok(last)
}
