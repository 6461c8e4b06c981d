//! Intervals for models never seen, learned from few families: drawn from a published table, held against all others.

mod shared_tables;

use std::collections::{BTreeMap, HashSet};

use messages::Metric;
use predictors::{Learner, TableData, TrainSettings, evaluate_split};

/// Few trees: rows are about a hundred.
const QUICK: TrainSettings = TrainSettings {
    learner: Learner::GradientBoosting,
    rounds: 100,
    ensemble: 1,
    folds: 5,
    few_shot_below: 0,
    threads: 2,
    seed: 1,
};
/// Draws of families, of which coverage is the mean: it varies a lot from one to the next.
const DRAWS: u64 = 40;
/// Models of other families that each draw is held against.
const ASKED_MODELS: usize = 60;

/// Share of truths inside the intervals, in percent, over draws of so many families with one model each.
fn coverage_pct(data: &TableData, families: usize, draws: u64) -> f64 {
    let mut of_family: BTreeMap<&str, BTreeMap<&str, Vec<usize>>> = BTreeMap::new();
    for (index, row) in data.rows().iter().enumerate() {
        let family = row.family.as_deref().expect("timm has families");
        of_family.entry(family).or_default().entry(&row.model).or_default().push(index);
    }
    let (mut inside, mut asked) = (0, 0);
    for seed in 0..draws {
        let mut random = fastrand::Rng::with_seed(seed);
        let chosen: HashSet<&str> = random.choose_multiple(of_family.keys().copied(), families).into_iter().collect();
        let mut training = Vec::new();
        let mut others = Vec::new();
        for (family, models) in &of_family {
            if chosen.contains(family) {
                training.extend_from_slice(models.values().nth(random.usize(..models.len())).expect("below"));
            } else {
                others.extend(models.values());
            }
        }
        let known: HashSet<&str> = training.iter().map(|row| data.rows()[*row].device.as_str()).collect();
        let test: Vec<usize> = random
            .choose_multiple(others, ASKED_MODELS)
            .into_iter()
            .flatten()
            .copied()
            .filter(|row| known.contains(data.rows()[*row].device.as_str()))
            .collect();
        let report = evaluate_split(data, &training, &test, &QUICK).expect("evaluated");
        inside += report.predictions.iter().filter(|held| (held.lower..=held.upper).contains(&held.measured)).count();
        asked += report.predictions.len();
    }
    100.0 * f64::from(u32::try_from(inside).expect("thousands")) / asked as f64
}

#[test]
fn intervals_learned_from_few_families_keep_their_promise() {
    let Some(tables) = shared_tables::every(1) else { return };
    let data = TableData::new(tables.rows, &tables.devices, &tables.operators, Metric::LatencyMs).expect("measured");
    let found = [4, 7, 12, 30].map(|families| (families, coverage_pct(&data, families, DRAWS)));
    eprintln!("{found:.1?}");
    for (families, coverage_pct) in found {
        assert!(coverage_pct >= 87.0, "{families} families: {found:.1?}");
    }
}
