//! What a release says of itself, and the JSON that says it.

use chrono::{DateTime, SecondsFormat};
use features::Subject;
use messages::{ContentHash, Metric, MetricEvaluation, ReleaseId, ReleasePublished, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Evaluation, Grouping, PredictorError, TrainSettings, calibration::Calibration};

/// Version of the JSON; a reader refuses any other.
const FORMAT_VERSION: u64 = 1;

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
    /// Which models were measured on which devices.
    pub known: Vec<KnownModel>,
    /// Errors out of fold.
    pub evaluation: Vec<Evaluation>,
    /// How it was trained.
    pub settings: TrainSettings,
    /// The boosters' files.
    pub files: Vec<ReleaseFile>,
    pub(crate) estimators: Vec<EstimatorEntry>,
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
        let mut json =
            serde_json::to_vec_pretty(&ManifestV1::from(self)).expect("a manifest has only text and numbers");
        json.push(b'\n');
        json
    }

    /// Reads the manifest of `release`.
    pub(crate) fn from_json(release: &ReleaseId, json: &[u8]) -> Result<Self, PredictorError> {
        let unreadable = |reason: String| PredictorError::Manifest { release: release.clone(), reason };
        let version: VersionOnly = serde_json::from_slice(json).map_err(|error| unreadable(error.to_string()))?;
        if version.format_version != FORMAT_VERSION {
            return Err(PredictorError::ManifestVersion {
                release: release.clone(),
                found: version.format_version,
                supported: FORMAT_VERSION,
            });
        }
        let wire: ManifestV1 = serde_json::from_slice(json).map_err(|error| unreadable(error.to_string()))?;
        let manifest = Self::try_from(wire).map_err(unreadable)?;
        if manifest.release_id == *release {
            Ok(manifest)
        } else {
            Err(unreadable(format!("it says that it is `{}`", manifest.release_id)))
        }
    }
}

