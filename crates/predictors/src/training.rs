//! Trained predictors in memory: from measurements to boosters and calibrations, and from subjects to predictions.

use std::collections::{BTreeSet, HashSet};

use features::{FeatureFrame, Roofline, Subject, roofline};
use messages::{AcceptedMeasurement, Metric};
use ndarray::{Array2, Axis};
use tracing::{info, warn};

use crate::{
    Evaluation, Grouping, KnownModel, Predicted, PredictedWithSpread, PredictorError,
    boosters::{
        Ensemble, MeanAndSpread, Targets, TrainingRows, in_parallel, mean_and_spread, predict_booster, train_booster,
    },
    calibration::{Calibration, OutOfFold},
    evaluation::evaluate,
    folds::grouped_folds,
};

/// Distinct configurations without which nothing is trained: fewer give no 90 % quantile of errors out of fold.
pub const ROWS_NEEDED: usize = 20;

/// Models without which errors on a new model cannot be estimated.
const MODELS_NEEDED: usize = 3;

/// The metrics that have boosters; throughput follows from latency.
const LEARNED: [Metric; 2] = [Metric::LatencyMs, Metric::MemoryPeakMb];

/// How to train.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainSettings {
    /// Trees per booster.
    pub rounds: u32,
    /// Boosters per metric.
    pub ensemble: u32,
    /// Folds for errors out of fold, at least 2.
    pub folds: u32,
    /// Boosters that train at once, each on one thread; the result does not depend on it.
    pub threads: u32,
    /// Seed of everything random.
    pub seed: u64,
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self { rounds: 250, ensemble: 5, folds: 5, threads: 2, seed: 1 }
    }
}

/// A trained set of predictors.
#[derive(Debug)]
pub struct Predictors {
    pub(crate) settings: TrainSettings,
    pub(crate) training_rows: u32,
    pub(crate) known: BTreeSet<KnownModel>,
    pub(crate) estimators: Vec<Estimator>,
    pub(crate) evaluation: Vec<Evaluation>,
}

/// The estimator of one learned metric.
#[derive(Debug)]
pub(crate) struct Estimator {
    pub(crate) metric: Metric,
    pub(crate) ensemble: Ensemble,
    pub(crate) known_model: Calibration,
    /// `None` if too few models were measured to know the errors on a new one.
    pub(crate) new_model: Option<Calibration>,
}

/// A measurement that can be learned from.
struct Usable<'a> {
    measurement: &'a AcceptedMeasurement,
    subject: Subject,
    roofline: Roofline,
}

