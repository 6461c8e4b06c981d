//! Model files by content hash, and the names that point at them.
//!
//! A cache folder holds `<sha256>.onnx` files and, under `names`, one record per model name. Files appear whole or not
//! at all: they are written beside their place and renamed. A lock file keeps two processes from building the same
//! model at once.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use messages::{ContentHash, ModelRef, Precision};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tracing::{info, warn};

use crate::{
    error::GraphError,
    model::OnnxModel,
    zoo::{BUILDER_VERSION, build_in, zoo, zoo_entry},
};

mod names;

pub use names::nearest;
use names::{Owner, Record, check_name, name_of_file, record_file};

/// Bytes read at once while hashing.
const HASH_BUFFER_BYTES: usize = 1 << 20;

/// A model file in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedModel {
    /// Its name and content.
    pub model: ModelRef,
    /// The file.
    pub path: PathBuf,
    /// Its length, in bytes.
    pub bytes: u64,
    /// The precision that a zoo model was built in; a registered file has its own.
    pub precision: Option<Precision>,
}

/// A folder of model files; clones share what they know of it.
#[derive(Clone, Debug)]
pub struct ModelCache {
    directory: PathBuf,
    hashed: Arc<Mutex<HashMap<PathBuf, Hashed>>>,
}

/// A file's hash and what the file looked like when it was taken.
#[derive(Clone, Copy, Debug)]
struct Hashed {
    bytes: u64,
    modified: SystemTime,
    sha256: ContentHash,
}

/// What lies where a model's file should be.
enum Found {
    Intact(CachedModel),
    Damaged(ContentHash),
    Missing,
}

impl ModelCache {
    /// Opens the cache in `directory`, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// [`GraphError::Io`] if the folder cannot be made.
    pub fn open(directory: &Path) -> Result<Self, GraphError> {
        let names = directory.join("names");
        fs::create_dir_all(&names).map_err(GraphError::io("create", names))?;
        Ok(Self { directory: directory.to_owned(), hashed: Arc::default() })
    }

    /// The model called `name` in `precision`: registered, or of the zoo and then built on first use, which takes
    /// seconds.
    ///
    /// # Errors
    ///
    /// [`GraphError::UnknownModel`] for an unknown name, [`GraphError::OtherPrecision`] for a registered model in another
    /// precision, [`GraphError::ModelMissing`] and [`GraphError::ModelCorrupt`] if a registered model's file is gone or
    /// damaged, [`GraphError::Io`] if the cache cannot be used.
    pub fn obtain(&self, name: &str, precision: Precision) -> Result<CachedModel, GraphError> {
        check_name(name)?;
        if zoo_entry(name).is_some() {
            return self.obtain_zoo(name, precision);
        }
        let cached = self.obtain_registered(name)?;
        OnnxModel::read(&cached.path)?.expect_precision(name, precision)?;
        Ok(cached)
    }

    /// The registered model called `name`, whatever its precision.
    ///
    /// # Errors
    ///
    /// As [`obtain`](Self::obtain).
    pub fn obtain_registered(&self, name: &str) -> Result<CachedModel, GraphError> {
        check_name(name)?;
        let Some(record) = self.record(&record_file(name, None))? else {
            return Err(GraphError::UnknownModel { name: name.to_owned(), nearest: self.nearest(name)? });
        };
        self.intact(&ModelRef { name: name.to_owned(), sha256: record.sha256 }, None)
    }

    /// The file of a job's model, its content checked; a zoo model whose file is missing or damaged is built again in
    /// `precision`.
    ///
    /// # Errors
    ///
    /// [`GraphError::ModelMissing`] if no file has that content, [`GraphError::ModelCorrupt`] if a registered model's
    /// file has changed, [`GraphError::Io`] if the cache cannot be used.
    pub fn locate(&self, model: &ModelRef, precision: Precision) -> Result<CachedModel, GraphError> {
        check_name(&model.name)?;
        let zoo_precision = zoo_entry(&model.name).map(|_| precision);
        if zoo_precision.is_some() && !matches!(self.find(model, zoo_precision)?, Found::Intact(_)) {
            // A job may also come from an augur whose builder made other bytes; then this is not its model.
            let built = self.obtain_zoo(&model.name, precision)?;
            if built.model != *model {
                return Err(self.missing(model)?);
            }
        }
        self.intact(model, zoo_precision)
    }

