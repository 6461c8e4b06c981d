//! The JSON of manifests, with a format version that a reader looks at first.

use chrono::{DateTime, SecondsFormat};
use messages::Timestamp;
use serde::{Deserialize, Serialize};

use super::{FewShotDevice, Manifest, ReleaseFile};
use crate::{Evaluation, Judged, TrainSettings, Update};

/// Version of the form. Releases of earlier ones learned otherwise and are of no use any more.
pub(super) const FORMAT_VERSION: u64 = 6;

/// Why a manifest's JSON could not be read.
pub(super) enum WireError {
    /// It is of another version.
    Version(u64),
    /// It is not what its version says.
    Unreadable(String),
}

pub(super) fn to_json(manifest: &Manifest) -> Vec<u8> {
    let mut json =
        serde_json::to_vec_pretty(&ManifestV6::from(manifest)).expect("a manifest has only text and numbers");
    json.push(b'\n');
    json
}

pub(super) fn from_json(json: &[u8]) -> Result<Manifest, WireError> {
    let unreadable = |error: serde_json::Error| WireError::Unreadable(error.to_string());
    let VersionOnly { format_version } = serde_json::from_slice(json).map_err(unreadable)?;
    if format_version != FORMAT_VERSION {
        return Err(WireError::Version(format_version));
    }
    let manifest: ManifestV6 = serde_json::from_slice(json).map_err(unreadable)?;
    manifest.try_into().map_err(WireError::Unreadable)
}

