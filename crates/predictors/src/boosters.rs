//! The only module that calls XGBoost: ensembles of boosters for one metric.

use std::{
    collections::HashMap,
    panic,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use messages::Metric;
use ndarray::Array2;
use xgboost_rs::{
    Booster, DMatrix, XGBError,
    parameters::{BoosterParameters, learning::LearningTaskParameters},
};

use crate::PredictorError;

/// How trees grow on one machine's own measurements. Tens to hundreds of rows are usual, so trees are shallow and
/// every one sees a part of the rows and columns only.
pub(crate) const SMALL_TREES: Growth = &[
    ("max_bin", "64"),
    ("max_depth", "4"),
    ("eta", "0.07"),
    ("min_child_weight", "1.5"),
    ("lambda", "1"),
    ("subsample", "0.8"),
    ("colsample_bytree", "0.6"),
];

/// Parameters of XGBoost that say how trees grow.
pub(crate) type Growth = &'static [(&'static str, &'static str)];

/// What every booster has in common.
const PARAMETERS: &[(&str, &str)] = &[
    ("booster", "gbtree"),
    ("objective", "reg:squarederror"),
    ("tree_method", "hist"),
    // Targets are centred before, see `Targets`.
    ("base_score", "0"),
    // One booster trains on one thread; several train beside each other.
    ("nthread", "1"),
    ("verbosity", "0"),
];

/// What one booster trains on.
#[derive(Debug, Clone)]
pub(crate) struct TrainingRows<'a> {
    /// Shape `[rows, features]`; NaN is a missing value.
    pub(crate) features: &'a Array2<f32>,
    /// One target per row.
    pub(crate) targets: &'a Targets,
}

/// Targets about their mean, which boosters do not have to learn then.
#[derive(Debug, Clone)]
pub(crate) struct Targets {
    /// Their mean.
    pub(crate) centre: f64,
    /// The targets without it.
    pub(crate) centred: Vec<f32>,
}

impl Targets {
    /// Centres log ratios, of which there is at least one.
    #[expect(clippy::cast_possible_truncation, reason = "log ratios are small; XGBoost computes in single precision")]
    pub(crate) fn new(targets: &[f64]) -> Self {
        let centre = targets.iter().sum::<f64>() / targets.len() as f64;
        Self { centre, centred: targets.iter().map(|target| (target - centre) as f32).collect() }
    }
}

/// Boosters of one metric that differ in the random weights of their training rows.
///
/// The boosters sit behind a lock: XGBoost configures a booster lazily, in the first call that needs it, and its C
/// interface promises no safe use of one booster from several threads.
pub(crate) struct Ensemble {
    metric: Metric,
    /// Added to what the boosters say.
    pub(crate) centre: f64,
    boosters: Mutex<Vec<Booster>>,
}

impl Ensemble {
    pub(crate) fn new(metric: Metric, centre: f64, boosters: Vec<Booster>) -> Self {
        Self { metric, centre, boosters: Mutex::new(boosters) }
    }

    /// Predicts mean and standard deviation over the boosters, one pair per row.
    pub(crate) fn predict(&self, features: &Array2<f32>) -> Result<Vec<MeanAndSpread>, PredictorError> {
        let boosters = self.boosters.lock().unwrap_or_else(PoisonError::into_inner);
        let predict = || {
            let matrix = dmatrix(features)?;
            boosters.iter().map(|booster| booster.predict(&matrix)).collect::<Result<Vec<_>, _>>()
        };
        predict().map(|members| mean_and_spread(&members, self.centre)).map_err(|source| PredictorError::Booster {
            action: "ask",
            metric: self.metric,
            source,
        })
    }

    /// The boosters in XGBoost's own JSON.
    pub(crate) fn to_json(&self) -> Result<Vec<String>, PredictorError> {
        let boosters = self.boosters.lock().unwrap_or_else(PoisonError::into_inner);
        boosters
            .iter()
            .map(|booster| booster.save_to_buffer("json".to_owned()))
            .collect::<Result<_, _>>()
            .map_err(|source| PredictorError::Booster { action: "save", metric: self.metric, source })
    }

