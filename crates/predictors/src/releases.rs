//! A directory of releases: each a directory that never changes, and a file `current` that names one of them.
//!
//! A release is written under a temporary name, synced and renamed, so a directory named like a release is whole.
//! Which release is current changes by a rename as well.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use messages::{ReleaseId, Timestamp};
use tracing::info;

use crate::{
    Manifest, PredictorError, Predictors, ReleaseFile,
    files::{file_error, replace, sha256, sync_directory, write_synced},
};

mod contents;
mod provenance;
mod recovery;

pub use provenance::{KnownJobs, Provenance};

const MANIFEST_FILE: &str = "manifest.json";
const CURRENT_FILE: &str = "current";
const TEMPORARY_PREFIX: &str = ".tmp-";

/// A directory of releases.
#[derive(Debug, Clone)]
pub struct Releases {
    directory: PathBuf,
}

/// A release in memory.
#[derive(Debug)]
pub struct Release {
    /// What it says of itself.
    pub manifest: Manifest,
    /// Its predictors.
    pub predictors: Predictors,
}

impl Releases {
    /// Opens a directory of releases, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// [`PredictorError::File`] if it cannot be made or is no directory.
    pub fn open(directory: &Path) -> Result<Self, PredictorError> {
        fs::create_dir_all(directory).map_err(file_error("create directory", directory))?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// The manifests of all releases, the oldest first; of one that cannot be read, why.
    ///
    /// # Errors
    ///
    /// [`PredictorError::File`] if the directory cannot be listed.
    pub fn list(&self) -> Result<Vec<Result<Manifest, PredictorError>>, PredictorError> {
        Ok(self.release_ids()?.iter().map(|release| self.manifest(release)).collect())
    }

    /// The name of the current release, if one was published.
    ///
    /// # Errors
    ///
    /// [`PredictorError::Current`] if the file `current` names none.
    pub fn current_id(&self) -> Result<Option<ReleaseId>, PredictorError> {
        let path = self.directory.join(CURRENT_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file_error("read", &path)(error)),
        };
        ReleaseId::parse(text.trim())
            .map(Some)
            .map_err(|error| PredictorError::Current { path, reason: error.to_string() })
    }

    /// The current release, if one was published.
    ///
    /// # Errors
    ///
    /// As [`Self::load`] and [`Self::current_id`].
    pub fn current(&self) -> Result<Option<Release>, PredictorError> {
        self.current_id()?.map(|release| self.load(&release)).transpose()
    }

    /// Loads a release, and checks that every file is what was published.
    ///
    /// # Errors
    ///
    /// [`PredictorError::UnknownRelease`], [`PredictorError::Manifest`], [`PredictorError::ManifestVersion`],
    /// [`PredictorError::FeatureSchema`] if this program computes other features than it was trained on, and
    /// [`PredictorError::Damaged`] if a file is missing or was changed.
    pub fn load(&self, release: &ReleaseId) -> Result<Release, PredictorError> {
        let manifest = self.usable_manifest(release)?;
        let predictors = contents::load(&manifest, |name| self.read_checked(&manifest, name))?;
        Ok(Release { manifest, predictors })
    }

    /// Which of our own jobs a release learned from; also of one whose features this program does not compute.
    ///
    /// # Errors
    ///
    /// [`PredictorError::Damaged`] if a file is missing or was changed.
    pub fn known_jobs(&self, manifest: &Manifest) -> Result<KnownJobs, PredictorError> {
        provenance::load(manifest, |name| self.read_checked(manifest, name))
    }

