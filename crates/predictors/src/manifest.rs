//! What a release says of itself, and the JSON that says it.

use std::fmt;

use features::Subject;
use messages::{ContentHash, Metric, MetricEvaluation, ReleaseId, ReleasePublished, Timestamp};

use crate::{Evaluation, Grouping, PredictorError, TrainSettings, calibration::Calibration};

mod wire;

/// A model that was measured on a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KnownModel {
    /// The model's name, for people.
    pub model: String,
    /// Its content, which is what identifies it.
    pub sha256: ContentHash,
    /// Name of the device.
    pub device: String,
}

impl KnownModel {
    pub(crate) fn of(subject: &Subject) -> Self {
        Self {
            model: subject.configuration.model.name.clone(),
            sha256: subject.configuration.model.sha256,
            device: subject.device.name.clone(),
        }
    }
}

/// A file of a release with its content hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseFile {
    /// Name in the release's directory.
    pub name: String,
    /// SHA-256 of its bytes.
    pub sha256: ContentHash,
}

/// What a release says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// Its name.
    pub release_id: ReleaseId,
    /// The release that was current when it was made.
    pub parent: Option<ReleaseId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// The version of Augur that made it.
    pub augur_version: String,
    /// Names the feature schema, see [`features::schema_id`].
    pub feature_schema: String,
    /// The features, in order.
    pub feature_names: Vec<String>,
    /// Measurements it was trained on.
    pub training_rows: u32,
    /// What it learned from.
    pub source: Source,
    /// Errors out of fold.
    pub evaluation: Vec<Evaluation>,
    /// How it was trained.
    pub settings: TrainSettings,
    /// The files beside the manifest.
    pub files: Vec<ReleaseFile>,
}

/// What a release learned from, which decides what it can be asked about.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// Jobs that this installation ran.
    Jobs(MeasuredJobs),
    /// Measurement tables, whoever measured them.
    Tables(MeasuredTables),
}

/// The jobs behind a release.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasuredJobs {
    /// Which models were measured on which devices.
    pub known: Vec<KnownModel>,
    pub(crate) estimators: Vec<EstimatorEntry>,
}

/// The tables behind a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasuredTables {
    /// How many models were measured.
    pub models: u32,
    /// Names of the devices that something was measured on.
    pub devices: Vec<String>,
    /// The metrics that were trained; throughput follows from latency.
    pub metrics: Vec<Metric>,
}

impl Source {
    /// The word for it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Jobs(_) => "jobs",
            Self::Tables(_) => "tables",
        }
    }

    /// The feature schema that this program computes for such a release.
    pub(crate) fn feature_schema(&self) -> String {
        match self {
            Self::Jobs(_) => features::schema_id(),
            Self::Tables(_) => features::table_schema_id(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How a metric's files become an estimator again.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EstimatorEntry {
    pub(crate) metric: Metric,
    pub(crate) centre: f64,
    pub(crate) files: Vec<String>,
    pub(crate) known_model: Calibration,
    pub(crate) new_model: Option<Calibration>,
}

impl Manifest {
    /// One entry per metric: its errors on new models, or on new configurations if too few models were measured.
    pub fn summary(&self) -> Vec<MetricEvaluation> {
        let of_metric = |metric: Metric, grouping: Grouping| {
            self.evaluation.iter().find(|found| found.metric == metric && found.grouping == grouping)
        };
        Metric::ALL
            .iter()
            .filter_map(|metric| {
                of_metric(*metric, Grouping::Model).or_else(|| of_metric(*metric, Grouping::Configuration))
            })
            .map(MetricEvaluation::from)
            .collect()
    }

    /// The news of this release.
    pub fn to_published(&self) -> ReleasePublished {
        ReleasePublished {
            release_id: self.release_id.clone(),
            parent: self.parent.clone(),
            created_at: self.created_at,
            training_rows: self.training_rows,
            evaluation: self.summary(),
        }
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        wire::to_json(self)
    }

    /// Reads the manifest of `release`.
    pub(crate) fn from_json(release: &ReleaseId, json: &[u8]) -> Result<Self, PredictorError> {
        let unreadable = |reason: String| PredictorError::Manifest { release: release.clone(), reason };
        let manifest = wire::from_json(json).map_err(|error| match error {
            wire::WireError::Unreadable(reason) => unreadable(reason),
            wire::WireError::Version(found) => {
                PredictorError::ManifestVersion { release: release.clone(), found, supported: wire::FORMAT_VERSION_MAX }
            }
        })?;
        if manifest.release_id == *release {
            Ok(manifest)
        } else {
            Err(unreadable(format!("it says that it is `{}`", manifest.release_id)))
        }
    }
}
