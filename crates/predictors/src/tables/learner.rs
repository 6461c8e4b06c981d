//! What learns from measurement tables: boosted trees, deep since rows are thousands, small networks, or both.

use std::{convert::Infallible, str::FromStr};

use messages::{Metric, UnknownWord};
use ndarray::Array2;

use serde::{Deserialize, Serialize};

use super::{
    forest::{Forest, Forests, Members},
    network::Network,
};
use crate::{
    PredictorError,
    boosters::{Growth, Targets, TrainingRows, in_parallel, train_booster},
};

/// How trees grow that predict a value.
const DEEP_TREES: Growth = &[
    // On random rows and new devices of timm's table errors are no larger than with 128, which takes a third longer.
    ("max_bin", "64"),
    ("max_depth", "7"),
    ("eta", "0.1"),
    ("min_child_weight", "2"),
    ("lambda", "1"),
    ("subsample", "0.8"),
    ("colsample_bytree", "0.6"),
];
/// The same where rows are tens or hundreds, as one machine's own are at first.
const SMALL_TREES: Growth = &[
    ("max_bin", "64"),
    ("max_depth", "4"),
    ("eta", "0.07"),
    ("min_child_weight", "1.5"),
    ("lambda", "1"),
    ("subsample", "0.8"),
    ("colsample_bytree", "0.6"),
];
/// Rows from which on trees are deep.
const DEEP_ROWS: usize = 500;
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

/// How trees grow that correct others by later rows: few and shallow, since most of what they see is noise.
const AMENDING_TREES: Growth = &[
    ("max_bin", "64"),
    ("max_depth", "4"),
    ("eta", "0.1"),
    ("min_child_weight", "5"),
    ("lambda", "2"),
    ("subsample", "0.8"),
    ("colsample_bytree", "0.6"),
];
const AMENDING_ROUNDS: u32 = 40;

/// Share of the networks in the mean of both.
const NETWORK_SHARE: f64 = 0.35;

/// Configurations of a device from which on it is learned as the others are. On timm's table, each device in turn: with
/// fewer, its rows among thousands of others leave intervals of which 21 to 70 % held, where corrections by them held
/// 77 to 98 %; from 100 on both hold, the processor errs less when learned, the GPUs from 400 on.
const FEW_SHOT_BELOW: u32 = 100;

/// What learns the value; the size of errors is always learned by trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Learner {
    /// Boosted trees.
    GradientBoosting,
    /// Small networks.
    NeuralNetwork,
    /// The mean of both, but for new devices, where networks stray further than trees.
    #[default]
    Both,
}

impl Learner {
    const ALL: [Self; 3] = [Self::GradientBoosting, Self::NeuralNetwork, Self::Both];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GradientBoosting => "gradient-boosting",
            Self::NeuralNetwork => "neural-network",
            Self::Both => "both",
        }
    }
}

impl TrainSettings {
    /// How to train where devices are new: of both learners trees stand alone there, with one more of them.
    pub(crate) fn for_new_devices(self) -> Self {
        if self.learner != Learner::Both {
            return self;
        }
        Self { learner: Learner::GradientBoosting, ensemble: self.ensemble + 1, ..self }
    }

    /// How to train what corrects another prediction: networks have said there what they can say.
    pub(crate) fn for_corrections(self) -> Self {
        let trees = if self.learner == Learner::Both { Learner::GradientBoosting } else { self.learner };
        Self { learner: trees, ..self }
    }
}

impl FromStr for Learner {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|learner| learner.as_str() == text).ok_or_else(|| UnknownWord {
            kind: "learner",
            found: text.to_owned(),
            known: Self::ALL.map(Self::as_str).join(", "),
        })
    }
}

/// How to train.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainSettings {
    /// What learns.
    pub learner: Learner,
    /// Trees per booster.
    pub rounds: u32,
    /// Boosters per predictor, whose mean is the prediction.
    pub ensemble: u32,
    /// Folds for errors out of fold, at least 2.
    pub folds: u32,
    /// Devices of which fewer configurations were measured are predicted as new ones, corrected by these; 0 for none.
    pub few_shot_below: u32,
    /// Boosters that train at once, each on one thread; the result does not depend on it.
    pub threads: u32,
    /// Seed of everything random.
    pub seed: u64,
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            learner: Learner::default(),
            rounds: 250,
            ensemble: 2,
            folds: 5,
            few_shot_below: FEW_SHOT_BELOW,
            threads: 2,
            seed: 1,
        }
    }
}

/// What boosters train on, and how many of them.
pub(crate) struct Lesson {
    /// Shape `[rows, features]`; NaN is a missing value.
    pub(crate) features: Array2<f32>,
    /// One per row.
    pub(crate) targets: Vec<f64>,
    /// Boosters, and networks where they learn too.
    pub(crate) boosters: u32,
}

/// Boosters, networks or both, whose mean is the prediction.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ensemble {
    forests: Option<Forests>,
    networks: Vec<Network>,
    /// Added to what the networks say.
    centre: f64,
}

impl Ensemble {
    /// What the networks say together, one per row.
    fn by_networks(&self, features: &Array2<f32>) -> Vec<Members> {
        let mut answers = vec![Members::about(self.centre); features.nrows()];
        for network in &self.networks {
            answers.iter_mut().zip(network.predict(features)).for_each(|(all, answer)| all.add(f64::from(answer)));
        }
        answers
    }

