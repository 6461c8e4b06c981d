//! Predictions for a new device of which a few measurements are known.
//!
//! What so few are worth is learned from the known devices, each left out in turn and given as many random
//! measurements: errors there, over the deviation that the regression expected of them, are the scores of a conformal
//! interval. The device's own measurements stretch it: if they surprise more than those of other devices did, all is
//! less certain.

use std::collections::HashMap;

use ndarray::Array2;

use super::{
    data::TableData,
    estimator::{Novelty, TablePrediction},
    linear::factors,
    new_device::{LeftOut, NORMAL_90, NewDevice, one_more_known},
    protocol::Choose,
    reliability::{is_good, quantile},
    residuals::Residuals,
    shots::{Correction, Design, FACTORS, NOISE_LOG, inputs, representative},
};
use crate::{PredictorError, calibration::median};

/// Draws of shots per known device.
const DRAWS: u64 = 6;
/// Rows of each draw that are scored.
const SCORED_ROWS: usize = 500;
/// Observations that the surprise seen on devices like this one is worth.
const PRIOR_OBSERVATIONS: f64 = 4.0;
/// The same where no device like this one was known.
const STRANGE_OBSERVATIONS: f64 = 1.0;
/// A residual further out than this tells of a special case, not of how far a model strays.
const STRAY_LOG_MAX: f64 = 1.0;
/// Models whose straying is unknown stray as the median does, which counts as so many measurements of every model.
const PRIOR_STRAYS: f64 = 1.0;

/// Answers for one new device, given a number of its measurements.
#[derive(Debug)]
pub(crate) struct FewShot<'a> {
    data: &'a TableData,
    device: &'a NewDevice,
    design: Design,
    past: Past,
}

/// What happened on the devices left out.
#[derive(Debug)]
struct Past {
    /// Surprise per measurement.
    surprise: f64,
    /// Measurements that it is worth.
    observations: f64,
    /// The 90 % quantile of scores, as absolute values.
    quantile: f64,
    /// Errors over their expected deviations, ascending.
    scores: Vec<f64>,
}

impl<'a> FewShot<'a> {
    /// Prepares for `count` measurements, chosen in this way, of a new device of `platform`.
    pub(crate) fn prepare(
        data: &'a TableData,
        device: &'a NewDevice,
        residuals: &Residuals,
        platform: Option<&str>,
        (count, choose): (usize, Choose),
    ) -> Self {
        let laboratory = Laboratory::new(data, device, residuals);
        Self { data, device, design: laboratory.design(None), past: laboratory.past(platform, count, choose) }
    }

    /// Which rows to measure to know most of all of them.
    pub(crate) fn representative(&self, rows: &[usize], count: usize) -> Vec<usize> {
        representative(&self.design, rows, count)
    }

    /// Predicts rows of the new device, of which `shots` were measured; both have their features.
    ///
    /// # Errors
    ///
    /// [`PredictorError::Booster`] if XGBoost fails.
    pub(crate) fn predict(
        &self,
        (rows, features): (&[usize], &Array2<f32>),
        (shots, shot_features): (&[usize], &Array2<f32>),
    ) -> Result<Vec<TablePrediction>, PredictorError> {
        let answers = self.device.logs(shot_features)?;
        let missed: Vec<f64> = answers.into_iter().zip(shots).map(|(log, row)| self.data.target(*row) - log).collect();
        let correction = Correction::fit(&self.design, shots, &missed);
        let stretch = self.past.stretch(&correction, shots.len());
        let answers = self.device.answers(features)?;
        Ok(rows
            .iter()
            .zip(answers)
            .map(|(row, answer)| {
                let scale = stretch * correction.deviation(&self.design, *row);
                TablePrediction {
                    row: *row,
                    log: answer.mean + correction.predict(&self.design, *row),
                    spread: answer.spread,
                    half_width: scale * self.past.quantile,
                    confidence: self.past.confidence(scale),
                    novelty: Novelty::Device,
                }
            })
            .collect())
    }
}

impl Past {
    /// How many times wider deviations must be than the regression says, now that residuals were seen.
    fn stretch(&self, correction: &Correction, count: usize) -> f64 {
        let seen = self.observations * self.surprise + correction.surprise;
        (seen / (self.observations + count as f64)).sqrt()
    }

    /// Share of past errors that, at this scale, were within ±20 % of the truth.
    fn confidence(&self, scale: f64) -> f64 {
        let below = self.scores.partition_point(|score| *score < 0.0 && !is_good(score * scale));
        let good = self.scores[below..].partition_point(|score| is_good(score * scale));
        good as f64 / self.scores.len().max(1) as f64
    }
}

/// The known devices as if each had been new.
struct Laboratory<'a> {
    data: &'a TableData,
    device: &'a NewDevice,
    residuals: &'a Residuals,
    /// What all measurements of each device left out leave unexplained, by row, as logs.
    strays: Vec<Vec<f64>>,
}

/// The score of one error, and what it was drawn from.
struct Draw {
    correction: Correction,
    /// Errors over the deviations expected of them, before any stretch.
    scores: Vec<f64>,
}

