//! The files of a release that learned from tables: what is known of models and devices, and one file per metric.
//!
//! They are CBOR (RFC 8949), which keeps every bit of a number; trees are byte strings, see [`crate::tables`].

use messages::Metric;
use serde::{Serialize, de::DeserializeOwned};

use super::{Contents, damaged};
use crate::{
    Manifest, MeasuredTables, PredictorError, Source,
    tables::{TablePredictors, TableSettings},
};

/// What the tables say of models and devices.
const KNOWN_FILE: &str = "known.cbor";

fn metric_file(metric: Metric) -> String {
    format!("{metric}.cbor")
}

/// The source, and the files' contents.
pub(super) fn save(predictors: &TablePredictors) -> (Source, Contents) {
    let mut contents = vec![(KNOWN_FILE.to_owned(), to_cbor(&predictors.context))];
    contents.extend(predictors.trained.iter().map(|(metric, trained)| (metric_file(*metric), to_cbor(trained))));
    let source = MeasuredTables {
        models: u32::try_from(predictors.models().count()).unwrap_or(u32::MAX),
        devices: predictors.devices().map(str::to_owned).collect(),
        metrics: predictors.trained.keys().copied().collect(),
    };
    (Source::Tables(source), contents)
}

/// What [`save`] saved; `read` gives a file's checked contents.
pub(super) fn load(
    manifest: &Manifest,
    tables: &MeasuredTables,
    read: impl Fn(&str) -> Result<Vec<u8>, PredictorError>,
) -> Result<TablePredictors, PredictorError> {
    let trained = |metric: &Metric| Ok((*metric, from_cbor(manifest, &metric_file(*metric), &read)?));
    Ok(TablePredictors {
        context: from_cbor(manifest, KNOWN_FILE, &read)?,
        trained: tables.metrics.iter().map(trained).collect::<Result<_, PredictorError>>()?,
        evaluation: manifest.evaluation.clone(),
        settings: TableSettings::from(manifest.settings),
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
