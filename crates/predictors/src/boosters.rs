//! The only module that calls XGBoost, to train boosters.

use std::{
    collections::HashMap,
    panic,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use ndarray::{Array2, Axis};
use xgboost_rs::{Booster, DMatrix, XGBError};

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

/// XGBoost takes seeds that fit into a signed integer.
const SEEDS: u32 = i32::MAX.unsigned_abs();

/// A booster with the columns of the features that it learned from.
pub(crate) struct Trained {
    pub(crate) booster: Booster,
    /// Indices of the columns, ascending.
    pub(crate) columns: Vec<usize>,
}

/// Trains one booster on the columns that vary.
pub(crate) fn train_booster(
    rows: &TrainingRows<'_>,
    growth: Growth,
    rounds: u32,
    seed: u64,
) -> Result<Trained, XGBError> {
    let columns = varying(rows.features);
    let mut matrix = dmatrix(&rows.features.select(Axis(1), &columns))?;
    matrix.set_labels(&rows.targets.centred)?;
    let mut parameters: HashMap<String, String> =
        PARAMETERS.iter().chain(growth).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    parameters.insert("seed".to_owned(), fastrand::Rng::with_seed(seed).u32(..SEEDS).to_string());
    let mut booster = Booster::new_with_json_config(&[&matrix], parameters)?;
    for round in 0..i32::try_from(rounds).unwrap_or(i32::MAX) {
        booster.update(&matrix, round)?;
    }
    Ok(Trained { booster, columns })
}

/// The columns in which some rows differ, or the first where none do: no tree can split on the others, but XGBoost
/// counts them in every histogram.
fn varying(features: &Array2<f32>) -> Vec<usize> {
    let mut alike: Vec<usize> = (0..features.ncols()).collect();
    let first = features.row(0);
    for row in features.rows() {
        // Missing values are equal here.
        alike.retain(|column| row[*column].total_cmp(&first[*column]).is_eq());
        if alike.is_empty() {
            break;
        }
    }
    let varying: Vec<usize> = (0..features.ncols()).filter(|column| alike.binary_search(column).is_err()).collect();
    if varying.is_empty() { vec![0] } else { varying }
}

/// Predicts centred targets, as XGBoost itself does.
#[cfg(test)]
pub(crate) fn predict_booster(trained: &Trained, features: &Array2<f32>) -> Result<Vec<f32>, XGBError> {
    trained.booster.predict(&dmatrix(&features.select(Axis(1), &trained.columns))?)
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

/// What stands in for a missing value: below every other, so that every split sends it to the left.
///
/// A single missing value turns XGBoost's fast path for complete matrices off, which takes a quarter of the time less,
/// and a split below all other values tells what is missing from what is there.
const MISSING: f32 = -1e30;

/// An XGBoost matrix of features, NaN for a missing value.
///
/// `DMatrix::from_dense` would take 0 for missing, so this goes through the array interface, whose strides say
/// row-major just as well.
fn dmatrix(features: &Array2<f32>) -> Result<DMatrix, XGBError> {
    let features = features.mapv(|value| if value.is_nan() { MISSING } else { value });
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

    const GROWTH: Growth = &[("max_depth", "4"), ("eta", "0.2"), ("subsample", "0.8")];

    #[test]
    fn a_booster_learns_a_sum_with_zeros_as_values() {
        let (features, targets) = rows();
        let training = TrainingRows { features: &features, targets: &targets };
        let booster = train_booster(&training, GROWTH, 200, 1).expect("trained");
        let predicted = predict_booster(&booster, &features).expect("predicted");
        for (row, found) in features.rows().into_iter().zip(predicted) {
            assert!((f64::from(found) + targets.centre - f64::from(row.sum())).abs() < 1.0, "{row}: {found}");
        }
    }

    #[test]
    fn columns_that_never_vary_are_left_out() {
        let nan = f32::NAN;
        let features =
            ndarray::arr2(&[[1.0, nan, nan, 2.0, 0.0], [1.0, nan, 3.0, 2.0, 1.0], [1.0, nan, 3.0, 2.0, 0.0]]);
        assert_eq!(varying(&features), [2, 4]);
        assert_eq!(varying(&ndarray::arr2(&[[1.0, 2.0]])), [0]);
    }

    #[test]
    fn the_same_seed_gives_the_same_boosters_on_any_number_of_threads() {
        let (features, targets) = rows();
        let seeds: Vec<u64> = (0..6).collect();
        let train = |threads| {
            in_parallel(&seeds, threads, |seed| {
                let rows = TrainingRows { features: &features, targets: &targets };
                predict_booster(&train_booster(&rows, GROWTH, 20, *seed)?, &features)
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