impl<'a> Laboratory<'a> {
    fn new(data: &'a TableData, device: &'a NewDevice, residuals: &'a Residuals) -> Self {
        let mut laboratory = Self { data, device, residuals, strays: Vec::new() };
        laboratory.strays = device.left_out.iter().map(|left| laboratory.unexplained(left)).collect();
        laboratory
    }

    fn inputs(&self, hidden: Option<usize>) -> Array2<f64> {
        let mut table = self.residuals.references.table(self.data.models.count);
        for (class, device) in self.data.classes.of_row.iter().zip(&self.data.devices.of_row) {
            if Some(*device) == hidden {
                table.column_mut(*class).fill(0.0);
            }
        }
        inputs(self.data, &factors(&table, FACTORS))
    }

    fn unexplained(&self, left: &LeftOut) -> Vec<f64> {
        let design = Design { inputs: self.inputs(Some(left.device)), noise: vec![1.0; self.data.rows().len()] };
        let missed: Vec<f64> = left.errors.iter().map(|error| -error).collect();
        let correction = Correction::fit(&design, &left.rows, &missed);
        let rest = left.rows.iter().zip(&left.errors).map(|(row, error)| error + correction.predict(&design, *row));
        rest.map(|log| log.clamp(-STRAY_LOG_MAX, STRAY_LOG_MAX)).collect()
    }

    /// What is known of rows if `hidden` is a device of which nothing is.
    fn design(&self, hidden: Option<usize>) -> Design {
        let mut of_model: HashMap<usize, (f64, f64)> = HashMap::new();
        for (left, strays) in
            self.device.left_out.iter().zip(&self.strays).filter(|(left, _)| Some(left.device) != hidden)
        {
            for (row, stray) in left.rows.iter().zip(strays) {
                let (sum, count) = of_model.entry(self.data.models.of_row[*row]).or_default();
                *sum += stray * stray;
                *count += 1.0;
            }
        }
        let usual = median(of_model.values().map(|(sum, count)| sum / count)).unwrap_or_default();
        let noise = |model: &usize| {
            let (sum, count) = of_model.get(model).copied().unwrap_or_default();
            let variance = (sum + PRIOR_STRAYS * usual) / (count + PRIOR_STRAYS);
            (NOISE_LOG * NOISE_LOG + variance) / (NOISE_LOG * NOISE_LOG + usual)
        };
        Design { inputs: self.inputs(hidden), noise: self.data.models.of_row.iter().map(noise).collect() }
    }

    fn past(&self, platform: Option<&str>, count: usize, choose: Choose) -> Past {
        let alike = self.device.alike(platform);
        let strange = alike.is_empty();
        // After some measurements a strange device is more like any other than like nothing.
        let like: Vec<&LeftOut> = if strange { self.device.left_out.iter().collect() } else { alike };
        let observations = if strange { STRANGE_OBSERVATIONS } else { PRIOR_OBSERVATIONS };
        let measured = like.iter().filter(|left| left.rows.len() > 2 * count);
        let draws: Vec<Draw> = measured.flat_map(|left| self.draws(left, count, choose)).collect();
        let surprise = median(draws.iter().map(|draw| draw.correction.surprise / count.max(1) as f64));
        let mut past =
            Past { surprise: surprise.unwrap_or(1.0), observations, quantile: NORMAL_90, scores: Vec::new() };
        past.scores = draws
            .iter()
            .flat_map(|draw| {
                let stretch = past.stretch(&draw.correction, count);
                draw.scores.iter().map(move |score| score / stretch)
            })
            .collect();
        past.scores.sort_by(f64::total_cmp);
        if !past.scores.is_empty() {
            let narrower = if strange { 1.0 } else { one_more_known(like.len()) };
            past.quantile = quantile(past.scores.iter().map(|score| score.abs()).collect()) * narrower.sqrt();
        }
        past
    }

    /// A device left out, of which some measurements were known, chosen as they will be: at random, or as representative
    /// of a random half of its rows.
    fn draws(&self, left: &LeftOut, count: usize, choose: Choose) -> Vec<Draw> {
        let design = self.design(Some(left.device));
        let draw = |seed| {
            let mut random = fastrand::Rng::with_seed(seed);
            let chosen: Vec<usize> = match choose {
                Choose::Random => random.choose_multiple(0..left.rows.len(), count),
                Choose::Representative => {
                    let half = random.choose_multiple(left.rows.iter().copied(), left.rows.len() / 2);
                    let place = |row: usize| left.rows.iter().position(|other| *other == row);
                    representative(&design, &half, count).into_iter().filter_map(place).collect()
                }
            };
            let shots: Vec<usize> = chosen.iter().map(|index| left.rows[*index]).collect();
            let missed: Vec<f64> = chosen.iter().map(|index| -left.errors[*index]).collect();
            let correction = Correction::fit(&design, &shots, &missed);
            let rest: Vec<usize> = (0..left.rows.len()).filter(|index| !chosen.contains(index)).collect();
            let scored = rest.iter().step_by(rest.len().div_ceil(SCORED_ROWS).max(1));
            let score = |index: &usize| {
                let row = left.rows[*index];
                (left.errors[*index] + correction.predict(&design, row)) / correction.deviation(&design, row)
            };
            Draw { scores: scored.map(score).collect(), correction }
        };
        (0..DRAWS).map(draw).collect()
    }
}
