//! Configurations and predictions on the wire.

use serde::{Deserialize, Serialize};

use super::{Invalid, measured, word};
use crate::{Configuration, ContentHash, ModelRef, PredictedMetric, Prediction, ReleaseId};

#[derive(Serialize, Deserialize)]
pub(super) struct ConfigurationV1 {
    model: String,
    sha256: String,
    platform: String,
    backend: String,
    precision: String,
    batch_size: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sequence_length: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image_size: Option<u32>,
    threads: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    browser: Option<String>,
}

impl From<&Configuration> for ConfigurationV1 {
    fn from(configuration: &Configuration) -> Self {
        Self {
            model: configuration.model.name.clone(),
            sha256: configuration.model.sha256.to_string(),
            platform: configuration.platform.to_string(),
            backend: configuration.backend.to_string(),
            precision: configuration.precision.to_string(),
            batch_size: configuration.batch_size,
            sequence_length: configuration.sequence_length,
            image_size: configuration.image_size,
            threads: configuration.threads,
            browser: configuration.browser.clone(),
        }
    }
}

impl TryFrom<ConfigurationV1> for Configuration {
    type Error = Invalid;

    fn try_from(on_wire: ConfigurationV1) -> Result<Self, Invalid> {
        let configuration = Self {
            model: ModelRef { name: on_wire.model, sha256: word::<ContentHash>("sha256", &on_wire.sha256)? },
            platform: word("platform", &on_wire.platform)?,
            backend: word("backend", &on_wire.backend)?,
            precision: word("precision", &on_wire.precision)?,
            batch_size: on_wire.batch_size,
            sequence_length: on_wire.sequence_length,
            image_size: on_wire.image_size,
            threads: on_wire.threads,
            browser: on_wire.browser,
        };
        configuration.validate().map_err(|error| Invalid::new(error.field, &error))?;
        Ok(configuration)
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct PredictionV1 {
    release: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    /// Metric, value, lower and upper end.
    metrics: Vec<(String, f64, f64, f64)>,
}

impl From<&Prediction> for PredictionV1 {
    fn from(prediction: &Prediction) -> Self {
        let metric = |m: &PredictedMetric| (m.metric.to_string(), m.value, m.lower, m.upper);
        Self {
            release: prediction.release_id.to_string(),
            device: prediction.device.clone(),
            metrics: prediction.metrics.iter().map(metric).collect(),
        }
    }
}

impl TryFrom<PredictionV1> for Prediction {
    type Error = Invalid;

    fn try_from(on_wire: PredictionV1) -> Result<Self, Invalid> {
        let metric = |(metric, value, lower, upper): (String, f64, f64, f64)| {
            Ok(PredictedMetric {
                metric: word("prediction.metric", &metric)?,
                value: measured("prediction.value", value)?,
                lower: measured("prediction.lower", lower)?,
                upper: measured("prediction.upper", upper)?,
            })
        };
        Ok(Self {
            release_id: word::<ReleaseId>("prediction.release", &on_wire.release)?,
            device: on_wire.device,
            metrics: on_wire.metrics.into_iter().map(metric).collect::<Result<_, _>>()?,
        })
    }
}
