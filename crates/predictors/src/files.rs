//! Files that are there whole or not at all.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
};

use messages::ContentHash;
use sha2::{Digest, Sha256};

use crate::PredictorError;

pub(crate) fn file_error(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PredictorError {
    move |source| PredictorError::File { action, path: path.to_owned(), source }
}

/// Writes a new file and waits until it is on disk.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), PredictorError> {
    let mut file = File::create(path).map_err(file_error("create", path))?;
    file.write_all(bytes).map_err(file_error("write", path))?;
    file.sync_all().map_err(file_error("sync", path))
}

/// Replaces a file by way of a temporary one beside it.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), PredictorError> {
    let mut name = std::ffi::OsString::from(".tmp-");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!("-{}", std::process::id()));
    let temporary = path.with_file_name(name);
    write_synced(&temporary, bytes)?;
    fs::rename(&temporary, path).map_err(file_error("rename a temporary file to", path))?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

/// Waits until a directory's entries are on disk; a rename is durable only then.
pub(crate) fn sync_directory(path: &Path) -> Result<(), PredictorError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(file_error("sync directory", path))
}

pub(crate) fn sha256(bytes: &[u8]) -> ContentHash {
    ContentHash(Sha256::digest(bytes).into())
}