impl Predictors {
    /// Trains, calibrates and evaluates.
    ///
    /// A measurement of a model or device that cannot be described, or with a latency that is not above 0, is left
    /// out with a warning. A metric other than latency that too few measurements have is left out as well.
    ///
    /// # Errors
    ///
    /// [`PredictorError::TooFewRows`] below [`ROWS_NEEDED`] distinct configurations, [`PredictorError::Booster`] if
    /// XGBoost fails.
    pub fn train(rows: &[AcceptedMeasurement], settings: &TrainSettings) -> Result<Self, PredictorError> {
        let usable = usable(rows);
        let configurations = distinct_configurations(&usable.iter().collect::<Vec<_>>());
        if configurations < ROWS_NEEDED {
            return Err(PredictorError::TooFewRows { found: configurations, needed: ROWS_NEEDED });
        }
        let subjects: Vec<Subject> = usable.iter().map(|row| row.subject.clone()).collect();
        let features = matrix(&subjects)?;
        let mut predictors = Self {
            settings: *settings,
            training_rows: u32::try_from(usable.len()).unwrap_or(u32::MAX),
            known: subjects.iter().map(KnownModel::of).collect(),
            estimators: Vec::new(),
            evaluation: Vec::new(),
        };
        for metric in LEARNED {
            let (indices, measured): (Vec<usize>, Vec<&Usable<'_>>) =
                usable.iter().enumerate().filter(|(_, row)| target(metric, row).is_some()).unzip();
            let found = distinct_configurations(&measured);
            if found < ROWS_NEEDED {
                info!(%metric, found, needed = ROWS_NEEDED, "too few measurements to train this metric");
                continue;
            }
            predictors.train_metric(metric, &features.select(Axis(0), &indices), &measured)?;
        }
        predictors.evaluation.sort_by_key(|evaluation| evaluation.metric);
        Ok(predictors)
    }

    fn train_metric(
        &mut self,
        metric: Metric,
        features: &Array2<f32>,
        rows: &[&Usable<'_>],
    ) -> Result<(), PredictorError> {
        let targets: Vec<f64> = rows.iter().filter_map(|row| target(metric, row)).collect();
        let settings = self.settings;
        let failed = |source| PredictorError::Booster { action: "train", metric, source };

        let mut calibrations = [None, None];
        for (grouping, calibration) in [Grouping::Configuration, Grouping::Model].into_iter().zip(&mut calibrations) {
            let Some((fold_of_row, folds)) = folds(grouping, rows, &settings) else {
                info!(%metric, %grouping, "too few groups to estimate errors on a new one");
                continue;
            };
            let errors = out_of_fold(features, &targets, &fold_of_row, folds, &settings).map_err(failed)?;
            self.evaluation.push(evaluate(metric, grouping, &errors));
            if metric == Metric::LatencyMs {
                self.evaluation.push(evaluate_throughput(grouping, &errors, rows));
            }
            *calibration = Calibration::fit(&errors);
        }
        let [Some(known_model), new_model] = calibrations else {
            return Err(PredictorError::TooFewRows { found: rows.len(), needed: ROWS_NEEDED });
        };

        let targets = Targets::new(&targets);
        let training = TrainingRows { features, targets: &targets };
        let boosters = in_parallel(&member_seeds(&settings), settings.threads, |seed| {
            train_booster(&training, settings.rounds, *seed)
        })
        .map_err(failed)?;
        self.estimators.push(Estimator {
            metric,
            ensemble: Ensemble::new(metric, targets.centre, boosters),
            known_model,
            new_model,
        });
        Ok(())
    }

    /// Predicts every trained metric of each subject, in their order.
    ///
    /// The interval is the narrower one if this very model was measured on this very device. For another model it is
    /// the one calibrated on models left out; if too few models were measured for that, the narrower one stands in,
    /// and [`Self::evaluation`] has no entry for [`Grouping::Model`].
    ///
    /// # Errors
    ///
    /// [`PredictorError::Features`] names the first model or device that cannot be described.
    pub fn predict(&self, subjects: &[Subject]) -> Result<Vec<Predicted>, PredictorError> {
        if subjects.is_empty() {
            return Ok(Vec::new());
        }
        let rooflines = subjects.iter().map(roofline).collect::<Result<Vec<_>, _>>()?;
        let features = matrix(subjects)?;
        let known_devices: HashSet<&str> = self.known.iter().map(|known| known.device.as_str()).collect();
        let mut predicted: Vec<Predicted> = subjects
            .iter()
            .map(|subject| Predicted {
                metrics: Vec::with_capacity(LEARNED.len() + 1),
                known_model: self.known.contains(&KnownModel::of(subject)),
                known_device: known_devices.contains(subject.device.name.as_str()),
            })
            .collect();
        for estimator in &self.estimators {
            let answers = estimator.ensemble.predict(&features)?;
            for (((subject, bound), answer), predicted) in
                subjects.iter().zip(&rooflines).zip(answers).zip(&mut predicted)
            {
                let base = roofline_of(estimator.metric, bound);
                let found = estimator.interval(base, answer, predicted.known_model);
                predicted.metrics.push(found);
                if estimator.metric == Metric::LatencyMs {
                    predicted.metrics.push(throughput(&found, subject.configuration.batch_size));
                }
            }
        }
        Ok(predicted)
    }

    /// Errors out of fold, by metric and by what was new; for [`Grouping::Model`] only if there were enough models.
    pub fn evaluation(&self) -> &[Evaluation] {
        &self.evaluation
    }

    /// Measurements that were trained on.
    pub const fn training_rows(&self) -> u32 {
        self.training_rows
    }
}

impl Estimator {
    fn interval(&self, base: f64, answer: MeanAndSpread, known_model: bool) -> PredictedWithSpread {
        let calibration = if known_model { self.known_model } else { self.new_model.unwrap_or(self.known_model) };
        let half_width = calibration.half_width(answer.spread);
        PredictedWithSpread {
            metric: self.metric,
            value: base * answer.mean.exp(),
            lower: base * (answer.mean - half_width).exp(),
            upper: base * (answer.mean + half_width).exp(),
            spread_log: answer.spread,
        }
    }
}

/// The feature matrix of subjects, of which there is at least one.
fn matrix(subjects: &[Subject]) -> Result<Array2<f32>, PredictorError> {
    let frame = FeatureFrame::build(subjects)?;
    let shape = (frame.rows(), frame.columns());
    Ok(Array2::from_shape_vec(shape, frame.to_matrix()).expect("the frame's matrix has its rows and columns"))
}

fn usable(rows: &[AcceptedMeasurement]) -> Vec<Usable<'_>> {
    let mut usable = Vec::with_capacity(rows.len());
    for measurement in rows {
        let subject = Subject::from(measurement);
        match roofline(&subject) {
            Ok(roofline) if positive(measurement.latency_ms) => {
                usable.push(Usable { measurement, subject, roofline });
            }
            Ok(_) => {
                warn!(job_id = %measurement.job_id, latency_ms = measurement.latency_ms, "measurement left out");
            }
            Err(reason) => warn!(job_id = %measurement.job_id, %reason, "measurement left out"),
        }
    }
    usable
}

fn positive(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

fn distinct_configurations(rows: &[&Usable<'_>]) -> usize {
    rows.iter().map(|row| (&row.subject.configuration, row.subject.device.name.as_str())).collect::<HashSet<_>>().len()
}

/// The log ratio of a row's measured value to its roofline, if it was measured.
fn target(metric: Metric, row: &Usable<'_>) -> Option<f64> {
    let measured = match metric {
        Metric::LatencyMs => Some(row.measurement.latency_ms),
        Metric::MemoryPeakMb => row.measurement.memory_peak_mb,
        Metric::ThroughputItemsPerSecond | Metric::PowerW | Metric::LoadMs => None,
    };
    measured.filter(|value| positive(*value)).map(|value| (value / roofline_of(metric, &row.roofline)).ln())
}

/// What a metric's boosters take the ratio to.
const fn roofline_of(metric: Metric, bound: &Roofline) -> f64 {
    match metric {
        Metric::MemoryPeakMb => bound.memory_mb,
        Metric::LatencyMs | Metric::ThroughputItemsPerSecond | Metric::PowerW | Metric::LoadMs => bound.latency_ms,
    }
}

/// Throughput is batch size over latency, and its interval that of latency turned over.
fn throughput(latency: &PredictedWithSpread, batch_size: u32) -> PredictedWithSpread {
    let per_second = |latency_ms: f64| f64::from(batch_size) * 1e3 / latency_ms;
    PredictedWithSpread {
        metric: Metric::ThroughputItemsPerSecond,
        value: per_second(latency.value),
        lower: per_second(latency.upper),
        upper: per_second(latency.lower),
        spread_log: latency.spread_log,
    }
}

/// Holds the latency's predictions against the throughput that was measured.
fn evaluate_throughput(grouping: Grouping, errors: &[OutOfFold], rows: &[&Usable<'_>]) -> Evaluation {
    let measured: Vec<OutOfFold> = errors
        .iter()
        .zip(rows)
        .filter(|(_, row)| positive(row.measurement.throughput_items_per_second))
        .map(|(error, row)| {
            let items = f64::from(row.measurement.configuration.batch_size);
            let latency_ms = items * 1e3 / row.measurement.throughput_items_per_second;
            OutOfFold { target: (latency_ms / row.roofline.latency_ms).ln(), ..*error }
        })
        .collect();
    evaluate(Metric::ThroughputItemsPerSecond, grouping, &measured)
}

/// The fold of each row; `None` where there are too few groups.
fn folds(grouping: Grouping, rows: &[&Usable<'_>], settings: &TrainSettings) -> Option<(Vec<usize>, usize)> {
    let folds = settings.folds.max(2) as usize;
    match grouping {
        Grouping::Configuration => {
            let groups: Vec<_> =
                rows.iter().map(|row| (&row.subject.configuration, row.subject.device.name.as_str())).collect();
            Some(grouped_folds(&groups, folds, settings.seed))
        }
        // Jobs are of one machine's devices, of which nothing can be left out.
        Grouping::Device => None,
        Grouping::Model => {
            let groups: Vec<_> = rows.iter().map(|row| row.subject.configuration.model.name.as_str()).collect();
            let models = groups.iter().collect::<HashSet<_>>().len();
            (models >= MODELS_NEEDED).then(|| grouped_folds(&groups, folds, settings.seed))
        }
    }
}

/// Predicts each row with an ensemble that was trained on the other folds.
fn out_of_fold(
    features: &Array2<f32>,
    targets: &[f64],
    fold_of_row: &[usize],
    folds: usize,
    settings: &TrainSettings,
) -> Result<Vec<OutOfFold>, xgboost_rs::XGBError> {
    struct Split {
        held_rows: Vec<usize>,
        held_features: Array2<f32>,
        features: Array2<f32>,
        targets: Targets,
    }
    let splits: Vec<Split> = (0..folds)
        .map(|fold| {
            let (held_rows, training): (Vec<usize>, Vec<usize>) =
                (0..targets.len()).partition(|row| fold_of_row[*row] == fold);
            Split {
                held_features: features.select(Axis(0), &held_rows),
                features: features.select(Axis(0), &training),
                targets: Targets::new(&training.iter().map(|row| targets[*row]).collect::<Vec<_>>()),
                held_rows,
            }
        })
        .collect();
    let seeds = member_seeds(settings);
    let members: Vec<(&Split, u64)> =
        splits.iter().flat_map(|split| seeds.iter().map(move |seed| (split, *seed))).collect();
    let answers = in_parallel(&members, settings.threads, |(split, seed)| {
        let training = TrainingRows { features: &split.features, targets: &split.targets };
        let booster = train_booster(&training, settings.rounds, *seed)?;
        predict_booster(&booster, &split.held_features)
    })?;
    let nothing = MeanAndSpread { mean: f64::NAN, spread: f64::NAN };
    let mut errors: Vec<OutOfFold> = targets
        .iter()
        .zip(fold_of_row)
        .map(|(target, fold)| OutOfFold { fold: *fold, target: *target, predicted: nothing })
        .collect();
    for (split, answers) in splits.iter().zip(answers.chunks(seeds.len())) {
        for (row, answer) in split.held_rows.iter().zip(mean_and_spread(answers, split.targets.centre)) {
            errors[*row].predicted = answer;
        }
    }
    Ok(errors)
}

fn member_seeds(settings: &TrainSettings) -> Vec<u64> {
    let mut random = fastrand::Rng::with_seed(settings.seed);
    (0..settings.ensemble.max(1)).map(|_| random.u64(..)).collect()
}

#[cfg(test)]
mod tests;
