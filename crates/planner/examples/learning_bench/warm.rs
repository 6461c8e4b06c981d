//! Warm start: a device of which nothing is known, beside others that are.

use std::error::Error;

use planner::Strategy;
use predictors::{Choose, Shots, TableData, TrainSettings, WarmStart};

use crate::{
    STRATEGIES,
    replay::{Replay, mean_error_pct},
    report::Curve,
    rivals::Rivals,
};

/// Rows of the device that are measured.
pub(crate) const STEPS: [usize; 3] = [5, 10, 20];

/// Two curves per strategy and seed, of one GPU: its mean errors, and what following the recommendation loses.
pub(crate) fn curves(replay: &Replay, gpu: &str, seeds: &[u64]) -> Result<Vec<(Curve, Curve)>, Box<dyn Error>> {
    let data = replay.data(replay.rows.clone())?;
    let (own, others): (Vec<usize>, Vec<usize>) =
        data.measured().into_iter().partition(|row| data.rows()[*row].device == gpu);
    eprintln!("warm start, {gpu}: learning from {} rows of other devices", others.len());
    let settings = TrainSettings { threads: 1, ..TrainSettings::default() };
    let known = WarmStart::learn(&data, &others, &settings)?;
    let rivals = Rivals::fastest(&data, &others);
    let platform = data.rows()[own[0]].platform.as_deref();
    let shots = STEPS.map(|count| known.shots(platform, count, Choose::Random));
    let mut curves = Vec::new();
    for seed in seeds {
        let mut rows = own.clone();
        fastrand::Rng::with_seed(*seed).shuffle(&mut rows);
        let (test, pool) = rows.split_at(rows.len() / 2);
        for strategy in STRATEGIES {
            let (errors, losses) = errors(replay, (&data, &known, &shots), &rivals, (test, pool), (strategy, *seed))?;
            eprintln!("warm start, {gpu}, seed {seed}, {strategy}: {errors:.2?}, recommendation: {losses:.2?}");
            let curve = |errors| Curve { strategy, case: format!("seed {seed}, {gpu}"), errors };
            curves.push((curve(errors), curve(losses)));
        }
        let design = shots.iter().map(|shots| {
            let chosen = shots.representative(pool);
            Ok(mean_error_pct(&data, &shots.predict(test, &chosen)?))
        });
        let errors: Result<Vec<f64>, Box<dyn Error>> = design.collect();
        eprintln!("warm start, {gpu}, seed {seed}, design of the correction itself: {:.2?}", errors?);
    }
    Ok(curves)
}

fn errors(
    replay: &Replay,
    (data, known, shots): (&TableData, &WarmStart<'_>, &[Shots<'_>]),
    rivals: &Rivals,
    (test, pool): (&[usize], &[usize]),
    (strategy, seed): (Strategy, u64),
) -> Result<(Vec<f64>, Vec<f64>), Box<dyn Error>> {
    let mut measured: Vec<usize> = Vec::new();
    let (mut errors, mut losses) = (Vec::new(), Vec::new());
    for (index, step) in STEPS.into_iter().enumerate() {
        let open: Vec<usize> = pool.iter().copied().filter(|row| !measured.contains(row)).collect();
        let predicted = match index.checked_sub(1) {
            None => known.predict(&open)?,
            Some(before) => shots[before].predict(&open, &measured)?,
        };
        let wanted = (strategy, step - measured.len(), seed * 1_000 + step as u64);
        measured.extend(replay.choose(data, (&open, &measured), Some(&predicted), rivals, wanted)?);
        let predicted = shots[index].predict(test, &measured)?;
        errors.push(mean_error_pct(data, &predicted));
        losses.push(rivals.mean_loss_pct(data, &predicted));
    }
    Ok((errors, losses))
}
