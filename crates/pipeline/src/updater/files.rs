//! The updater's own files: the training table and the stream offset behind it, written together, and the name of the
//! release that everyone was told of last.

use std::path::{Path, PathBuf};

use features::TrainingTable;
use messages::ReleaseId;

use crate::PipelineError;

/// Folder of the training table beside the releases.
const TRAINING_DIRECTORY: &str = "training";
/// File that names the current training table.
const POSITION_FILE: &str = "position";
/// File that names the release that everyone was told of last.
const ANNOUNCED_FILE: &str = "announced";

/// The measurements that the updater has collected so far.
///
/// # Errors
///
/// [`PipelineError::Features`] or [`PipelineError::File`] if its files cannot be read.
pub fn training_table(releases_directory: &Path) -> Result<TrainingTable, PipelineError> {
    load_training(releases_directory).map(|(table, _)| table)
}

fn file_error(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PipelineError {
    let path = path.to_owned();
    move |source| PipelineError::File { action, path, source }
}

fn table_path(releases_directory: &Path, next_offset: u64) -> PathBuf {
    releases_directory.join(TRAINING_DIRECTORY).join(format!("{next_offset}.parquet"))
}

/// Where to go on reading the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) next_offset: u64,
    /// What tells the message before that offset from others.
    pub(super) last_message: Option<String>,
}

impl Position {
    /// Reads the offset on the first line and, if there is a second, the message on that.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let next_offset = lines.next()?.trim().parse().ok()?;
        Some(Self { next_offset, last_message: lines.next().map(str::to_owned) })
    }

    fn to_text(&self) -> String {
        let last_message = self.last_message.as_ref().map(|message| format!("{message}\n"));
        format!("{}\n{}", self.next_offset, last_message.unwrap_or_default())
    }
}

pub(super) fn load_training(releases_directory: &Path) -> Result<(TrainingTable, Option<Position>), PipelineError> {
    let path = releases_directory.join(TRAINING_DIRECTORY).join(POSITION_FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((TrainingTable::empty(), None)),
        Err(source) => return Err(PipelineError::File { action: "read", path, source }),
    };
    let position = Position::parse(&text).ok_or_else(|| PipelineError::File {
        action: "understand",
        path,
        source: std::io::Error::other(format!("`{}` does not begin with a stream offset", text.trim())),
    })?;
    let table = TrainingTable::read(&table_path(releases_directory, position.next_offset))
        .map_err(PipelineError::features("updater"))?;
    Ok((table, Some(position)))
}

pub(super) fn save_training(
    releases_directory: &Path,
    table: &TrainingTable,
    position: &Position,
) -> Result<(), PipelineError> {
    let directory = releases_directory.join(TRAINING_DIRECTORY);
    std::fs::create_dir_all(&directory).map_err(file_error("create", &directory))?;
    let path = table_path(releases_directory, position.next_offset);
    table.write(&path).map_err(PipelineError::features("updater"))?;
    replace(&directory, POSITION_FILE, &position.to_text())?;
    for entry in std::fs::read_dir(&directory).map_err(file_error("list", &directory))? {
        let old = entry.map_err(file_error("list", &directory))?.path();
        if old.extension().is_some_and(|extension| extension == "parquet") && old != path {
            std::fs::remove_file(&old).map_err(file_error("remove", &old))?;
        }
    }
    Ok(())
}

/// The release that everyone was told of last, as far as anybody knows.
pub(super) fn load_announced(releases_directory: &Path) -> Result<Option<ReleaseId>, PipelineError> {
    let path = releases_directory.join(TRAINING_DIRECTORY).join(ANNOUNCED_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(ReleaseId::parse(text.trim()).ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PipelineError::File { action: "read", path, source }),
    }
}

pub(super) fn save_announced(releases_directory: &Path, release_id: &ReleaseId) -> Result<(), PipelineError> {
    let directory = releases_directory.join(TRAINING_DIRECTORY);
    std::fs::create_dir_all(&directory).map_err(file_error("create", &directory))?;
    replace(&directory, ANNOUNCED_FILE, &format!("{release_id}\n"))
}

/// Writes a file, whole or not at all.
fn replace(directory: &Path, name: &str, text: &str) -> Result<(), PipelineError> {
    let path = directory.join(name);
    let failed = || file_error("write", &path);
    let mut new = tempfile::NamedTempFile::new_in(directory).map_err(failed())?;
    std::io::Write::write_all(&mut new, text.as_bytes()).map_err(failed())?;
    new.as_file().sync_all().map_err(failed())?;
    new.persist(&path).map(drop).map_err(|error| failed()(error.error))
}

#[cfg(test)]
mod tests {
    use testkit::builders;

    use super::*;

    /// A table of the sample at so many batch sizes, with four rows each.
    fn table(sizes: u32) -> TrainingTable {
        let mut table = TrainingTable::empty();
        table.append(&builders::batch_grid(1..=sizes, 1.0));
        table
    }

    #[test]
    fn a_table_without_its_position_is_not_read_and_goes_with_the_next_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let at = |next_offset| Position { next_offset, last_message: None };
        save_training(path, &table(1), &at(4)).expect("saved");
        // An updater died behind the first of the two files.
        table(3).write(&table_path(path, 12)).expect("written");
        let (found, position) = load_training(path).expect("whole");
        assert_eq!((found.len(), position), (4, Some(at(4))), "the stream is read again from there");
        save_training(path, &table(2), &at(8)).expect("saved");
        let (found, position) = load_training(path).expect("whole");
        assert_eq!((found.len(), position), (8, Some(at(8))));
        assert_eq!([4, 8, 12].map(|offset| table_path(path, offset).exists()), [false, true, false]);
    }

    #[test]
    fn a_position_is_read_as_it_was_written_also_without_its_message() {
        for last_message in [None, Some("6:0190b5a0".to_owned())] {
            let position = Position { next_offset: 7, last_message };
            assert_eq!(Position::parse(&position.to_text()), Some(position));
        }
        assert_eq!(Position::parse("7\n"), Some(Position { next_offset: 7, last_message: None }));
        assert_eq!([Position::parse(""), Position::parse("soon\n")], [None, None]);
    }
}