    /// The prediction, and how much the members disagree about it.
    fn answers(&self, features: &Array2<f32>) -> Result<Vec<MeanAndSpread>, PredictorError> {
        let of_one_kind = |members: &Members| MeanAndSpread { mean: members.mean(), spread: members.spread() };
        let Some(forests) = &self.forests else {
            return Ok(self.by_networks(features).iter().map(of_one_kind).collect());
        };
        let trees = forests.answers(features)?;
        if self.networks.is_empty() {
            return Ok(trees.iter().map(of_one_kind).collect());
        }
        let of_both = |(trees, networks): (Members, Members)| MeanAndSpread {
            mean: (1.0 - NETWORK_SHARE) * trees.mean() + NETWORK_SHARE * networks.mean(),
            spread: trees.beside(networks).spread(),
        };
        Ok(trees.into_iter().zip(self.by_networks(features)).map(of_both).collect())
    }
}

/// What an ensemble says of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct MeanAndSpread {
    pub(crate) mean: f64,
    /// Standard deviation over the members.
    pub(crate) spread: f64,
}

/// Trains one ensemble per lesson, all members beside each other.
pub(crate) fn train(
    metric: Metric,
    lessons: &[Lesson],
    settings: &TrainSettings,
) -> Result<Vec<Ensemble>, PredictorError> {
    let mut ensembles = match settings.learner {
        Learner::NeuralNetwork => lessons.iter().map(|_| Ensemble::default()).collect(),
        Learner::GradientBoosting | Learner::Both => {
            let most = lessons.iter().map(|lesson| lesson.targets.len()).max().unwrap_or_default();
            let growth = if most < DEEP_ROWS { SMALL_TREES } else { DEEP_TREES };
            grow(metric, lessons, growth, settings.rounds, settings)?
        }
    };
    if settings.learner != Learner::GradientBoosting {
        teach(&mut ensembles, lessons, settings);
    }
    Ok(ensembles)
}

/// As [`train`], for targets that are mostly noise.
pub(crate) fn train_shallow(
    metric: Metric,
    lessons: &[Lesson],
    settings: &TrainSettings,
) -> Result<Vec<Ensemble>, PredictorError> {
    grow(metric, lessons, SHALLOW_TREES, SHALLOW_ROUNDS, settings)
}

/// Trains what corrects an ensemble's predictions of a few rows and leaves them as they are elsewhere.
pub(crate) fn train_amendment(
    metric: Metric,
    lesson: &Lesson,
    settings: &TrainSettings,
) -> Result<Ensemble, PredictorError> {
    let mut trained = grow(metric, std::slice::from_ref(lesson), AMENDING_TREES, AMENDING_ROUNDS, settings)?;
    Ok(trained.pop().expect("one per lesson"))
}

fn targets_of(lessons: &[Lesson]) -> Vec<Targets> {
    lessons.iter().map(|lesson| Targets::new(&lesson.targets)).collect()
}

/// A lesson's index and a member's seed, for every member of every ensemble.
fn members(lessons: &[Lesson], seed: u64) -> Vec<(usize, u64)> {
    let of_lesson = |(index, lesson): (usize, &Lesson)| {
        (0..lesson.boosters.max(1)).map(move |member| (index, seed.wrapping_mul(1_000).wrapping_add(u64::from(member))))
    };
    lessons.iter().enumerate().flat_map(of_lesson).collect()
}

fn grow(
    metric: Metric,
    lessons: &[Lesson],
    growth: Growth,
    rounds: u32,
    settings: &TrainSettings,
) -> Result<Vec<Ensemble>, PredictorError> {
    let targets = targets_of(lessons);
    let mut forests = in_parallel(&members(lessons, settings.seed), settings.threads, |(index, seed)| {
        let rows = TrainingRows { features: &lessons[*index].features, targets: &targets[*index] };
        let booster = train_booster(&rows, growth, rounds, *seed).map_err(|source| PredictorError::Booster {
            action: "train",
            metric,
            source,
        })?;
        Forest::of_booster(metric, &booster, rows.features.ncols())
    })?
    .into_iter();
    let ensembles = lessons.iter().zip(&targets).map(|(lesson, targets)| {
        let forests = forests.by_ref().take(lesson.boosters.max(1) as usize).collect();
        Ensemble { forests: Some(Forests::new(targets.centre, forests)), ..Ensemble::default() }
    });
    Ok(ensembles.collect())
}

/// Adds networks to the ensembles of lessons.
fn teach(ensembles: &mut [Ensemble], lessons: &[Lesson], settings: &TrainSettings) {
    let targets = targets_of(lessons);
    let members = members(lessons, settings.seed);
    let Ok(networks) = in_parallel(&members, settings.threads, |(index, seed)| {
        Ok::<_, Infallible>(Network::train(&lessons[*index].features, &targets[*index].centred, *seed))
    });
    for ((index, _), network) in members.into_iter().zip(networks) {
        ensembles[index].centre = targets[index].centre;
        ensembles[index].networks.push(network);
    }
}

/// What an ensemble predicts, one per row.
pub(crate) fn answers(ensemble: &Ensemble, features: &Array2<f32>) -> Result<Vec<MeanAndSpread>, PredictorError> {
    if features.nrows() == 0 { Ok(Vec::new()) } else { ensemble.answers(features) }
}

/// The mean prediction of an ensemble, one per row.
pub(crate) fn means(ensemble: &Ensemble, features: &Array2<f32>) -> Result<Vec<f64>, PredictorError> {
    Ok(answers(ensemble, features)?.into_iter().map(|answer| answer.mean).collect())
}