    /// Writes a release, whole or not at all, and makes it the current one unless its update says that it is not to be.
    ///
    /// # Errors
    ///
    /// [`PredictorError::File`]; the current release is what it was then.
    pub fn publish(
        &self,
        predictors: &Predictors,
        provenance: Provenance,
        created_at: Timestamp,
        augur_version: &str,
    ) -> Result<Manifest, PredictorError> {
        let Provenance { source, jobs, update } = provenance;
        let contents = [contents::save(predictors), provenance::save(&jobs)].concat();
        let files: Vec<ReleaseFile> =
            contents.iter().map(|(name, bytes)| ReleaseFile { name: name.clone(), sha256: sha256(bytes) }).collect();
        let manifest = Manifest {
            release_id: self.next_id(&files, created_at)?,
            parent: match self.current_id() {
                // What names no release is replaced.
                Err(PredictorError::Current { .. }) => None,
                current => current?,
            },
            created_at,
            augur_version: augur_version.to_owned(),
            feature_schema: features::schema_id(),
            feature_names: features::features().into_iter().map(|feature| feature.name).collect(),
            training_rows: predictors.training_rows(),
            source,
            models: u32::try_from(predictors.models().count()).unwrap_or(u32::MAX),
            devices: predictors.devices().map(str::to_owned).collect(),
            few_shots: predictors.few_shots().to_vec(),
            metrics: predictors.trained.keys().copied().collect(),
            evaluation: predictors.evaluation().to_vec(),
            update,
            settings: predictors.settings,
            files,
        };
        let is_promoted = manifest.update.as_ref().is_none_or(|update| update.is_promoted);
        if is_promoted {
            self.begin_promotion(&manifest.release_id)?;
        }
        self.write_release(&manifest, &contents)?;
        // Read back before anyone is told: a release that cannot be loaded does not become the current one.
        let manifest = self.load(&manifest.release_id)?.manifest;
        if is_promoted {
            self.make_current(&manifest.release_id)?;
            info!(release_id = %manifest.release_id, training_rows = manifest.training_rows, "release published");
        }
        Ok(manifest)
    }

    /// Makes a release the current one.
    ///
    /// # Errors
    ///
    /// As [`Self::load`]: a release that cannot be used is not promoted.
    pub fn promote(&self, release: &ReleaseId) -> Result<(), PredictorError> {
        self.load(release)?;
        self.make_current(release)
    }

    /// Makes the parent of the current release the current one: the release that it took the place of.
    ///
    /// # Errors
    ///
    /// [`PredictorError::NothingBefore`] if there is no current release or it has no parent; else as
    /// [`Self::promote`].
    pub fn rollback(&self) -> Result<ReleaseId, PredictorError> {
        let nothing = |current| PredictorError::NothingBefore { current, directory: self.directory.clone() };
        let current = self.current_id()?.ok_or_else(|| nothing(None))?;
        let parent = self.manifest(&current)?.parent.ok_or_else(|| nothing(Some(current)))?;
        self.promote(&parent)?;
        Ok(parent)
    }

    fn make_current(&self, release: &ReleaseId) -> Result<(), PredictorError> {
        replace(&self.directory.join(CURRENT_FILE), format!("{release}\n").as_bytes())?;
        self.end_promotion()
    }

    fn write_release(&self, manifest: &Manifest, contents: &[(String, Vec<u8>)]) -> Result<(), PredictorError> {
        let release = manifest.release_id.as_str();
        let temporary = self.directory.join(format!("{TEMPORARY_PREFIX}{release}-{}", std::process::id()));
        let published = self.directory.join(release);
        let write = || {
            fs::create_dir(&temporary).map_err(file_error("create directory", &temporary))?;
            for (name, bytes) in contents {
                write_synced(&temporary.join(name), bytes)?;
            }
            write_synced(&temporary.join(MANIFEST_FILE), &manifest.to_json())?;
            sync_directory(&temporary)?;
            fs::rename(&temporary, &published).map_err(file_error("rename a temporary directory to", &published))?;
            sync_directory(&self.directory)
        };
        let written = write();
        if written.is_err() && temporary.exists() {
            // The first error is the one worth reporting; what is left is named like a temporary directory.
            drop(fs::remove_dir_all(&temporary));
        }
        written
    }

