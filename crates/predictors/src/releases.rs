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
    Evaluation, Manifest, PredictorError, Predictors, ReleaseFile, Source, TrainSettings,
    files::{file_error, replace, sha256, sync_directory, write_synced},
    tables::TablePredictors,
};

mod jobs;
mod tables;

const MANIFEST_FILE: &str = "manifest.json";
const CURRENT_FILE: &str = "current";
const TEMPORARY_PREFIX: &str = ".tmp-";

/// A directory of releases.
#[derive(Debug, Clone)]
pub struct Releases {
    directory: PathBuf,
}

/// A release in memory that learned from jobs.
#[derive(Debug)]
pub struct Release {
    /// What it says of itself.
    pub manifest: Manifest,
    /// Its predictors.
    pub predictors: Predictors,
}

/// A release in memory that learned from tables.
#[derive(Debug)]
pub struct TableRelease {
    /// What it says of itself.
    pub manifest: Manifest,
    /// Its predictors.
    pub predictors: TablePredictors,
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

    /// The manifests of all releases, the oldest first.
    ///
    /// # Errors
    ///
    /// As [`Self::load`], but that neither feature schema nor boosters are looked at.
    pub fn list(&self) -> Result<Vec<Manifest>, PredictorError> {
        self.release_ids()?.iter().map(|release| self.manifest(release)).collect()
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

    /// Loads a release that learned from jobs, and checks that every file is what was published.
    ///
    /// # Errors
    ///
    /// [`PredictorError::UnknownRelease`], [`PredictorError::Manifest`], [`PredictorError::ManifestVersion`],
    /// [`PredictorError::OtherSource`] if it learned from tables, [`PredictorError::FeatureSchema`] if this program
    /// computes other features than it was trained on, and [`PredictorError::Damaged`] if a file is missing or was
    /// changed.
    pub fn load(&self, release: &ReleaseId) -> Result<Release, PredictorError> {
        let manifest = self.usable_manifest(release)?;
        let predictors = match &manifest.source {
            Source::Jobs(jobs) => jobs::load(&manifest, jobs, |name| self.read_checked(&manifest, name))?,
            other @ Source::Tables(_) => return Err(other_source(release, other, "jobs")),
        };
        Ok(Release { manifest, predictors })
    }

    /// Loads a release that learned from tables, and checks that every file is what was published.
    ///
    /// # Errors
    ///
    /// As [`Self::load`], with [`PredictorError::OtherSource`] if it learned from jobs.
    pub fn load_tables(&self, release: &ReleaseId) -> Result<TableRelease, PredictorError> {
        let manifest = self.usable_manifest(release)?;
        let predictors = match &manifest.source {
            Source::Tables(tables) => tables::load(&manifest, tables, |name| self.read_checked(&manifest, name))?,
            other @ Source::Jobs(_) => return Err(other_source(release, other, "tables")),
        };
        Ok(TableRelease { manifest, predictors })
    }

    /// Writes a release of predictors that learned from jobs, whole or not at all, and makes it the current one.
    ///
    /// # Errors
    ///
    /// [`PredictorError::File`] or [`PredictorError::Booster`]; the current release is what it was then.
    pub fn publish(
        &self,
        predictors: &Predictors,
        created_at: Timestamp,
        augur_version: &str,
    ) -> Result<Manifest, PredictorError> {
        let (source, contents) = jobs::save(predictors)?;
        let draft = Draft {
            source,
            feature_names: features::feature_names().iter().map(|name| (*name).to_owned()).collect(),
            training_rows: predictors.training_rows,
            evaluation: predictors.evaluation.clone(),
            settings: predictors.settings,
        };
        self.publish_draft(draft, &contents, created_at, augur_version)
    }

    /// Writes a release of predictors that learned from tables, whole or not at all, and makes it the current one.
    ///
    /// # Errors
    ///
    /// As [`Self::publish`].
    pub fn publish_tables(
        &self,
        predictors: &TablePredictors,
        created_at: Timestamp,
        augur_version: &str,
    ) -> Result<Manifest, PredictorError> {
        let (source, contents) = tables::save(predictors);
        let draft = Draft {
            source,
            feature_names: features::table_features().into_iter().map(|feature| feature.name).collect(),
            training_rows: predictors.training_rows,
            evaluation: predictors.evaluation.clone(),
            settings: predictors.settings.into(),
        };
        self.publish_draft(draft, &contents, created_at, augur_version)
    }

    fn publish_draft(
        &self,
        draft: Draft,
        contents: &Contents,
        created_at: Timestamp,
        augur_version: &str,
    ) -> Result<Manifest, PredictorError> {
        let files: Vec<ReleaseFile> =
            contents.iter().map(|(name, bytes)| ReleaseFile { name: name.clone(), sha256: sha256(bytes) }).collect();
        let manifest = Manifest {
            release_id: self.next_id(&files, created_at)?,
            parent: self.current_id()?,
            created_at,
            augur_version: augur_version.to_owned(),
            feature_schema: draft.source.feature_schema(),
            feature_names: draft.feature_names,
            training_rows: draft.training_rows,
            source: draft.source,
            evaluation: draft.evaluation,
            settings: draft.settings,
            files,
        };
        self.write_release(&manifest, contents)?;
        // Read back before anyone is told: a release that cannot be loaded does not become the current one.
        let manifest = self.check(&manifest.release_id)?;
        self.make_current(&manifest.release_id)?;
        info!(release_id = %manifest.release_id, training_rows = manifest.training_rows, "release published");
        Ok(manifest)
    }

    /// Loads a release, whatever it learned from, and gives its manifest.
    fn check(&self, release: &ReleaseId) -> Result<Manifest, PredictorError> {
        match self.manifest(release)?.source {
            Source::Jobs(_) => self.load(release).map(|loaded| loaded.manifest),
            Source::Tables(_) => self.load_tables(release).map(|loaded| loaded.manifest),
        }
    }

    /// Makes a release the current one.
    ///
    /// # Errors
    ///
    /// As [`Self::load`]: a release that cannot be used is not promoted.
    pub fn promote(&self, release: &ReleaseId) -> Result<(), PredictorError> {
        self.check(release)?;
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
        replace(&self.directory.join(CURRENT_FILE), format!("{release}\n").as_bytes())
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
        let expected = manifest.source.feature_schema();
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

/// What a manifest says before it has a name.
struct Draft {
    source: Source,
    feature_names: Vec<String>,
    training_rows: u32,
    evaluation: Vec<Evaluation>,
    settings: TrainSettings,
}

fn damaged(release: &ReleaseId, file: &str, reason: String) -> PredictorError {
    PredictorError::Damaged { release: release.clone(), file: file.to_owned(), reason }
}

fn other_source(release: &ReleaseId, found: &Source, needed: &'static str) -> PredictorError {
    PredictorError::OtherSource { release: release.clone(), found: found.as_str(), needed }
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
