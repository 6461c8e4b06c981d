//! What a release says of itself, and the JSON that says it.

use std::{fmt, str::FromStr};

use messages::{ContentHash, Metric, MetricEvaluation, ReleaseId, ReleasePublished, Timestamp, UnknownWord};

use crate::{Evaluation, Grouping, PredictorError, TrainSettings, Update};

mod wire;

/// A file of a release with its content hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseFile {
    /// Name in the release's directory.
    pub name: String,
    /// SHA-256 of its bytes.
    pub sha256: ContentHash,
}

/// A device of which little was measured: for this metric it is predicted as a new one, corrected by what was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FewShotDevice {
    /// A learned metric.
    pub metric: Metric,
    /// Its name.
    pub device: String,
    /// How many measurements of it are known.
    pub shots: u32,
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
    /// Whose measurements these are.
    pub source: Source,
    /// How many models were measured.
    pub models: u32,
    /// Names of the devices that something was measured on.
    pub devices: Vec<String>,
    /// Those of them of which little was measured, by metric.
    pub few_shots: Vec<FewShotDevice>,
    /// The metrics that were trained; throughput follows from latency.
    pub metrics: Vec<Metric>,
    /// Errors out of fold.
    pub evaluation: Vec<Evaluation>,
    /// How it came of its parent; `None` if somebody trained it by hand.
    pub update: Option<Update>,
    /// How it was trained.
    pub settings: TrainSettings,
    /// The files beside the manifest.
    pub files: Vec<ReleaseFile>,
}

/// Whose measurements a release learned from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// This installation's jobs alone.
    Jobs,
    /// Measurement tables, alone or with jobs beside them.
    Tables,
}

impl Source {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jobs => "jobs",
            Self::Tables => "tables",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Source {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "jobs" => Ok(Self::Jobs),
            "tables" => Ok(Self::Tables),
            _ => Err(UnknownWord { kind: "source", found: text.to_owned(), known: "jobs, tables".to_owned() }),
        }
    }
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
                PredictorError::ManifestVersion { release: release.clone(), found, supported: wire::FORMAT_VERSION }
            }
        })?;
        if manifest.release_id == *release {
            Ok(manifest)
        } else {
            Err(unreadable(format!("it says that it is `{}`", manifest.release_id)))
        }
    }
}