    /// Copies `onnx_file` into the cache under `name`; an older registration of that name is replaced.
    ///
    /// # Errors
    ///
    /// [`GraphError::ZooName`] and [`GraphError::BadName`] for a name that cannot be taken, [`GraphError::NotOnnx`] and
    /// [`GraphError::ExternalWeights`] for a file that cannot be used, [`GraphError::Io`] if it cannot be copied.
    pub fn register(&self, name: &str, onnx_file: &Path) -> Result<CachedModel, GraphError> {
        check_name(name)?;
        if zoo_entry(name).is_some() {
            return Err(GraphError::ZooName { name: name.to_owned() });
        }
        let parsed = OnnxModel::read(onnx_file)?;
        if let Some(tensor) = parsed.external_weight() {
            return Err(GraphError::ExternalWeights { path: onnx_file.to_owned(), tensor: tensor.to_owned() });
        }
        let _lock = self.lock()?;
        let mut file =
            NamedTempFile::new_in(&self.directory).map_err(GraphError::io("create a file in", &self.directory))?;
        let source = File::open(onnx_file).map_err(GraphError::io("open", onnx_file))?;
        let sha256 = hash(source, Some(file.as_file_mut())).map_err(GraphError::io("copy", onnx_file))?;
        let cached = self.keep(name, None, file, sha256)?;
        self.write_record(&record_file(name, None), Record { sha256, owner: Owner::Registered })?;
        info!(name, %sha256, bytes = cached.bytes, "model registered");
        Ok(cached)
    }

    /// Every model whose file is there, by name and precision; contents are not checked.
    ///
    /// # Errors
    ///
    /// [`GraphError::Io`] and [`GraphError::BadRecord`] if the cache cannot be read.
    pub fn list(&self) -> Result<Vec<CachedModel>, GraphError> {
        let mut models = Vec::new();
        for (name, precision) in self.names()? {
            let Some(record) = self.record(&record_file(&name, precision))? else { continue };
            let precision = zoo_entry(&name).map(|_| precision.unwrap_or(Precision::Fp32));
            let path = self.file(record.sha256);
            match fs::metadata(&path) {
                Ok(metadata) => {
                    let model = ModelRef { name, sha256: record.sha256 };
                    models.push(CachedModel { model, path, bytes: metadata.len(), precision });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(GraphError::io("read", path)(error)),
            }
        }
        models.sort_by(|left, right| (&left.model.name, left.precision).cmp(&(&right.model.name, right.precision)));
        Ok(models)
    }

    fn obtain_zoo(&self, name: &str, precision: Precision) -> Result<CachedModel, GraphError> {
        if let Some(intact) = self.zoo_file(name, precision)? {
            return Ok(intact);
        }
        let _lock = self.lock()?;
        // Another process may have built it while this one waited.
        if let Some(intact) = self.zoo_file(name, precision)? {
            return Ok(intact);
        }
        let (file, sha256) = build_in(name, precision, &self.directory)?;
        let cached = self.keep(name, Some(precision), file, sha256)?;
        let record = Record { sha256, owner: Owner::Zoo(BUILDER_VERSION) };
        self.write_record(&record_file(name, Some(precision)), record)?;
        info!(name, %precision, %sha256, bytes = cached.bytes, "zoo model built");
        Ok(cached)
    }

    /// The zoo model's file if this version built it and it is intact.
    fn zoo_file(&self, name: &str, precision: Precision) -> Result<Option<CachedModel>, GraphError> {
        let record = self.record(&record_file(name, Some(precision)))?;
        let Some(record) = record.filter(|record| record.owner == Owner::Zoo(BUILDER_VERSION)) else {
            return Ok(None);
        };
        match self.find(&ModelRef { name: name.to_owned(), sha256: record.sha256 }, Some(precision))? {
            Found::Intact(cached) => return Ok(Some(cached)),
            Found::Damaged(found) => {
                warn!(name, expected = %record.sha256, %found, "zoo model damaged, building again");
            }
            Found::Missing => warn!(name, expected = %record.sha256, "zoo model missing, building again"),
        }
        Ok(None)
    }

    /// The file with `model`'s content, which must be there.
    fn intact(&self, model: &ModelRef, precision: Option<Precision>) -> Result<CachedModel, GraphError> {
        match self.find(model, precision)? {
            Found::Intact(cached) => Ok(cached),
            Found::Damaged(found) => Err(GraphError::ModelCorrupt {
                name: model.name.clone(),
                path: self.file(model.sha256),
                expected: model.sha256,
                found,
            }),
            Found::Missing => Err(self.missing(model)?),
        }
    }

    fn missing(&self, model: &ModelRef) -> Result<GraphError, GraphError> {
        let nearest = self.nearest(&model.name)?;
        Ok(GraphError::ModelMissing { name: model.name.clone(), sha256: model.sha256, nearest })
    }

    /// Looks at the file with `model`'s content, and hashes it unless it is as it was when last hashed.
    fn find(&self, model: &ModelRef, precision: Option<Precision>) -> Result<Found, GraphError> {
        let path = self.file(model.sha256);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
            Err(error) => return Err(GraphError::io("open", path)(error)),
        };
        let metadata = file.metadata().map_err(GraphError::io("read", &path))?;
        let (bytes, modified) = (metadata.len(), metadata.modified().map_err(GraphError::io("read", &path))?);
        let known = self.hashed().get(&path).copied();
        let sha256 = match known.filter(|known| known.bytes == bytes && known.modified == modified) {
            Some(known) => known.sha256,
            None => hash(file, None).map_err(GraphError::io("read", &path))?,
        };
        self.hashed().insert(path.clone(), Hashed { bytes, modified, sha256 });
        if sha256 == model.sha256 {
            Ok(Found::Intact(CachedModel { model: model.clone(), path, bytes, precision }))
        } else {
            Ok(Found::Damaged(sha256))
        }
    }

