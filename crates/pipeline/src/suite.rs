//! Suite files: what to run, written by people.
//!
//! A suite is YAML. Its `benchmarks` and `web` are grids (every combination of the lists is one case), its `tests` are
//! single cases. Unknown keys, impossible values and unknown models are refused with the place where they stand.

mod check;
mod file;
mod grid;
mod predict;

use std::time::Duration;

use graphs::{ModelCache, zoo_entry};
use messages::{
    Backend, BenchmarkSpec, Configuration, ModelRef, Platform, Precision, Priority, Requirements, TestSpec, WebSpec,
};
use thiserror::Error;

use file::SuiteFile;

/// Most cases that one suite may expand to.
pub(crate) const CASES_MAX: usize = 200_000;

/// A suite that cannot be run.
#[derive(Debug, Error)]
pub enum SuiteError {
    /// The file cannot be read.
    #[error("failed to read suite {path}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no suite: a syntax error, an unknown key, a value of the wrong type.
    #[error("suite {path} is not valid: {message}")]
    Parse {
        /// The file.
        path: String,
        /// Line, column and what is wrong there.
        message: String,
    },
    /// A value cannot be.
    #[error("suite {path}: {place}: {reason}")]
    Invalid {
        /// The file.
        path: String,
        /// Where in it, e.g. `benchmarks[1].batch_sizes`.
        place: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A model cannot be had.
    #[error("suite {path}: model `{model}` cannot be used")]
    Model {
        /// The file.
        path: String,
        /// The model.
        model: String,
        /// Why.
        source: graphs::GraphError,
    },
}

/// A suite, expanded.
#[derive(Debug, Clone)]
pub struct Suite {
    /// Its name.
    pub name: String,
    /// Where it was read from, for messages.
    pub path: String,
    /// Its cases, in the file's order.
    pub cases: Vec<Case>,
}

/// One case: a job that has no id yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Its name within the suite.
    pub name: String,
    /// Its lane.
    pub priority: Priority,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Attempts before its job becomes a dead letter, 1 to [`messages::Dispatch::ATTEMPTS_LIMIT`].
    pub attempts_max: u32,
    /// What it asks of its worker, beyond the platform.
    pub requirements: Requirements,
    /// Cases with the same key are the same job, in whichever run they are submitted.
    pub unique_key: Option<String>,
    /// What to run.
    pub spec: CaseSpec,
}

/// What a case runs; a benchmark names its model, whose content is looked up when the suite is submitted.
#[derive(Debug, Clone, PartialEq)]
pub enum CaseSpec {
    /// A test.
    Test {
        /// The platform whose workers run it.
        platform: Platform,
        /// The test.
        test: TestSpec,
    },
    /// A benchmark; the content hash in its configuration is all zeros until [`Suite::resolve_models`].
    Benchmark(Box<BenchmarkSpec>),
    /// A benchmark in a browser; its hash likewise.
    Web(Box<WebSpec>),
}

impl CaseSpec {
    /// What is to be measured, natively or in a browser; `None` for a test.
    pub fn benchmark(&self) -> Option<&BenchmarkSpec> {
        match self {
            Self::Test { .. } => None,
            Self::Benchmark(benchmark) => Some(benchmark),
            Self::Web(web) => Some(&web.benchmark),
        }
    }

    fn benchmark_mut(&mut self) -> Option<&mut BenchmarkSpec> {
        match self {
            Self::Test { .. } => None,
            Self::Benchmark(benchmark) => Some(benchmark),
            Self::Web(web) => Some(&mut web.benchmark),
        }
    }
}

impl Case {
    /// The platform whose workers run it.
    pub fn platform(&self) -> Platform {
        match &self.spec {
            CaseSpec::Test { platform, .. } => *platform,
            CaseSpec::Benchmark(benchmark) => benchmark.configuration.platform,
            CaseSpec::Web(web) => web.benchmark.configuration.platform,
        }
    }
}

