//! The files of a release that learned from jobs: every booster in XGBoost's own JSON.

use super::Contents;
use crate::{
    Manifest, MeasuredJobs, PredictorError, Predictors, Source, boosters::Ensemble, manifest::EstimatorEntry,
    training::Estimator,
};

/// The source with its estimators, and the files' contents.
pub(super) fn save(predictors: &Predictors) -> Result<(Source, Contents), PredictorError> {
    let mut contents = Contents::new();
    let mut estimators = Vec::new();
    for estimator in &predictors.estimators {
        let mut files = Vec::new();
        for (member, text) in estimator.ensemble.to_json()?.into_iter().enumerate() {
            let name = format!("{}.{member}.json", estimator.metric);
            files.push(name.clone());
            contents.push((name, text.into_bytes()));
        }
        estimators.push(EstimatorEntry {
            metric: estimator.metric,
            centre: estimator.ensemble.centre,
            files,
            known_model: estimator.known_model,
            new_model: estimator.new_model,
        });
    }
    let known = predictors.known.iter().cloned().collect();
    Ok((Source::Jobs(MeasuredJobs { known, estimators }), contents))
}

/// What [`save`] saved; `read` gives a file's checked contents.
pub(super) fn load(
    manifest: &Manifest,
    jobs: &MeasuredJobs,
    read: impl Fn(&str) -> Result<Vec<u8>, PredictorError>,
) -> Result<Predictors, PredictorError> {
    let estimator = |entry: &EstimatorEntry| {
        let texts = entry.files.iter().map(|name| read(name)).collect::<Result<Vec<_>, _>>()?;
        Ok(Estimator {
            metric: entry.metric,
            ensemble: Ensemble::from_json(entry.metric, entry.centre, &texts)?,
            known_model: entry.known_model,
            new_model: entry.new_model,
        })
    };
    Ok(Predictors {
        settings: manifest.settings,
        training_rows: manifest.training_rows,
        known: jobs.known.iter().cloned().collect(),
        estimators: jobs.estimators.iter().map(estimator).collect::<Result<_, PredictorError>>()?,
        evaluation: manifest.evaluation.clone(),
    })
}