    /// Boosters from what [`Self::to_json`] gave.
    pub(crate) fn from_json(metric: Metric, centre: f64, texts: &[Vec<u8>]) -> Result<Self, PredictorError> {
        let boosters = texts
            .iter()
            .map(|text| load_booster(text))
            .collect::<Result<_, _>>()
            .map_err(|source| PredictorError::Booster { action: "load", metric, source })?;
        Ok(Self::new(metric, centre, boosters))
    }
}

impl std::fmt::Debug for Ensemble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ensemble").field("metric", &self.metric).finish_non_exhaustive()
    }
}

/// What an ensemble says of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct MeanAndSpread {
    pub(crate) mean: f64,
    /// Standard deviation over the boosters.
    pub(crate) spread: f64,
}

/// Trains one booster.
///
/// Each row weighs an exponentially distributed random number (the Bayesian bootstrap,
/// <https://doi.org/10.1214/aos/1176345338>): boosters differ as if each had other data, and none lacks a row.
pub(crate) fn train_booster(rows: &TrainingRows<'_>, rounds: u32, seed: u64) -> Result<Booster, XGBError> {
    let mut random = fastrand::Rng::with_seed(seed);
    let weights: Vec<f32> = rows.targets.centred.iter().map(|_| -(1.0 - random.f32()).ln()).collect();
    grow(rows, Some(&weights), SMALL_TREES, rounds, random.u32(..SEEDS))
}

/// XGBoost takes seeds that fit into a signed integer.
const SEEDS: u32 = i32::MAX.unsigned_abs();

/// Trains one booster on rows that all weigh the same.
pub(crate) fn train_unweighted(
    rows: &TrainingRows<'_>,
    growth: Growth,
    rounds: u32,
    seed: u64,
) -> Result<Booster, XGBError> {
    grow(rows, None, growth, rounds, fastrand::Rng::with_seed(seed).u32(..SEEDS))
}

fn grow(
    rows: &TrainingRows<'_>,
    weights: Option<&[f32]>,
    growth: Growth,
    rounds: u32,
    seed: u32,
) -> Result<Booster, XGBError> {
    let mut matrix = dmatrix(rows.features)?;
    matrix.set_labels(&rows.targets.centred)?;
    if let Some(weights) = weights {
        matrix.set_weights(weights)?;
    }
    let mut parameters: HashMap<String, String> =
        PARAMETERS.iter().chain(growth).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    parameters.insert("seed".to_owned(), seed.to_string());
    let mut booster = Booster::new_with_json_config(&[&matrix], parameters)?;
    for round in 0..i32::try_from(rounds).unwrap_or(i32::MAX) {
        booster.update(&matrix, round)?;
    }
    Ok(booster)
}

/// Loads one booster, to run on one thread like those that just trained.
///
/// The number of threads is not saved with a booster, and the default is all cores for a row of work.
/// `set_params` sets everything else to its default too: of that only the base score matters to a prediction.
fn load_booster(text: &[u8]) -> Result<Booster, XGBError> {
    let mut learning = LearningTaskParameters::default();
    learning.set_base_score(0.0);
    let mut parameters = BoosterParameters::default();
    parameters.set_learning_params(learning);
    parameters.set_threads(1);
    let mut booster = Booster::load_buffer(text)?;
    booster.set_params(&parameters)?;
    Ok(booster)
}

/// Predicts centred targets with one booster that just trained.
pub(crate) fn predict_booster(booster: &Booster, features: &Array2<f32>) -> Result<Vec<f32>, XGBError> {
    booster.predict(&dmatrix(features)?)
}

/// Mean and standard deviation over members' predictions of the same rows, the mean moved by the centre.
pub(crate) fn mean_and_spread(members: &[Vec<f32>], centre: f64) -> Vec<MeanAndSpread> {
    let count = members.len() as f64;
    (0..members.first().map_or(0, Vec::len))
        .map(|row| {
            let values = members.iter().map(|member| f64::from(member[row]));
            let mean = values.clone().sum::<f64>() / count;
            let variance = values.map(|value| (value - mean).powi(2)).sum::<f64>() / count;
            MeanAndSpread { mean: mean + centre, spread: variance.sqrt() }
        })
        .collect()
}