    /// The next name: a number one above the largest there is, and 8 digits that depend on time and content.
    fn next_id(&self, files: &[ReleaseFile], created_at: Timestamp) -> Result<ReleaseId, PredictorError> {
        let number = self.release_ids()?.iter().filter_map(release_number).max().map_or(1, |last| last + 1);
        let mut text = created_at.as_micros().to_string();
        for file in files {
            text.push_str(&file.sha256.to_string());
        }
        let digits: String = sha256(text.as_bytes()).to_string().chars().take(8).collect();
        Ok(ReleaseId::parse(&format!("r{number:06}-{digits}")).expect("letters, digits and a hyphen"))
    }

    fn release_ids(&self) -> Result<Vec<ReleaseId>, PredictorError> {
        let failed = "list directory";
        let mut releases = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(file_error(failed, &self.directory))? {
            let entry = entry.map_err(file_error(failed, &self.directory))?;
            let release = entry.file_name().to_str().and_then(|name| ReleaseId::parse(name).ok());
            releases.extend(release.filter(|release| release_number(release).is_some()));
        }
        releases.sort_by_key(|release| (release_number(release), release.clone()));
        Ok(releases)
    }

    /// What a release says of itself, whether or not it can be used.
    ///
    /// # Errors
    ///
    /// [`PredictorError::UnknownRelease`], [`PredictorError::Manifest`] or [`PredictorError::ManifestVersion`].
    pub fn manifest(&self, release: &ReleaseId) -> Result<Manifest, PredictorError> {
        let directory = self.directory.join(release.as_str());
        // A release's name has no slash, but `..` is one that `parse` lets through.
        if release_number(release).is_none() || !directory.is_dir() {
            return Err(PredictorError::UnknownRelease { release: release.clone(), directory: self.directory.clone() });
        }
        Manifest::from_json(release, &self.read(release, MANIFEST_FILE)?)
    }

    fn read(&self, release: &ReleaseId, name: &str) -> Result<Vec<u8>, PredictorError> {
        fs::read(self.directory.join(release.as_str()).join(name))
            .map_err(|error| damaged(release, name, format!("cannot be read: {error}")))
    }

    /// The manifest of a release whose features this program computes.
    fn usable_manifest(&self, release: &ReleaseId) -> Result<Manifest, PredictorError> {
        let manifest = self.manifest(release)?;
        let expected = features::schema_id();
        if manifest.feature_schema == expected {
            Ok(manifest)
        } else {
            let found = manifest.feature_schema;
            Err(PredictorError::FeatureSchema { release: release.clone(), found, expected })
        }
    }

    /// A file that is what the manifest says it is.
    fn read_checked(&self, manifest: &Manifest, name: &str) -> Result<Vec<u8>, PredictorError> {
        let damaged = |reason: &str| damaged(&manifest.release_id, name, reason.to_owned());
        let listed = manifest.files.iter().find(|file| file.name == name);
        let listed = listed.ok_or_else(|| damaged("is not listed in the manifest"))?;
        let bytes = self.read(&manifest.release_id, name)?;
        if sha256(&bytes) == listed.sha256 { Ok(bytes) } else { Err(damaged("is not what was published")) }
    }
}

fn damaged(release: &ReleaseId, file: &str, reason: String) -> PredictorError {
    PredictorError::Damaged { release: release.clone(), file: file.to_owned(), reason }
}

/// The number in a release's name, e.g. 3 of `r000003-1f2e3d4c`; `None` if it is not named like a release.
fn release_number(release: &ReleaseId) -> Option<u64> {
    let (number, digits) = release.as_str().strip_prefix('r')?.split_once('-')?;
    let hexadecimal = digits.len() == 8 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    number.parse().ok().filter(|_| hexadecimal)
}

/// Names and bytes of a release's files.
type Contents = Vec<(String, Vec<u8>)>;

#[cfg(test)]
mod tests;