#[derive(Deserialize)]
struct VersionOnly {
    format_version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestV1 {
    format_version: u64,
    release_id: String,
    parent: Option<String>,
    created_at: String,
    augur_version: String,
    feature_schema: String,
    training_rows: u32,
    settings: SettingsV1,
    evaluation: Vec<EvaluationV1>,
    estimators: Vec<EstimatorV1>,
    files: Vec<FileV1>,
    known: Vec<KnownV1>,
    feature_names: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingsV1 {
    rounds: u32,
    ensemble: u32,
    folds: u32,
    threads: u32,
    seed: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EvaluationV1 {
    metric: String,
    grouping: String,
    rows: u32,
    folds: u32,
    mape_pct: f64,
    median_ape_pct: f64,
    roofline_mape_pct: f64,
    interval_90_coverage_pct: f64,
    interval_90_half_width_median_pct: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EstimatorV1 {
    metric: String,
    centre: f64,
    files: Vec<String>,
    known_model: CalibrationV1,
    new_model: Option<CalibrationV1>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CalibrationV1 {
    quantile: f64,
    spread_floor: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileV1 {
    name: String,
    sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownV1 {
    model: String,
    sha256: String,
    device: String,
}

impl From<Calibration> for CalibrationV1 {
    fn from(calibration: Calibration) -> Self {
        Self { quantile: calibration.quantile, spread_floor: calibration.spread_floor }
    }
}

impl From<CalibrationV1> for Calibration {
    fn from(wire: CalibrationV1) -> Self {
        Self { quantile: wire.quantile, spread_floor: wire.spread_floor }
    }
}

impl From<&Manifest> for ManifestV1 {
    fn from(manifest: &Manifest) -> Self {
        let settings = manifest.settings;
        Self {
            format_version: FORMAT_VERSION,
            release_id: manifest.release_id.to_string(),
            parent: manifest.parent.as_ref().map(ToString::to_string),
            created_at: manifest.created_at.to_datetime().to_rfc3339_opts(SecondsFormat::Micros, true),
            augur_version: manifest.augur_version.clone(),
            feature_schema: manifest.feature_schema.clone(),
            training_rows: manifest.training_rows,
            settings: SettingsV1 {
                rounds: settings.rounds,
                ensemble: settings.ensemble,
                folds: settings.folds,
                threads: settings.threads,
                seed: settings.seed,
            },
            evaluation: manifest.evaluation.iter().map(EvaluationV1::from).collect(),
            estimators: manifest.estimators.iter().map(EstimatorV1::from).collect(),
            files: manifest
                .files
                .iter()
                .map(|file| FileV1 { name: file.name.clone(), sha256: file.sha256.to_string() })
                .collect(),
            known: manifest
                .known
                .iter()
                .map(|known| KnownV1 {
                    model: known.model.clone(),
                    sha256: known.sha256.to_string(),
                    device: known.device.clone(),
                })
                .collect(),
            feature_names: manifest.feature_names.clone(),
        }
    }
}

impl From<&Evaluation> for EvaluationV1 {
    fn from(evaluation: &Evaluation) -> Self {
        Self {
            metric: evaluation.metric.to_string(),
            grouping: evaluation.grouping.to_string(),
            rows: evaluation.rows,
            folds: evaluation.folds,
            mape_pct: evaluation.mape_pct,
            median_ape_pct: evaluation.median_ape_pct,
            roofline_mape_pct: evaluation.roofline_mape_pct,
            interval_90_coverage_pct: evaluation.interval_90_coverage_pct,
            interval_90_half_width_median_pct: evaluation.interval_90_half_width_median_pct,
        }
    }
}

impl From<&EstimatorEntry> for EstimatorV1 {
    fn from(entry: &EstimatorEntry) -> Self {
        Self {
            metric: entry.metric.to_string(),
            centre: entry.centre,
            files: entry.files.clone(),
            known_model: entry.known_model.into(),
            new_model: entry.new_model.map(Into::into),
        }
    }
}

impl TryFrom<ManifestV1> for Manifest {
    type Error = String;

    fn try_from(wire: ManifestV1) -> Result<Self, String> {
        let created_at = DateTime::parse_from_rfc3339(&wire.created_at).map_err(|error| error.to_string())?;
        Ok(Self {
            release_id: parse(&wire.release_id)?,
            parent: wire.parent.as_deref().map(parse).transpose()?,
            created_at: Timestamp::from_micros(created_at.timestamp_micros()),
            augur_version: wire.augur_version,
            feature_schema: wire.feature_schema,
            feature_names: wire.feature_names,
            training_rows: wire.training_rows,
            known: wire
                .known
                .into_iter()
                .map(|known| Ok(KnownModel { model: known.model, sha256: parse(&known.sha256)?, device: known.device }))
                .collect::<Result<_, String>>()?,
            evaluation: wire.evaluation.into_iter().map(Evaluation::try_from).collect::<Result<_, _>>()?,
            settings: TrainSettings {
                rounds: wire.settings.rounds,
                ensemble: wire.settings.ensemble,
                folds: wire.settings.folds,
                threads: wire.settings.threads,
                seed: wire.settings.seed,
            },
            files: wire
                .files
                .into_iter()
                .map(|file| Ok(ReleaseFile { name: file.name, sha256: parse(&file.sha256)? }))
                .collect::<Result<_, String>>()?,
            estimators: wire
                .estimators
                .into_iter()
                .map(|entry| {
                    Ok(EstimatorEntry {
                        metric: parse(&entry.metric)?,
                        centre: entry.centre,
                        files: entry.files,
                        known_model: entry.known_model.into(),
                        new_model: entry.new_model.map(Into::into),
                    })
                })
                .collect::<Result<_, String>>()?,
        })
    }
}

impl TryFrom<EvaluationV1> for Evaluation {
    type Error = String;

    fn try_from(wire: EvaluationV1) -> Result<Self, String> {
        Ok(Self {
            metric: parse(&wire.metric)?,
            grouping: parse(&wire.grouping)?,
            rows: wire.rows,
            folds: wire.folds,
            mape_pct: wire.mape_pct,
            median_ape_pct: wire.median_ape_pct,
            roofline_mape_pct: wire.roofline_mape_pct,
            interval_90_coverage_pct: wire.interval_90_coverage_pct,
            interval_90_half_width_median_pct: wire.interval_90_half_width_median_pct,
        })
    }
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}