impl Suite {
    /// Reads and expands a suite file.
    ///
    /// # Errors
    ///
    /// [`SuiteError`] names the file, the place and what would be right.
    pub fn read(path: &std::path::Path) -> Result<Self, SuiteError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| SuiteError::Read { path: shown.clone(), source })?;
        Self::parse(&shown, &text)
    }

    /// Expands the text of a suite file; `path` is only named in errors.
    ///
    /// # Errors
    ///
    /// As [`Suite::read`].
    pub fn parse(path: &str, text: &str) -> Result<Self, SuiteError> {
        SuiteFile::parse(path, text)?.expand(path)
    }

    /// Checks that every model is in the zoo or registered, without building any.
    ///
    /// # Errors
    ///
    /// [`SuiteError::Model`] for the first that is neither.
    pub fn check_models(&self, models: &ModelCache) -> Result<(), SuiteError> {
        for case in &self.cases {
            let Some(benchmark) = case.spec.benchmark() else { continue };
            let Configuration { model: ModelRef { name, .. }, precision, .. } = &benchmark.configuration;
            if zoo_entry(name).is_none() {
                models.obtain(name, *precision).map_err(|source| self.model_error(name, source))?;
            }
        }
        Ok(())
    }

    fn model_error(&self, model: &str, source: graphs::GraphError) -> SuiteError {
        SuiteError::Model { path: self.path.clone(), model: model.to_owned(), source }
    }

    /// Looks up the content hash of every model, building zoo models that are not in the cache yet.
    ///
    /// # Errors
    ///
    /// [`SuiteError::Model`] if a model is unknown or cannot be built.
    pub fn resolve_models(&mut self, models: &ModelCache) -> Result<(), SuiteError> {
        let mut known: std::collections::BTreeMap<(String, Precision), ModelRef> = std::collections::BTreeMap::new();
        for case in &mut self.cases {
            let Some(benchmark) = case.spec.benchmark_mut() else { continue };
            let Configuration { model, precision, .. } = &mut benchmark.configuration;
            let key = (model.name.clone(), *precision);
            if !known.contains_key(&key) {
                let found = models.obtain(&model.name, *precision).map_err(|source| SuiteError::Model {
                    path: self.path.clone(),
                    model: model.name.clone(),
                    source,
                })?;
                known.insert(key.clone(), found.model);
            }
            *model = known[&key].clone();
        }
        Ok(())
    }
}

/// Fills in the usual sequence length or image size of a zoo model where none is given.
pub fn resolve_shape(configuration: &mut Configuration) {
    let Some(entry) = zoo_entry(&configuration.model.name) else { return };
    let (sequence_length, image_size) = entry.shape.usual();
    configuration.sequence_length = configuration.sequence_length.or(sequence_length);
    configuration.image_size = configuration.image_size.or(image_size);
}

/// What a predictor needs to know of a configuration on a device.
///
/// # Errors
///
/// [`graphs::GraphError`] if the model cannot be had or does not take this shape.
pub fn prediction_subject(
    models: &ModelCache,
    configuration: Configuration,
    device: messages::Device,
) -> Result<features::Subject, graphs::GraphError> {
    let cached = models.locate(&configuration.model, configuration.precision)?;
    let costs = graphs::OnnxModel::read(&cached.path)?.costs(&graphs::Shape::of(&configuration))?;
    Ok(features::Subject { configuration, device, costs })
}

/// A benchmark configuration as suites and flags spell it, before its model is looked up.
pub(crate) fn configuration(
    model: &str,
    platform: Platform,
    precision: Precision,
    batch_size: u32,
    threads: u32,
) -> Configuration {
    Configuration {
        model: ModelRef { name: model.to_owned(), sha256: messages::ContentHash([0; 32]) },
        platform,
        backend: if platform.is_web() { Backend::OrtWeb } else { Backend::Onnxruntime },
        precision,
        batch_size,
        sequence_length: None,
        image_size: None,
        threads,
        browser: None,
    }
}

#[cfg(test)]
mod tests;
