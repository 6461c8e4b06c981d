//! Ways to hold predictors against rows that they did not see.

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    str::FromStr,
    time::Instant,
};

use messages::UnknownWord;

use super::{
    baselines::nearest_same_model,
    data::TableData,
    estimator::{TablePrediction, TablePredictor},
    few_shot::hardly_measured,
    learner::TrainSettings,
    novelty::Novelty,
    report::{Outcome, Report},
    warm_start::WarmStart,
};
use crate::{PredictorError, folds::grouped_folds};

/// The share of rows that `random` tests on.
const RANDOM_TEST_SHARE: f64 = 0.2;
/// Folds of `leave-family-out`.
const FAMILY_FOLDS: usize = 5;
/// Draws of `few-shot` with random measurements: five measurements are a matter of luck, and twenty draws of them leave
/// a mean error that depends on the seed by some 1 % of it.
const SHOT_DRAWS: u64 = 20;

/// Which rows are held out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// A fifth of the rows, at random.
    Random,
    /// Families of models, in five folds.
    LeaveFamilyOut,
    /// Each device in turn.
    LeaveDeviceOut,
    /// Each device in turn, but for a few of its measurements.
    FewShot {
        /// Measurements of the new device that are given.
        shots: usize,
        /// How they are chosen.
        choose: Choose,
    },
}

/// How the measurements of a new device are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choose {
    /// At random; errors are the mean over several draws.
    Random,
    /// Such that they say most about the others, by their features alone.
    Representative,
}

impl Choose {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Representative => "representative",
        }
    }
}

impl FromStr for Choose {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Random, Self::Representative].into_iter().find(|choose| choose.as_str() == text).ok_or_else(|| {
            UnknownWord { kind: "choice", found: text.to_owned(), known: "random, representative".to_owned() }
        })
    }
}

impl Protocol {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::LeaveFamilyOut => "leave-family-out",
            Self::LeaveDeviceOut => "leave-device-out",
            Self::FewShot { .. } => "few-shot",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Rows to train on and rows to predict.
struct Split {
    training: Vec<usize>,
    test: Vec<usize>,
}

/// Holds predictors against a table under a protocol; `progress` is told of every step.
///
/// # Errors
///
/// [`PredictorError::Unsplittable`] if the table has too few families, devices or rows; else as
/// [`TablePredictor::train`].
pub fn evaluate(
    data: &TableData,
    protocol: Protocol,
    settings: &TrainSettings,
    progress: impl Fn(&str),
) -> Result<Report, PredictorError> {
    let splits = splits(data, protocol, settings.seed)?;
    let mut run = Run::default();
    // One for all draws: draws of different devices must not be alike.
    let mut random = fastrand::Rng::with_seed(settings.seed);
    for (index, split) in splits.iter().enumerate() {
        let (trained, tested) = (split.training.len(), split.test.len());
        progress(&format!("part {} of {}: {trained} rows to train on, {tested} to predict", index + 1, splits.len()));
        match protocol {
            Protocol::FewShot { shots, choose } => run.few_shot(data, split, (shots, choose), settings, &mut random)?,
            _ => run.plain(data, split, settings)?,
        }
    }
    Ok(run.report(data, protocol.as_str()))
}

/// Holds predictors against one given split.
///
/// # Errors
///
/// As [`TablePredictor::train`].
pub fn evaluate_split(
    data: &TableData,
    training: &[usize],
    test: &[usize],
    settings: &TrainSettings,
) -> Result<Report, PredictorError> {
    let mut run = Run::default();
    run.plain(data, &Split { training: training.to_vec(), test: test.to_vec() }, settings)?;
    Ok(run.report(data, "given-split"))
}

/// What came out so far.
#[derive(Default)]
struct Run {
    outcomes: Vec<Outcome>,
    train_seconds: f64,
    predict_seconds: f64,
    predicted: usize,
    parts: usize,
}

impl Run {
    fn plain(&mut self, data: &TableData, split: &Split, settings: &TrainSettings) -> Result<(), PredictorError> {
        let started = Instant::now();
        let novelties = novelties(data, split, settings);
        let predictor = TablePredictor::train(data, &split.training, &novelties, settings)?;
        self.train_seconds += started.elapsed().as_secs_f64();
        let asked = Instant::now();
        let predictions = predictor.predict(data, &split.test)?;
        self.predict_seconds += asked.elapsed().as_secs_f64();
        self.note(data, &split.training, predictions);
        Ok(())
    }

