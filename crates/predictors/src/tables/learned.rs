//! Boosters for rows that are new in one way, with what is known of their errors on rows that were as new.

use ndarray::{Array2, Axis};
use serde::{Deserialize, Serialize};

use super::{
    data::TableData,
    estimator::TablePrediction,
    held_out::{HeldOut, evaluations},
    learner::{Ensemble, Lesson, TrainSettings, answers, means, train},
    novelty::Novelty,
    reliability::{Errors, Reliability},
    residuals::Residuals,
};
use crate::{Evaluation, Grouping, PredictorError, folds::grouped_folds};

/// Boosters and what is known of their errors.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Learned {
    boosters: Ensemble,
    reliability: Reliability,
}

impl Learned {
    /// Predicts rows; `start` is what was known of each before.
    pub(crate) fn predict(
        &self,
        data: &TableData,
        rows: &[usize],
        features: &Array2<f32>,
        start: &[f64],
        novelty: Novelty,
    ) -> Result<Vec<TablePrediction>, PredictorError> {
        let devices: Vec<usize> = rows.iter().map(|row| data.devices.of_row[*row]).collect();
        let doubts = self.reliability.doubts(features, &devices)?;
        let answers = answers(&self.boosters, features)?;
        Ok((0..rows.len())
            .map(|index| TablePrediction {
                row: rows[index],
                log: start[index] + answers[index].mean - self.reliability.bias,
                spread: answers[index].spread,
                half_width: doubts[index].half_width,
                confidence: doubts[index].confidence,
                novelty,
                groups: self.reliability.clusters,
            })
            .collect())
    }
}

/// Boosters per fold left out: a single one errs more than the ensemble that answers in the end, and its intervals
/// would be too wide.
const HELD_OUT_BOOSTERS: u32 = 2;

/// For new configurations of known models: what the references say, corrected. Errors out of fold are of random
/// configurations, each with all the references that one asked about has.
pub(crate) fn learn_configuration(
    data: &TableData,
    training: &[usize],
    features: &Array2<f32>,
    residuals: &Residuals,
    settings: &TrainSettings,
) -> Result<(Learned, Held), PredictorError> {
    let (start, features) = residuals.refer(data, training, features)?;
    let configurations: Vec<usize> = training.iter().map(|row| data.configurations.of_row[*row]).collect();
    learn(data, training, features, &start, &configurations, &settings.for_corrections())
}

/// Trains boosters on what `start` leaves over, and their reliability on errors of rows whose group was left out.
pub(crate) fn learn(
    data: &TableData,
    training: &[usize],
    features: Array2<f32>,
    start: &[f64],
    groups: &[usize],
    settings: &TrainSettings,
) -> Result<(Learned, Held), PredictorError> {
    let targets: Vec<f64> = training.iter().zip(start).map(|(row, start)| data.target(*row) - start).collect();
    let (fold_of_row, folds) = grouped_folds(groups, settings.folds.max(2) as usize, settings.seed);
    let lesson = |kept: Vec<usize>, boosters| Lesson {
        features: features.select(Axis(0), &kept),
        targets: kept.iter().map(|index| targets[*index]).collect(),
        boosters,
    };
    let mut lessons: Vec<Lesson> = (0..folds)
        .map(|fold| {
            // A single group cannot be left out; its errors are those of rows seen, which its intervals rest on then.
            lesson(
                (0..training.len()).filter(|index| folds == 1 || fold_of_row[*index] != fold).collect(),
                HELD_OUT_BOOSTERS,
            )
        })
        .collect();
    lessons.push(lesson((0..training.len()).collect(), settings.ensemble));
    let mut ensembles = train(data.metric(), &lessons, settings)?;
    drop(lessons);
    let boosters = ensembles.pop().expect("one lesson was pushed");
    let mut logs = vec![0.0; training.len()];
    for (fold, ensemble) in ensembles.iter().enumerate() {
        let held: Vec<usize> = (0..training.len()).filter(|index| fold_of_row[*index] == fold).collect();
        for (index, answer) in held.iter().zip(means(ensemble, &features.select(Axis(0), &held))?) {
            logs[*index] = answer - targets[*index];
        }
    }
    let devices = training.iter().map(|row| data.devices.of_row[*row]).collect();
    let errors = Errors { features, logs, groups: devices, clusters: groups.to_vec(), folds: fold_of_row };
    let reliability = Reliability::fit(data.metric(), &errors, settings)?;
    let held = Held {
        folds,
        errors: training
            .iter()
            .zip(errors.logs.iter().zip(&reliability.held_out))
            .map(|(row, (error, half_width))| HeldOut {
                row: *row,
                error: error - reliability.bias,
                half_width: *half_width,
            })
            .collect(),
    };
    Ok((Learned { boosters, reliability }, held))
}

/// Errors out of fold.
pub(crate) struct Held {
    folds: usize,
    errors: Vec<HeldOut>,
}

impl Held {
    /// What they say of the table's metric, and of what follows from it.
    pub(crate) fn evaluations(&self, data: &TableData, grouping: Grouping) -> Vec<Evaluation> {
        evaluations(data, grouping, self.folds, &self.errors)
    }
}
