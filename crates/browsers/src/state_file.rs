//! Small JSON files in the state directory, written whole or not at all.

use std::{fs, io, path::Path};

use serde::{Serialize, de::DeserializeOwned};

use crate::BrowserError;

/// Reads a file; what is missing or cannot be read is as if it had never been written.
pub(crate) fn read<T: DeserializeOwned + Default>(path: &Path) -> T {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "a state file of the browser pool cannot be read");
            T::default()
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => T::default(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a state file of the browser pool cannot be read");
            T::default()
        }
    }
}

/// Writes a file beside the old one and puts it in its place; only its owner may read it.
pub(crate) fn write(path: &Path, value: &impl Serialize) -> Result<(), BrowserError> {
    let failed = |source| BrowserError::File { action: "write", path: path.to_owned(), source };
    let bytes = serde_json::to_vec_pretty(value).map_err(|error| failed(error.into()))?;
    let directory = path.parent().unwrap_or(Path::new("."));
    let file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    fs::write(file.path(), bytes).map_err(failed)?;
    file.persist(path).map(drop).map_err(|error| failed(error.error))
}