#[derive(Deserialize)]
struct VersionOnly {
    format_version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestV6 {
    format_version: u64,
    release_id: String,
    parent: Option<String>,
    created_at: String,
    augur_version: String,
    feature_schema: String,
    training_rows: u32,
    source: String,
    models: u32,
    devices: Vec<String>,
    few_shots: Vec<FewShotDeviceV6>,
    metrics: Vec<String>,
    #[serde(default)]
    update: Option<UpdateV6>,
    settings: SettingsV6,
    evaluation: Vec<EvaluationV6>,
    files: Vec<FileV6>,
    feature_names: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingsV6 {
    learner: String,
    rounds: u32,
    ensemble: u32,
    folds: u32,
    few_shot_below: u32,
    threads: u32,
    seed: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FewShotDeviceV6 {
    metric: String,
    device: String,
    shots: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EvaluationV6 {
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
struct UpdateV6 {
    strategy: String,
    reason: String,
    table_rows: u32,
    whole_rows: u32,
    held_out: Vec<String>,
    judged: Vec<JudgedV6>,
    is_promoted: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JudgedV6 {
    metric: String,
    platform: String,
    rows: u32,
    mape_pct: f64,
    current_mape_pct: f64,
    inside_pct: f64,
    is_worse: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileV6 {
    name: String,
    sha256: String,
}

impl From<&Manifest> for ManifestV6 {
    fn from(manifest: &Manifest) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            release_id: manifest.release_id.to_string(),
            parent: manifest.parent.as_ref().map(ToString::to_string),
            created_at: moment(manifest.created_at),
            augur_version: manifest.augur_version.clone(),
            feature_schema: manifest.feature_schema.clone(),
            training_rows: manifest.training_rows,
            source: manifest.source.to_string(),
            models: manifest.models,
            devices: manifest.devices.clone(),
            few_shots: manifest.few_shots.iter().map(FewShotDeviceV6::from).collect(),
            metrics: manifest.metrics.iter().map(ToString::to_string).collect(),
            update: manifest.update.as_ref().map(UpdateV6::from),
            settings: manifest.settings.into(),
            evaluation: manifest.evaluation.iter().map(EvaluationV6::from).collect(),
            files: manifest.files.iter().map(FileV6::from).collect(),
            feature_names: manifest.feature_names.clone(),
        }
    }
}

impl TryFrom<ManifestV6> for Manifest {
    type Error = String;

    fn try_from(wire: ManifestV6) -> Result<Self, String> {
        Ok(Self {
            release_id: parse(&wire.release_id)?,
            parent: wire.parent.as_deref().map(parse).transpose()?,
            created_at: parse_moment(&wire.created_at)?,
            augur_version: wire.augur_version,
            feature_schema: wire.feature_schema,
            feature_names: wire.feature_names,
            training_rows: wire.training_rows,
            source: parse(&wire.source)?,
            models: wire.models,
            devices: wire.devices,
            few_shots: wire.few_shots.into_iter().map(FewShotDevice::try_from).collect::<Result<_, _>>()?,
            metrics: wire.metrics.iter().map(|metric| parse(metric)).collect::<Result<_, _>>()?,
            evaluation: wire.evaluation.into_iter().map(Evaluation::try_from).collect::<Result<_, _>>()?,
            update: wire.update.map(Update::try_from).transpose()?,
            settings: wire.settings.try_into()?,
            files: wire.files.into_iter().map(ReleaseFile::try_from).collect::<Result<_, _>>()?,
        })
    }
}

impl From<TrainSettings> for SettingsV6 {
    fn from(settings: TrainSettings) -> Self {
        let TrainSettings { learner, rounds, ensemble, folds, few_shot_below, threads, seed } = settings;
        Self { learner: learner.as_str().to_owned(), rounds, ensemble, folds, few_shot_below, threads, seed }
    }
}

impl TryFrom<SettingsV6> for TrainSettings {
    type Error = String;

    fn try_from(wire: SettingsV6) -> Result<Self, String> {
        let SettingsV6 { learner, rounds, ensemble, folds, few_shot_below, threads, seed } = wire;
        Ok(Self { learner: parse(&learner)?, rounds, ensemble, folds, few_shot_below, threads, seed })
    }
}

impl From<&FewShotDevice> for FewShotDeviceV6 {
    fn from(few_shot: &FewShotDevice) -> Self {
        let FewShotDevice { metric, device, shots } = few_shot;
        Self { metric: metric.to_string(), device: device.clone(), shots: *shots }
    }
}

impl TryFrom<FewShotDeviceV6> for FewShotDevice {
    type Error = String;

    fn try_from(wire: FewShotDeviceV6) -> Result<Self, String> {
        let FewShotDeviceV6 { metric, device, shots } = wire;
        Ok(Self { metric: parse(&metric)?, device, shots })
    }
}

impl From<&Update> for UpdateV6 {
    fn from(update: &Update) -> Self {
        let Update { strategy, reason, table_rows, whole_rows, held_out, judged, is_promoted } = update;
        Self {
            strategy: strategy.to_string(),
            reason: reason.clone(),
            table_rows: *table_rows,
            whole_rows: *whole_rows,
            held_out: held_out.iter().map(ToString::to_string).collect(),
            judged: judged.iter().map(JudgedV6::from).collect(),
            is_promoted: *is_promoted,
        }
    }
}

impl TryFrom<UpdateV6> for Update {
    type Error = String;

    fn try_from(wire: UpdateV6) -> Result<Self, String> {
        let UpdateV6 { strategy, reason, table_rows, whole_rows, held_out, judged, is_promoted } = wire;
        Ok(Self {
            strategy: parse(&strategy)?,
            reason,
            table_rows,
            whole_rows,
            held_out: held_out.iter().map(|job| parse(job)).collect::<Result<_, _>>()?,
            judged: judged.into_iter().map(Judged::try_from).collect::<Result<_, _>>()?,
            is_promoted,
        })
    }
}

impl From<&Judged> for JudgedV6 {
    fn from(judged: &Judged) -> Self {
        let Judged { metric, platform, rows, mape_pct, current_mape_pct, inside_pct, is_worse } = judged.clone();
        Self { metric: metric.to_string(), platform, rows, mape_pct, current_mape_pct, inside_pct, is_worse }
    }
}

impl TryFrom<JudgedV6> for Judged {
    type Error = String;

    fn try_from(wire: JudgedV6) -> Result<Self, String> {
        let JudgedV6 { metric, platform, rows, mape_pct, current_mape_pct, inside_pct, is_worse } = wire;
        Ok(Self { metric: parse(&metric)?, platform, rows, mape_pct, current_mape_pct, inside_pct, is_worse })
    }
}

impl From<&ReleaseFile> for FileV6 {
    fn from(file: &ReleaseFile) -> Self {
        Self { name: file.name.clone(), sha256: file.sha256.to_string() }
    }
}

impl TryFrom<FileV6> for ReleaseFile {
    type Error = String;

    fn try_from(wire: FileV6) -> Result<Self, String> {
        Ok(Self { name: wire.name, sha256: parse(&wire.sha256)? })
    }
}

impl From<&Evaluation> for EvaluationV6 {
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

impl TryFrom<EvaluationV6> for Evaluation {
    type Error = String;

    fn try_from(wire: EvaluationV6) -> Result<Self, String> {
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
