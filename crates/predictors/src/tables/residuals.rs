//! Residuals of a table's rows from boosters that never saw their model: what is particular to each model.

use std::collections::HashMap;

use features::MeasuredRow;
use ndarray::{Array2, Axis, concatenate};
use serde::{Deserialize, Serialize};

use super::{
    data::TableData,
    efficiency::Efficiency,
    learner::{Ensemble, Lesson, TrainSettings, means, train},
    references::{Reference, References, Residual},
};
use crate::{PredictorError, folds::grouped_folds};

/// Features of rows with the efficiency model's answer as the last column.
pub(crate) fn with_efficiency(
    data: &TableData,
    rows: &[usize],
    efficiency: &Efficiency,
    refused: Option<features::Role>,
) -> Array2<f32> {
    let shares = data.time_shares(rows);
    #[expect(clippy::cast_possible_truncation, reason = "a log ratio is small; XGBoost computes in single precision")]
    let answers: Vec<f32> = rows
        .iter()
        .zip(shares.rows())
        .map(|(row, shares)| efficiency.predict(data.row(*row), &shares).map_or(f32::NAN, |log| log as f32))
        .collect();
    append(&data.features(rows, refused), &answers)
}

pub(crate) fn fit_efficiency(data: &TableData, rows: &[usize]) -> Efficiency {
    let measured: Vec<&MeasuredRow> = rows.iter().map(|row| data.row(*row)).collect();
    Efficiency::fit(&measured, &data.time_shares(rows), &data.targets_of(rows))
}

/// Appends a column.
fn append(matrix: &Array2<f32>, column: &[f32]) -> Array2<f32> {
    let column = ndarray::ArrayView2::from_shape((column.len(), 1), column).expect("one value per row");
    concatenate(Axis(1), &[matrix.view(), column]).expect("one value per row")
}

/// Boosters that each left out a fold of the models, and what the models' residuals say of each other.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Residuals {
    fold_of_model: HashMap<usize, usize>,
    boosters: Vec<Ensemble>,
    pub(crate) references: References,
}

impl Residuals {
    /// Trains on `rows`, whose features (the efficiency's answer included) are `features`.
    pub(crate) fn fit(
        data: &TableData,
        rows: &[usize],
        features: &Array2<f32>,
        settings: &TrainSettings,
    ) -> Result<Self, PredictorError> {
        let models: Vec<usize> = rows.iter().map(|row| data.models.of_row[*row]).collect();
        let (fold_of_row, folds) = grouped_folds(&models, settings.folds.max(2) as usize, settings.seed);
        let lessons: Vec<Lesson> = (0..folds)
            .map(|fold| {
                // A single model cannot be left out.
                let kept: Vec<usize> =
                    (0..rows.len()).filter(|index| folds == 1 || fold_of_row[*index] != fold).collect();
                Lesson {
                    features: features.select(Axis(0), &kept),
                    targets: kept.iter().map(|index| data.target(rows[*index])).collect(),
                    boosters: 1,
                }
            })
            .collect();
        // What they leave over is corrected by others, so half the trees do.
        let settings = TrainSettings { rounds: settings.rounds.div_ceil(2), ..*settings };
        let boosters = train(data.metric(), &lessons, &settings)?;
        let fold_of_model: HashMap<usize, usize> = models.iter().copied().zip(fold_of_row).collect();
        let mut residuals = Self { fold_of_model, boosters, references: References::fit(data.classes.count, &[]) };
        let without = residuals.without_own(data, rows, features)?;
        let logs: Vec<Residual> = rows
            .iter()
            .zip(without)
            .map(|(row, log)| Residual {
                configuration: data.configurations.of_row[*row],
                model: data.models.of_row[*row],
                class: data.classes.of_row[*row],
                log: data.target(*row) - log,
            })
            .collect();
        residuals.references = References::fit(data.classes.count, &logs);
        Ok(residuals)
    }

    /// Log predictions of rows by the boosters that did not see their models; of a new model by the first.
    fn without_own(
        &self,
        data: &TableData,
        rows: &[usize],
        features: &Array2<f32>,
    ) -> Result<Vec<f64>, PredictorError> {
        let fold_of = |row: &usize| self.fold_of_model.get(&data.models.of_row[*row]).copied().unwrap_or_default();
        let mut answers = vec![0.0; rows.len()];
        for (fold, booster) in self.boosters.iter().enumerate() {
            let asked: Vec<usize> = (0..rows.len()).filter(|index| fold_of(&rows[*index]) == fold).collect();
            for (index, answer) in asked.iter().zip(means(booster, &features.select(Axis(0), &asked))?) {
                answers[*index] = answer;
            }
        }
        Ok(answers)
    }

    /// Adds what is left over of later rows, whose configurations `data` numbers above all that are known; rows of
    /// unknown classes say nothing of those that are.
    pub(crate) fn learn_references(
        &mut self,
        data: &TableData,
        rows: &[usize],
        features: &Array2<f32>,
    ) -> Result<(), PredictorError> {
        let without = self.without_own(data, rows, features)?;
        let known = rows.iter().zip(without).filter(|(row, _)| data.knows_class(**row));
        self.references.extend(known.map(|(row, log)| Residual {
            configuration: data.configurations.of_row[*row],
            model: data.models.of_row[*row],
            class: data.classes.of_row[*row],
            log: data.target(*row) - log,
        }));
        Ok(())
    }

    /// What the features and the references together say of rows, and the features to correct it with.
    ///
    /// Log predictions, and `features` with four more columns.
    pub(crate) fn refer(
        &self,
        data: &TableData,
        rows: &[usize],
        features: &Array2<f32>,
    ) -> Result<(Vec<f64>, Array2<f32>), PredictorError> {
        let without = self.without_own(data, rows, features)?;
        let references: Vec<Reference> = rows
            .iter()
            .map(|row| {
                let own = data.own_configuration(*row);
                self.references.predict(own, data.models.of_row[*row], data.classes.of_row[*row])
            })
            .collect();
        let logs: Vec<f64> = without.iter().zip(&references).map(|(log, reference)| log + reference.log).collect();
        #[expect(clippy::cast_possible_truncation, reason = "logs and counts are small")]
        let columns = Array2::from_shape_fn((rows.len(), 4), |(index, column)| match column {
            0 => logs[index] as f32,
            1 => references[index].log as f32,
            2 => references[index].deviation as f32,
            _ => references[index].count as f32,
        });
        let features = concatenate(Axis(1), &[features.view(), columns.view()]).expect("one row per row");
        Ok((logs, features))
    }
}