    fn few_shot(
        &mut self,
        data: &TableData,
        split: &Split,
        (count, choose): (usize, Choose),
        settings: &TrainSettings,
        random: &mut fastrand::Rng,
    ) -> Result<(), PredictorError> {
        let started = Instant::now();
        let known = WarmStart::learn(data, &split.training, settings)?;
        let platform = split.test.first().and_then(|row| data.row(*row).platform.as_deref());
        let shots = known.shots(platform, count, choose);
        self.train_seconds += started.elapsed().as_secs_f64();
        let draws = if choose == Choose::Random { SHOT_DRAWS } else { 1 };
        for _ in 0..draws {
            let measured = match choose {
                Choose::Random => random.choose_multiple(split.test.iter().copied(), count),
                Choose::Representative => shots.representative(&split.test),
            };
            let given: HashSet<usize> = measured.iter().copied().collect();
            let rest: Vec<usize> = split.test.iter().copied().filter(|row| !given.contains(row)).collect();
            let asked = Instant::now();
            let predictions = shots.predict(&rest, &measured)?;
            self.predict_seconds += asked.elapsed().as_secs_f64();
            let training: Vec<usize> = split.training.iter().copied().chain(measured).collect();
            self.note(data, &training, predictions);
        }
        Ok(())
    }

    fn note(&mut self, data: &TableData, training: &[usize], predictions: Vec<TablePrediction>) {
        self.predicted += predictions.len();
        let rows: Vec<usize> = predictions.iter().map(|prediction| prediction.row).collect();
        let nearest = nearest_same_model(data, training, &rows);
        let part = self.parts;
        let outcomes = predictions.into_iter().zip(nearest);
        self.outcomes.extend(outcomes.map(|(prediction, nearest)| Outcome { part, prediction, nearest }));
        self.parts += 1;
    }

    fn report(self, data: &TableData, protocol: &'static str) -> Report {
        let speed = self.predicted as f64 / self.predict_seconds.max(f64::MIN_POSITIVE);
        Report::new(data, protocol, &self.outcomes, self.train_seconds, speed)
    }
}

/// The ways in which the test rows are new.
fn novelties(data: &TableData, split: &Split, settings: &TrainSettings) -> Vec<Novelty> {
    let few = hardly_measured(data, &split.training, settings.few_shot_below);
    let many = || split.training.iter().filter(|row| !few.contains_key(&data.devices.of_row[**row]));
    let models: HashSet<usize> = many().map(|row| data.models.of_row[*row]).collect();
    let devices: HashSet<usize> = many().map(|row| data.devices.of_row[*row]).collect();
    let novelty = |row: &usize| {
        let (model, device) = (data.models.of_row[*row], data.devices.of_row[*row]);
        match (models.contains(&model), devices.contains(&device)) {
            _ if few.contains_key(&device) => Novelty::FewShot,
            (_, false) => Novelty::Device,
            (false, true) => Novelty::Model,
            (true, true) => Novelty::Configuration,
        }
    };
    let found: BTreeSet<Novelty> = split.test.iter().map(novelty).collect();
    found.into_iter().collect()
}

fn splits(data: &TableData, protocol: Protocol, seed: u64) -> Result<Vec<Split>, PredictorError> {
    let measured = data.measured();
    let by_fold = |fold_of_row: &[usize], folds: usize| -> Vec<Split> {
        (0..folds)
            .map(|fold| {
                let (test, training): (Vec<_>, Vec<_>) =
                    measured.iter().zip(fold_of_row).partition(|(_, of_row)| **of_row == fold);
                let rows = |part: Vec<(&usize, &usize)>| part.into_iter().map(|(row, _)| *row).collect();
                Split { training: rows(training), test: rows(test) }
            })
            .collect()
    };
    let unsplittable = |needed: &str, found| PredictorError::Unsplittable {
        protocol: protocol.as_str(),
        needed: needed.to_owned(),
        found,
    };
    match protocol {
        Protocol::Random => {
            let mut random = fastrand::Rng::with_seed(seed);
            let parts: Vec<usize> = measured.iter().map(|_| usize::from(random.f64() >= RANDOM_TEST_SHARE)).collect();
            Ok(by_fold(&parts, 1))
        }
        Protocol::LeaveFamilyOut => {
            let families: Vec<usize> = measured.iter().map(|row| data.families.of_row[*row]).collect();
            let (fold_of_row, folds) = grouped_folds(&families, FAMILY_FOLDS, seed);
            if folds < 2 { Err(unsplittable("2 families", folds)) } else { Ok(by_fold(&fold_of_row, folds)) }
        }
        Protocol::LeaveDeviceOut | Protocol::FewShot { .. } => {
            let devices: Vec<usize> = measured.iter().map(|row| data.devices.of_row[*row]).collect();
            let splits: Vec<Split> = by_fold(&devices, data.devices.count)
                .into_iter()
                .filter(|split| !split.test.is_empty() && !split.training.is_empty())
                .collect();
            if splits.len() < 2 {
                return Err(unsplittable("2 devices", data.devices.count));
            }
            let shots = if let Protocol::FewShot { shots, .. } = protocol { shots } else { 0 };
            match splits.iter().map(|split| split.test.len()).min() {
                Some(rows) if rows <= shots => {
                    Err(unsplittable(&format!("more than {shots} rows of every device"), rows))
                }
                _ => Ok(splits),
            }
        }
    }
}
