//! Cold start: one device of which nothing is known, and no other.

use std::error::Error;

use planner::Strategy;
use predictors::{Learner, Novelty, TableData, TablePredictor, TrainSettings};

use crate::{
    STRATEGIES,
    replay::{Replay, mean_error_pct},
    report::Curve,
    rivals::Rivals,
};

/// Rows measured after each batch.
pub(crate) const STEPS: [usize; 8] = [20, 40, 60, 80, 100, 120, 160, 200];
/// One row of so many is for testing.
const TEST_EVERY: usize = 4;

/// One curve per strategy, of one seed.
pub(crate) fn curves(replay: &Replay, seed: u64) -> Result<Vec<Curve>, Box<dyn Error>> {
    let gpus = replay.gpus();
    let gpu = &gpus[usize::try_from(seed)? % gpus.len()];
    let data = replay.data(replay.rows.iter().filter(|row| row.device == *gpu).cloned().collect())?;
    let mut rows = data.measured();
    fastrand::Rng::with_seed(seed).shuffle(&mut rows);
    let (test, pool) = rows.split_at(rows.len() / TEST_EVERY);
    let alone = STRATEGIES.into_iter().filter(|strategy| *strategy != Strategy::Integrated);
    let curves = alone.map(|strategy| curve(replay, &data, (test, pool), strategy, (seed, gpu)));
    let mut curves = curves.collect::<Result<Vec<Curve>, Box<dyn Error>>>()?;
    // Without another device nothing depends on the answer: the part that is for a recommendation is 0 of all candidates,
    // and the other one is the information gain, so that both pick the same.
    let same = curves.iter().find(|curve| curve.strategy == Strategy::InformationGain).cloned();
    curves.extend(same.map(|curve| Curve { strategy: Strategy::Integrated, ..curve }));
    Ok(curves)
}

fn curve(
    replay: &Replay,
    data: &TableData,
    (test, pool): (&[usize], &[usize]),
    strategy: Strategy,
    (seed, gpu): (u64, &str),
) -> Result<Curve, Box<dyn Error>> {
    let settings = TrainSettings { threads: 1, learner: Learner::Both, seed, ..TrainSettings::default() };
    let (mut measured, mut errors): (Vec<usize>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut predictor: Option<TablePredictor> = None;
    for step in STEPS {
        let open: Vec<usize> = pool.iter().copied().filter(|row| !measured.contains(row)).collect();
        let predicted = predictor.as_ref().map(|predictor| predictor.predict(data, &open)).transpose()?;
        let wanted = (strategy, step - measured.len(), seed * 1_000 + step as u64);
        measured.extend(replay.choose(data, (&open, &measured), predicted.as_deref(), &Rivals::default(), wanted)?);
        let trained = TablePredictor::train(data, &measured, &[Novelty::Configuration, Novelty::Model], &settings)?;
        errors.push(mean_error_pct(data, &trained.predict(data, test)?));
        predictor = Some(trained);
    }
    eprintln!("cold start, seed {seed}, {gpu}, {strategy}: {errors:.2?}");
    Ok(Curve { strategy, case: format!("seed {seed}, {gpu}"), errors })
}
