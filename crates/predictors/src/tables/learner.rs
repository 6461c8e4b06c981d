//! Boosted trees for measurement tables: thousands of rows, so trees are deep.

use messages::Metric;
use ndarray::Array2;

use super::forest::{Ensemble, Forest};
use crate::{
    PredictorError, TrainSettings,
    boosters::{Growth, Targets, TrainingRows, in_parallel, train_unweighted},
};

/// How trees grow that predict a value.
const DEEP_TREES: Growth = &[
    ("max_bin", "128"),
    ("max_depth", "7"),
    ("eta", "0.1"),
    ("min_child_weight", "2"),
    ("lambda", "1"),
    ("subsample", "0.8"),
    ("colsample_bytree", "0.6"),
];
/// How trees grow that predict how large an error will be, which is far noisier.
const SHALLOW_TREES: Growth = &[
    ("max_bin", "64"),
    ("max_depth", "4"),
    ("eta", "0.08"),
    ("min_child_weight", "20"),
    ("lambda", "1"),
    ("subsample", "0.6"),
    ("colsample_bytree", "0.5"),
];
const SHALLOW_ROUNDS: u32 = 80;

/// How to train on measurement tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableSettings {
    /// Trees per booster.
    pub rounds: u32,
    /// Boosters per predictor, whose mean is the prediction.
    pub ensemble: u32,
    /// Folds for errors out of fold, at least 2.
    pub folds: u32,
    /// Boosters that train at once, each on one thread; the result does not depend on it.
    pub threads: u32,
    /// Seed of everything random.
    pub seed: u64,
}

impl Default for TableSettings {
    fn default() -> Self {
        Self { rounds: 250, ensemble: 3, folds: 5, threads: 2, seed: 1 }
    }
}

impl From<TableSettings> for TrainSettings {
    fn from(settings: TableSettings) -> Self {
        let TableSettings { rounds, ensemble, folds, threads, seed } = settings;
        Self { rounds, ensemble, folds, threads, seed }
    }
}

impl From<TrainSettings> for TableSettings {
    fn from(settings: TrainSettings) -> Self {
        let TrainSettings { rounds, ensemble, folds, threads, seed } = settings;
        Self { rounds, ensemble, folds, threads, seed }
    }
}

/// What boosters train on, and how many of them.
pub(crate) struct Lesson {
    /// Shape `[rows, features]`; NaN is a missing value.
    pub(crate) features: Array2<f32>,
    /// One per row.
    pub(crate) targets: Vec<f64>,
    pub(crate) boosters: u32,
}

/// Trains one ensemble per lesson, all boosters beside each other.
pub(crate) fn train(
    metric: Metric,
    lessons: &[Lesson],
    settings: &TableSettings,
) -> Result<Vec<Ensemble>, PredictorError> {
    grow(metric, lessons, DEEP_TREES, settings.rounds, settings)
}

/// As [`train`], for targets that are mostly noise.
pub(crate) fn train_shallow(
    metric: Metric,
    lessons: &[Lesson],
    settings: &TableSettings,
) -> Result<Vec<Ensemble>, PredictorError> {
    grow(metric, lessons, SHALLOW_TREES, SHALLOW_ROUNDS, settings)
}

fn grow(
    metric: Metric,
    lessons: &[Lesson],
    growth: Growth,
    rounds: u32,
    settings: &TableSettings,
) -> Result<Vec<Ensemble>, PredictorError> {
    let targets: Vec<Targets> = lessons.iter().map(|lesson| Targets::new(&lesson.targets)).collect();
    let members: Vec<(usize, u64)> = lessons
        .iter()
        .enumerate()
        .flat_map(|(index, lesson)| (0..lesson.boosters.max(1)).map(move |member| (index, u64::from(member))))
        .collect();
    let mut forests = in_parallel(&members, settings.threads, |(index, member)| {
        let rows = TrainingRows { features: &lessons[*index].features, targets: &targets[*index] };
        let seed = settings.seed.wrapping_mul(1_000).wrapping_add(*member);
        let booster = train_unweighted(&rows, growth, rounds, seed).map_err(|source| PredictorError::Booster {
            action: "train",
            metric,
            source,
        })?;
        Forest::of_booster(metric, &booster, rows.features.ncols())
    })?
    .into_iter();
    let ensembles = lessons.iter().zip(&targets).map(|(lesson, targets)| {
        Ensemble::new(targets.centre, forests.by_ref().take(lesson.boosters.max(1) as usize).collect())
    });
    Ok(ensembles.collect())
}

/// The mean prediction of an ensemble, one per row.
pub(crate) fn means(ensemble: &Ensemble, features: &Array2<f32>) -> Result<Vec<f64>, PredictorError> {
    ensemble.means(features)
}
