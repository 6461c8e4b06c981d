//! Predictors of one metric for measurement tables, one for each way in which a row can be new.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    num::NonZero,
    thread,
};

use features::Role;
use ndarray::{Array2, Axis};
use serde::{Deserialize, Serialize};

use super::{
    data::TableData,
    efficiency::Efficiency,
    held_out::{HeldOut, evaluations},
    learner::{Ensemble, Lesson, TrainSettings, answers, means, train},
    new_device::NewDevice,
    reliability::{Errors, Reliability},
    residuals::{Residuals, fit_efficiency, with_efficiency},
};
use crate::{Evaluation, Grouping, PredictorError, boosters::in_parallel, folds::grouped_folds};

/// Configurations without which nothing is trained: fewer give no 90 % quantile of errors out of fold.
pub const ROWS_NEEDED: usize = 20;
/// Rows that are predicted together: enough to be worth a thread, few enough for their features to stay in its cache.
const ROWS_TOGETHER: usize = 512;

/// What of a row was never measured; each has errors of its own size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Novelty {
    /// Only the combination: the model was measured, and so was the device.
    Configuration,
    /// The model, and with it perhaps its family.
    Model,
    /// The device.
    Device,
}

impl Novelty {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Model => "model",
            Self::Device => "device",
        }
    }
}

impl fmt::Display for Novelty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is predicted of one row, as logs of the ratio to physics.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TablePrediction {
    /// The row.
    pub row: usize,
    /// ln(predicted value / base).
    pub log: f64,
    /// Half-width of the 90 % interval around it.
    pub half_width: f64,
    /// Share of similar past predictions that fell within ±20 % of the truth, 0 to 1.
    pub confidence: f64,
    /// How much the members of the ensemble disagree: the standard deviation of their logs.
    pub spread: f64,
    /// What of the row was never measured.
    pub novelty: Novelty,
}

/// Predictors of one metric, trained on some rows of a table, to be asked about other rows of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct TablePredictor {
    models: HashSet<usize>,
    devices: HashSet<usize>,
    efficiency: Efficiency,
    pub(crate) residuals: Option<Residuals>,
    new_configuration: Option<Learned>,
    new_model: Option<Learned>,
    pub(crate) new_device: Option<NewDevice>,
    /// Known where it was trained; a release keeps it in its manifest.
    #[serde(skip)]
    evaluation: Vec<Evaluation>,
}

/// Boosters and what is known of their errors.
#[derive(Debug, Serialize, Deserialize)]
struct Learned {
    boosters: Ensemble,
    reliability: Reliability,
}

impl TablePredictor {
    /// Trains on `training` what is needed to predict rows that are new in the ways of `novelties`.
    ///
    /// # Errors
    ///
    /// [`PredictorError::TooFewRows`] below [`ROWS_NEEDED`] configurations, [`PredictorError::Booster`] if XGBoost
    /// fails.
    pub fn train(
        data: &TableData,
        training: &[usize],
        novelties: &[Novelty],
        settings: &TrainSettings,
    ) -> Result<Self, PredictorError> {
        let configurations: HashSet<usize> = training.iter().map(|row| data.configurations.of_row[*row]).collect();
        if configurations.len() < ROWS_NEEDED {
            return Err(PredictorError::TooFewRows { found: configurations.len(), needed: ROWS_NEEDED });
        }
        let efficiency = fit_efficiency(data, training);
        let features = with_efficiency(data, training, &efficiency, None);
        let mut predictor = Self {
            models: training.iter().map(|row| data.models.of_row[*row]).collect(),
            devices: training.iter().map(|row| data.devices.of_row[*row]).collect(),
            efficiency,
            residuals: None,
            new_configuration: None,
            new_model: None,
            new_device: None,
            evaluation: Vec::new(),
        };
        if novelties.contains(&Novelty::Configuration) {
            let residuals = Residuals::fit(data, training, &features, settings)?;
            let (learned, held) = learn_configuration(data, training, &features, &residuals, settings)?;
            predictor.evaluation.extend(held.evaluations(data, Grouping::Configuration));
            predictor.new_configuration = Some(learned);
            predictor.residuals = Some(residuals);
        }
        if novelties.contains(&Novelty::Model) {
            let families: Vec<usize> = training.iter().map(|row| data.families.of_row[*row]).collect();
            let start = vec![0.0; training.len()];
            let (learned, held) = learn(data, training, features, &start, &families, settings)?;
            predictor.evaluation.extend(held.evaluations(data, Grouping::Model));
            predictor.new_model = Some(learned);
        }
        if novelties.contains(&Novelty::Device) {
            let bare = with_efficiency(data, training, &predictor.efficiency, Some(Role::Device));
            let new_device = NewDevice::learn(data, training, &bare, settings)?;
            let errors: Vec<HeldOut> =
                new_device.held_out().map(|(row, error, half_width)| HeldOut { row, error, half_width }).collect();
            predictor.evaluation.extend(evaluations(data, Grouping::Device, predictor.devices.len(), &errors));
            predictor.new_device = Some(new_device);
        }
        Ok(predictor)
    }

