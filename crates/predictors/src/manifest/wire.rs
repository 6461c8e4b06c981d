//! The JSON of manifests, one form per source, each with a format version that a reader looks at first.

use chrono::{DateTime, SecondsFormat};
use messages::Timestamp;
use serde::{Deserialize, Serialize};

use super::{EstimatorEntry, KnownModel, Manifest, MeasuredJobs, MeasuredTables, ReleaseFile, Source};
use crate::{Evaluation, TrainSettings, calibration::Calibration};

/// Version of the form for releases that learned from jobs.
const JOBS_VERSION: u64 = 1;
/// Version of the form for releases that learned from tables.
const TABLES_VERSION: u64 = 2;
/// The latest version that this program reads.
pub(super) const FORMAT_VERSION_MAX: u64 = 2;

/// Why a manifest's JSON could not be read.
pub(super) enum WireError {
    /// It is of an unknown version.
    Version(u64),
    /// It is not what its version says.
    Unreadable(String),
}

pub(super) fn to_json(manifest: &Manifest) -> Vec<u8> {
    let json = match &manifest.source {
        Source::Jobs(jobs) => serde_json::to_vec_pretty(&ManifestV1::of(manifest, jobs)),
        Source::Tables(tables) => serde_json::to_vec_pretty(&ManifestV2::of(manifest, tables)),
    };
    let mut json = json.expect("a manifest has only text and numbers");
    json.push(b'\n');
    json
}

pub(super) fn from_json(json: &[u8]) -> Result<Manifest, WireError> {
    let unreadable = |error: serde_json::Error| WireError::Unreadable(error.to_string());
    let VersionOnly { format_version } = serde_json::from_slice(json).map_err(unreadable)?;
    let manifest = match format_version {
        JOBS_VERSION => serde_json::from_slice::<ManifestV1>(json).map_err(unreadable)?.into_manifest(),
        TABLES_VERSION => serde_json::from_slice::<ManifestV2>(json).map_err(unreadable)?.into_manifest(),
        other => return Err(WireError::Version(other)),
    };
    manifest.map_err(WireError::Unreadable)
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
struct ManifestV2 {
    format_version: u64,
    release_id: String,
    parent: Option<String>,
    created_at: String,
    augur_version: String,
    feature_schema: String,
    training_rows: u32,
    models: u32,
    devices: Vec<String>,
    metrics: Vec<String>,
    settings: SettingsV1,
    evaluation: Vec<EvaluationV1>,
    files: Vec<FileV1>,
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

impl ManifestV1 {
    fn of(manifest: &Manifest, jobs: &MeasuredJobs) -> Self {
        Self {
            format_version: JOBS_VERSION,
            release_id: manifest.release_id.to_string(),
            parent: manifest.parent.as_ref().map(ToString::to_string),
            created_at: moment(manifest.created_at),
            augur_version: manifest.augur_version.clone(),
            feature_schema: manifest.feature_schema.clone(),
            training_rows: manifest.training_rows,
            settings: manifest.settings.into(),
            evaluation: manifest.evaluation.iter().map(EvaluationV1::from).collect(),
            estimators: jobs.estimators.iter().map(EstimatorV1::from).collect(),
            files: manifest.files.iter().map(FileV1::from).collect(),
            known: jobs
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

    fn into_manifest(self) -> Result<Manifest, String> {
        let known =
            |known: KnownV1| Ok(KnownModel { model: known.model, sha256: parse(&known.sha256)?, device: known.device });
        let estimator = |entry: EstimatorV1| {
            Ok(EstimatorEntry {
                metric: parse(&entry.metric)?,
                centre: entry.centre,
                files: entry.files,
                known_model: entry.known_model.into(),
                new_model: entry.new_model.map(Into::into),
            })
        };
        Ok(Manifest {
            release_id: parse(&self.release_id)?,
            parent: self.parent.as_deref().map(parse).transpose()?,
            created_at: parse_moment(&self.created_at)?,
            augur_version: self.augur_version,
            feature_schema: self.feature_schema,
            feature_names: self.feature_names,
            training_rows: self.training_rows,
            source: Source::Jobs(MeasuredJobs {
                known: self.known.into_iter().map(known).collect::<Result<_, String>>()?,
                estimators: self.estimators.into_iter().map(estimator).collect::<Result<_, String>>()?,
            }),
            evaluation: self.evaluation.into_iter().map(Evaluation::try_from).collect::<Result<_, _>>()?,
            settings: self.settings.into(),
            files: self.files.into_iter().map(ReleaseFile::try_from).collect::<Result<_, _>>()?,
        })
    }
}

impl ManifestV2 {
    fn of(manifest: &Manifest, tables: &MeasuredTables) -> Self {
        Self {
            format_version: TABLES_VERSION,
            release_id: manifest.release_id.to_string(),
            parent: manifest.parent.as_ref().map(ToString::to_string),
            created_at: moment(manifest.created_at),
            augur_version: manifest.augur_version.clone(),
            feature_schema: manifest.feature_schema.clone(),
            training_rows: manifest.training_rows,
            models: tables.models,
            devices: tables.devices.clone(),
            metrics: tables.metrics.iter().map(ToString::to_string).collect(),
            settings: manifest.settings.into(),
            evaluation: manifest.evaluation.iter().map(EvaluationV1::from).collect(),
            files: manifest.files.iter().map(FileV1::from).collect(),
            feature_names: manifest.feature_names.clone(),
        }
    }

    fn into_manifest(self) -> Result<Manifest, String> {
        Ok(Manifest {
            release_id: parse(&self.release_id)?,
            parent: self.parent.as_deref().map(parse).transpose()?,
            created_at: parse_moment(&self.created_at)?,
            augur_version: self.augur_version,
            feature_schema: self.feature_schema,
            feature_names: self.feature_names,
            training_rows: self.training_rows,
            source: Source::Tables(MeasuredTables {
                models: self.models,
                devices: self.devices,
                metrics: self.metrics.iter().map(|metric| parse(metric)).collect::<Result<_, _>>()?,
            }),
            evaluation: self.evaluation.into_iter().map(Evaluation::try_from).collect::<Result<_, _>>()?,
            settings: self.settings.into(),
            files: self.files.into_iter().map(ReleaseFile::try_from).collect::<Result<_, _>>()?,
        })
    }
}

impl From<TrainSettings> for SettingsV1 {
    fn from(settings: TrainSettings) -> Self {
        let TrainSettings { rounds, ensemble, folds, threads, seed } = settings;
        Self { rounds, ensemble, folds, threads, seed }
    }
}

impl From<SettingsV1> for TrainSettings {
    fn from(wire: SettingsV1) -> Self {
        let SettingsV1 { rounds, ensemble, folds, threads, seed } = wire;
        Self { rounds, ensemble, folds, threads, seed }
    }
}

impl From<&ReleaseFile> for FileV1 {
    fn from(file: &ReleaseFile) -> Self {
        Self { name: file.name.clone(), sha256: file.sha256.to_string() }
    }
}

impl TryFrom<FileV1> for ReleaseFile {
    type Error = String;

    fn try_from(wire: FileV1) -> Result<Self, String> {
        Ok(Self { name: wire.name, sha256: parse(&wire.sha256)? })
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

fn moment(at: Timestamp) -> String {
    at.to_datetime().to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn parse_moment(text: &str) -> Result<Timestamp, String> {
    let at = DateTime::parse_from_rfc3339(text).map_err(|error| error.to_string())?;
    Ok(Timestamp::from_micros(at.timestamp_micros()))
}