    /// Moves a finished temporary file to its place.
    fn keep(
        &self,
        name: &str,
        precision: Option<Precision>,
        file: NamedTempFile,
        sha256: ContentHash,
    ) -> Result<CachedModel, GraphError> {
        let path = self.file(sha256);
        let fail = |error| GraphError::io("write", &path)(error);
        let file = file.persist(&path).map_err(|error| fail(error.error))?;
        let metadata = file.metadata().map_err(fail)?;
        let (bytes, modified) = (metadata.len(), metadata.modified().map_err(fail)?);
        self.hashed().insert(path.clone(), Hashed { bytes, modified, sha256 });
        Ok(CachedModel { model: ModelRef { name: name.to_owned(), sha256 }, path, bytes, precision })
    }

    fn hashed(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, Hashed>> {
        // The map is whole between any two statements, so a panic elsewhere does not spoil it.
        self.hashed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, sha256: ContentHash) -> PathBuf {
        self.directory.join(format!("{sha256}.onnx"))
    }

    /// Waits for the sole right to add files; it ends when the returned file is dropped.
    fn lock(&self) -> Result<File, GraphError> {
        let path = self.directory.join(".lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(GraphError::io("open", &path))?;
        file.lock().map_err(GraphError::io("lock", &path))?;
        Ok(file)
    }

    /// Every name with a record, and the precision that the record is of.
    fn names(&self) -> Result<Vec<(String, Option<Precision>)>, GraphError> {
        let folder = self.directory.join("names");
        let entries = fs::read_dir(&folder).map_err(GraphError::io("read", &folder))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(GraphError::io("read", &folder))?;
            names.extend(entry.file_name().to_str().and_then(name_of_file));
        }
        Ok(names)
    }

    fn nearest(&self, name: &str) -> Result<Vec<String>, GraphError> {
        let names = self.names()?;
        Ok(nearest(name, zoo().iter().map(|entry| entry.name).chain(names.iter().map(|(name, _)| name.as_str()))))
    }

    fn record(&self, file: &str) -> Result<Option<Record>, GraphError> {
        let path = self.directory.join("names").join(file);
        match fs::read_to_string(&path) {
            Ok(text) => text.parse().map(Some).map_err(|reason| GraphError::BadRecord { path, reason }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(GraphError::io("read", path)(error)),
        }
    }

    fn write_record(&self, file: &str, record: Record) -> Result<(), GraphError> {
        let path = self.directory.join("names").join(file);
        let fail = |error| GraphError::io("write", &path)(error);
        let mut file = NamedTempFile::new_in(&self.directory).map_err(fail)?;
        file.write_all(record.to_string().as_bytes()).map_err(fail)?;
        file.persist(&path).map_err(|error| fail(error.error))?;
        Ok(())
    }
}

/// SHA-256 of what `source` holds, copied to `copy` on the way.
fn hash(mut source: File, mut copy: Option<&mut File>) -> io::Result<ContentHash> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; HASH_BUFFER_BYTES];
    loop {
        let length = source.read(&mut buffer)?;
        if length == 0 {
            return Ok(ContentHash(hasher.finalize().into()));
        }
        hasher.update(&buffer[..length]);
        if let Some(copy) = &mut copy {
            copy.write_all(&buffer[..length])?;
        }
    }
}

#[cfg(test)]
mod tests;