/// Does `work` for every item on up to `threads` threads; results come in the order of the items.
///
/// # Errors
///
/// The error of the first item, in that order, that failed.
pub(crate) fn in_parallel<T: Sync, R: Send, E: Send>(
    items: &[T],
    threads: u32,
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let next = AtomicUsize::new(0);
    let take_items = || {
        let mut done = Vec::new();
        while let Some((index, item)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, items.get(i)?)))
        {
            done.push((index, work(item)));
        }
        done
    };
    let mut done: Vec<(usize, Result<R, E>)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(take_items)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(|cause| panic::resume_unwind(cause)))
            .collect()
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// An XGBoost matrix of row-major features; NaN is a missing value.
///
/// `DMatrix::from_dense` would take 0 for missing, so this goes through the array interface, whose strides say
/// row-major just as well.
fn dmatrix(features: &Array2<f32>) -> Result<DMatrix, XGBError> {
    let features = features.as_standard_layout();
    let (rows, columns) = features.dim();
    let values = features.as_slice().expect("standard layout is contiguous");
    DMatrix::from_col_major_f32(values, columns * size_of::<f32>(), size_of::<f32>(), rows, columns, 1, f32::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two features, 0 meaningful in both; the target is their sum.
    fn rows() -> (Array2<f32>, Targets) {
        let features =
            Array2::from_shape_fn((100, 2), |(row, column)| (if column == 0 { row % 10 } else { row / 10 }) as f32);
        let sums: Vec<f64> = features.rows().into_iter().map(|row| f64::from(row.sum())).collect();
        (features, Targets::new(&sums))
    }

    fn ensemble(seed: u64) -> (Ensemble, Array2<f32>) {
        let (features, targets) = rows();
        let training = TrainingRows { features: &features, targets: &targets };
        let boosters = (0..3).map(|member| train_booster(&training, 200, seed + member).expect("trained")).collect();
        (Ensemble::new(Metric::LatencyMs, targets.centre, boosters), features)
    }

    #[test]
    fn an_ensemble_learns_a_sum_with_zeros_as_values() {
        let (ensemble, features) = ensemble(1);
        let predicted = ensemble.predict(&features).expect("predicted");
        for (row, found) in features.rows().into_iter().zip(predicted) {
            assert!((found.mean - f64::from(row.sum())).abs() < 1.0, "{row}: {found:?}");
        }
    }

    #[test]
    fn an_ensemble_survives_its_json() {
        let (ensemble, features) = ensemble(2);
        let texts: Vec<_> = ensemble.to_json().expect("saved").into_iter().map(String::into_bytes).collect();
        let loaded = Ensemble::from_json(Metric::LatencyMs, ensemble.centre, &texts).expect("loaded");
        assert_eq!(loaded.predict(&features).expect("predicted"), ensemble.predict(&features).expect("predicted"));
        assert!(Ensemble::from_json(Metric::LatencyMs, 0.0, &[b"{\"not\": \"a booster\"}".to_vec()]).is_err());
    }

    #[test]
    fn the_same_seed_gives_the_same_boosters_on_any_number_of_threads() {
        let (features, targets) = rows();
        let seeds: Vec<u64> = (0..6).collect();
        let train = |threads| {
            in_parallel(&seeds, threads, |seed| {
                let rows = TrainingRows { features: &features, targets: &targets };
                predict_booster(&train_booster(&rows, 20, *seed)?, &features)
            })
            .expect("trained")
        };
        assert_eq!(train(1), train(3));
        assert_ne!(train(1)[0], train(1)[1], "members differ");
    }

    #[test]
    fn parallel_work_gives_the_first_error_in_order() {
        let items: Vec<u32> = (0..50).collect();
        let result = in_parallel(&items, 4, |item| if item % 20 == 19 { Err(*item) } else { Ok(*item) });
        assert_eq!(result, Err(19));
        assert_eq!(in_parallel(&items, 4, |item| Ok::<_, ()>(*item)), Ok(items));
    }
}
