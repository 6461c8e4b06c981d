//! The files of a release: what is known of models and devices, and one file per metric.
//!
//! They are CBOR (RFC 8949), which keeps every bit of a number; trees are byte strings.

use messages::Metric;
use serde::{Serialize, de::DeserializeOwned};

use super::{Contents, damaged};
use crate::{Manifest, PredictorError, Predictors};

/// What was measured says of models and devices.
const KNOWN_FILE: &str = "known.cbor";

fn metric_file(metric: Metric) -> String {
    format!("{metric}.cbor")
}

pub(super) fn save(predictors: &Predictors) -> Contents {
    let mut contents = vec![(KNOWN_FILE.to_owned(), to_cbor(&predictors.context))];
    contents.extend(predictors.trained.iter().map(|(metric, trained)| (metric_file(*metric), to_cbor(trained))));
    contents
}

/// What [`save`] saved; `read` gives a file's checked contents.
pub(super) fn load(
    manifest: &Manifest,
    read: impl Fn(&str) -> Result<Vec<u8>, PredictorError>,
) -> Result<Predictors, PredictorError> {
    let trained = |metric: &Metric| Ok((*metric, from_cbor(manifest, &metric_file(*metric), &read)?));
    Ok(Predictors {
        context: from_cbor(manifest, KNOWN_FILE, &read)?,
        trained: manifest.metrics.iter().map(trained).collect::<Result<_, PredictorError>>()?,
        evaluation: manifest.evaluation.clone(),
        few_shots: manifest.few_shots.clone(),
        settings: manifest.settings,
        training_rows: manifest.training_rows,
    })
}

fn to_cbor(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("memory takes everything, and nothing here has an unknown length");
    bytes
}

fn from_cbor<T: DeserializeOwned>(
    manifest: &Manifest,
    name: &str,
    read: &impl Fn(&str) -> Result<Vec<u8>, PredictorError>,
) -> Result<T, PredictorError> {
    ciborium::from_reader(read(name)?.as_slice())
        .map_err(|error| damaged(&manifest.release_id, name, format!("cannot be understood: {error}")))
}
