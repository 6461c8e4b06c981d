//! What a crash while a release was published leaves: a whole release that did not become the current one yet, and
//! temporary files.

use std::{
    fs, io,
    time::{Duration, SystemTime},
};

use messages::ReleaseId;
use tracing::{info, warn};

use super::{Releases, TEMPORARY_PREFIX};
use crate::{
    PredictorError,
    files::{file_error, replace},
};

/// File that names the release that is to become the current one when it is whole; gone as soon as any did.
const PROMOTING_FILE: &str = "promoting";

/// A temporary file is left over from a crash if it is older than this: writing a release takes seconds.
const LEFT_OVER_AGE_MIN: Duration = Duration::from_hours(1);

impl Releases {
    /// Ends what a crash cut short: makes the release the current one that was about to become it, and removes old
    /// temporary files. For whoever publishes here, before it begins.
    ///
    /// # Errors
    ///
    /// [`PredictorError::File`] if a file cannot be read, written or removed.
    pub fn recover(&self) -> Result<(), PredictorError> {
        self.remove_left_overs()?;
        let path = self.directory.join(PROMOTING_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(file_error("read", &path)(error)),
        };
        let Ok(release) = ReleaseId::parse(text.trim()) else { return Ok(()) };
        match self.load(&release) {
            Ok(_) => {
                info!(release_id = %release, "a crash kept a release from becoming the current one; it does now");
                self.make_current(&release)
            }
            // It did not become whole, or another process is writing it.
            Err(PredictorError::UnknownRelease { .. }) => Ok(()),
            Err(error) => {
                warn!(release_id = %release, %error, "a release that was to become the current one is of no use");
                Ok(())
            }
        }
    }

    /// Notes that a release is to become the current one.
    pub(super) fn begin_promotion(&self, release: &ReleaseId) -> Result<(), PredictorError> {
        replace(&self.directory.join(PROMOTING_FILE), format!("{release}\n").as_bytes())
    }

    /// Forgets it: there is a current release that someone wanted.
    pub(super) fn end_promotion(&self) -> Result<(), PredictorError> {
        let path = self.directory.join(PROMOTING_FILE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    fn remove_left_overs(&self) -> Result<(), PredictorError> {
        let failed = |error| file_error("list directory", &self.directory)(error);
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if !entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX) {
                continue;
            }
            let path = entry.path();
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // Whoever wrote it has just renamed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(file_error("look at", &path)(error)),
            };
            let modified = metadata.modified().map_err(file_error("look at", &path))?;
            if SystemTime::now().duration_since(modified).is_ok_and(|age| age > LEFT_OVER_AGE_MIN) {
                let removed = if metadata.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                removed.map_err(file_error("remove", &path))?;
                info!(path = %path.display(), "what a crash had left was removed");
            }
        }
        Ok(())
    }
}