    /// Errors on what was held out in training, by what was new; empty after loading.
    pub fn evaluation(&self) -> &[Evaluation] {
        &self.evaluation
    }

    /// What of a row was not measured among the rows trained on.
    pub fn novelty(&self, data: &TableData, row: usize) -> Novelty {
        if !self.devices.contains(&data.devices.of_row[row]) {
            Novelty::Device
        } else if !self.models.contains(&data.models.of_row[row]) {
            Novelty::Model
        } else {
            Novelty::Configuration
        }
    }

    /// Predicts rows, in their order.
    ///
    /// A row that is new in a way that was not trained is answered by what was trained for the next stranger way.
    ///
    /// # Errors
    ///
    /// [`PredictorError::Booster`] if XGBoost fails.
    pub fn predict(&self, data: &TableData, rows: &[usize]) -> Result<Vec<TablePrediction>, PredictorError> {
        if rows.len() <= ROWS_TOGETHER {
            // Asking how many cores there are takes longer than answering a few questions.
            return self.predict_here(data, rows);
        }
        let parts: Vec<&[usize]> = rows.chunks(ROWS_TOGETHER).collect();
        let threads = thread::available_parallelism().map_or(1, NonZero::get).min(parts.len());
        let threads = u32::try_from(threads).unwrap_or(u32::MAX);
        Ok(in_parallel(&parts, threads, |part| self.predict_here(data, part))?.concat())
    }

    /// The same on this thread.
    fn predict_here(&self, data: &TableData, rows: &[usize]) -> Result<Vec<TablePrediction>, PredictorError> {
        let mut by_novelty: BTreeMap<Novelty, Vec<usize>> = BTreeMap::new();
        for (place, row) in rows.iter().enumerate() {
            by_novelty.entry(self.answerable(self.novelty(data, *row))).or_default().push(place);
        }
        let mut answers = vec![None; rows.len()];
        for (novelty, places) in by_novelty {
            let alike: Vec<usize> = places.iter().map(|place| rows[*place]).collect();
            for (place, answer) in places.into_iter().zip(self.predict_alike(data, &alike, novelty)?) {
                answers[place] = Some(answer);
            }
        }
        Ok(answers.into_iter().map(|answer| answer.expect("every row has a novelty")).collect())
    }

    fn answerable(&self, novelty: Novelty) -> Novelty {
        let trained = [
            (Novelty::Configuration, self.new_configuration.is_some()),
            (Novelty::Model, self.new_model.is_some()),
            (Novelty::Device, self.new_device.is_some()),
        ];
        let stranger = trained.iter().find(|(other, trained)| *other >= novelty && *trained);
        stranger.or(trained.iter().rev().find(|(_, trained)| *trained)).map_or(novelty, |(novelty, _)| *novelty)
    }

    fn predict_alike(
        &self,
        data: &TableData,
        rows: &[usize],
        novelty: Novelty,
    ) -> Result<Vec<TablePrediction>, PredictorError> {
        let features = |refused| with_efficiency(data, rows, &self.efficiency, refused);
        match (novelty, &self.new_configuration, &self.residuals, &self.new_model, &self.new_device) {
            (Novelty::Configuration, Some(learned), Some(residuals), ..) => {
                let (start, features) = residuals.refer(data, rows, &features(None))?;
                learned.predict(data, rows, &features, &start, novelty)
            }
            (Novelty::Model, _, _, Some(learned), _) => {
                learned.predict(data, rows, &features(None), &vec![0.0; rows.len()], novelty)
            }
            (_, _, _, _, Some(new_device)) => new_device.predict(data, rows, &features(Some(Role::Device))),
            _ => unreachable!("`answerable` names what was trained, and something is"),
        }
    }

    /// Features of rows of new devices.
    pub(crate) fn bare_features(&self, data: &TableData, rows: &[usize]) -> Array2<f32> {
        with_efficiency(data, rows, &self.efficiency, Some(Role::Device))
    }

    /// Features of rows of known devices.
    pub(crate) fn full_features(&self, data: &TableData, rows: &[usize]) -> Array2<f32> {
        with_efficiency(data, rows, &self.efficiency, None)
    }
}

impl Learned {
    fn predict(
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
            })
            .collect())
    }
}

/// Boosters per fold left out: a single one errs more than the ensemble that answers in the end, and its intervals
/// would be too wide.
const HELD_OUT_BOOSTERS: u32 = 2;

/// For new configurations of known models: what the references say, corrected. Errors out of fold are of random
/// configurations, each with all the references that one asked about has.
fn learn_configuration(
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
fn learn(
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
    let groups = training.iter().map(|row| data.devices.of_row[*row]).collect();
    let errors = Errors { features, logs, groups, folds: fold_of_row };
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
struct Held {
    folds: usize,
    errors: Vec<HeldOut>,
}

impl Held {
    fn evaluations(&self, data: &TableData, grouping: Grouping) -> Vec<Evaluation> {
        evaluations(data, grouping, self.folds, &self.errors)
    }
}
