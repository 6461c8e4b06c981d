//! Predictions for a device that nothing was measured on: physics first, then a few shots.
//!
//! What is learned leaves the device's own properties out: with a handful of devices they are names in disguise. How
//! far it may be off is learned by leaving each known device out in turn.

use std::{collections::HashMap, sync::OnceLock};

use ndarray::{Array2, Axis};
use serde::{Deserialize, Serialize};

use super::{
    data::TableData,
    estimator::{Novelty, TablePrediction},
    forest::Ensemble,
    learner::{Lesson, TableSettings, means, train},
    linear::factors,
    reliability::{is_good, quantile},
    residuals::Residuals,
    shots::{Correction, FACTORS, inputs},
};
use crate::{PredictorError, calibration::median};

/// Half-width where no device was ever left out that was as new as the one asked about: a factor of four either way,
/// the spread of efficiencies between processors and GPUs.
const UNKNOWN_HALF_WIDTH: f64 = 1.386;
/// Two-sided 90 % quantile of the normal distribution.
const NORMAL_90: f64 = 1.645;
/// Draws of shots per known device, to see what so many shots are worth.
const DRAWS: u64 = 6;

/// Boosters for new devices, and the errors of their like on each known device.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NewDevice {
    boosters: Ensemble,
    left_out: Vec<LeftOut>,
    /// Worked out by the first question.
    #[serde(skip)]
    doubts: OnceLock<Doubts>,
}

/// Half-width and confidence by platform, so that not every question sorts all errors.
#[derive(Debug)]
struct Doubts {
    of_platform: HashMap<Option<String>, (f64, f64)>,
    /// On a platform of which no device was left out.
    elsewhere: (f64, f64),
}

impl Doubts {
    fn of(new_device: &NewDevice) -> Self {
        let left_out = &new_device.left_out;
        let of_platform = |left: &LeftOut| NewDevice::doubt_of(&new_device.alike(left.platform.as_deref()));
        let strange: Vec<&LeftOut> = left_out.iter().filter(|left| !left.platform_was_known).collect();
        Self {
            of_platform: left_out.iter().map(|left| (left.platform.clone(), of_platform(left))).collect(),
            elsewhere: NewDevice::doubt_of(&strange),
        }
    }
}

/// A known device that was left out.
#[derive(Debug, Serialize, Deserialize)]
struct LeftOut {
    device: usize,
    platform: Option<String>,
    /// Whether another device of its platform was not left out.
    platform_was_known: bool,
    rows: Vec<usize>,
    /// Predicted minus true, as logs.
    errors: Vec<f64>,
}

impl NewDevice {
    /// Trains on all devices, and on all but each in turn.
    pub(crate) fn learn(
        data: &TableData,
        training: &[usize],
        features: &Array2<f32>,
        settings: &TableSettings,
    ) -> Result<Self, PredictorError> {
        let mut devices: Vec<usize> = training.iter().map(|row| data.devices.of_row[*row]).collect();
        devices.sort_unstable();
        devices.dedup();
        let parts = |device: usize| -> (Vec<usize>, Vec<usize>) {
            (0..training.len()).partition(|index| data.devices.of_row[training[*index]] != device)
        };
        let lesson = |kept: &[usize], boosters| Lesson {
            features: features.select(Axis(0), kept),
            targets: kept.iter().map(|index| data.target(training[*index])).collect(),
            boosters,
        };
        let mut lessons = vec![lesson(&(0..training.len()).collect::<Vec<_>>(), settings.ensemble)];
        let others: Vec<usize> = if devices.len() > 1 { devices } else { Vec::new() };
        lessons.extend(others.iter().map(|device| lesson(&parts(*device).0, 1)));
        let mut ensembles = train(data.metric(), &lessons, settings)?.into_iter();
        let boosters = ensembles.next().expect("the first lesson's");
        let mut left_out = Vec::new();
        for (device, ensemble) in others.into_iter().zip(ensembles) {
            let (kept, held) = parts(device);
            let answers = means(&ensemble, &features.select(Axis(0), &held))?;
            let rows: Vec<usize> = held.iter().map(|index| training[*index]).collect();
            let platform = data.row(rows[0]).platform.clone();
            left_out.push(LeftOut {
                device,
                platform_was_known: kept.iter().any(|index| data.row(training[*index]).platform == platform),
                platform,
                errors: rows.iter().zip(answers).map(|(row, answer)| answer - data.target(*row)).collect(),
                rows,
            });
        }
        Ok(Self { boosters, left_out, doubts: OnceLock::new() })
    }

    /// Log predictions of rows.
    pub(crate) fn logs(&self, features: &Array2<f32>) -> Result<Vec<f64>, PredictorError> {
        means(&self.boosters, features)
    }

    /// Predicts rows of new devices.
    pub(crate) fn predict(
        &self,
        data: &TableData,
        rows: &[usize],
        features: &Array2<f32>,
    ) -> Result<Vec<TablePrediction>, PredictorError> {
        let doubts = self.doubts.get_or_init(|| Doubts::of(self));
        let answers = self.logs(features)?;
        Ok(rows
            .iter()
            .zip(answers)
            .map(|(row, log)| {
                let (half_width, confidence) =
                    *doubts.of_platform.get(&data.row(*row).platform).unwrap_or(&doubts.elsewhere);
                TablePrediction { row: *row, log, half_width, confidence, novelty: Novelty::Device }
            })
            .collect())
    }

    /// Half-width and confidence for a new device, from devices that were as new.
    ///
    /// A device's errors have a level of their own, and spread about it. The level of a new device is drawn as those of
    /// the devices left out were, about 0. Each of those was predicted from one device of its platform fewer than the
    /// new one is: of `m` levels that differ alike, the mean of the others is off by `1 / (m − 1)` of their variance,
    /// and that of all by `1 / m`.
    fn doubt_of(alike: &[&LeftOut]) -> (f64, f64) {
        if alike.is_empty() {
            return (UNKNOWN_HALF_WIDTH, 0.0);
        }
        let count = alike.len() as f64;
        let levels: Vec<f64> =
            alike.iter().map(|left| median(left.errors.iter().copied()).unwrap_or_default()).collect();
        let within = alike
            .iter()
            .zip(&levels)
            .map(|(left, level)| quantile(left.errors.iter().map(|error| (error - level).abs()).collect()).powi(2));
        let within = within.sum::<f64>() / count;
        let between = levels.iter().map(|level| level * level).sum::<f64>() / count;
        let between = if count > 1.0 { between * (count * count - 1.0) / (count * count) } else { between };
        let errors: Vec<f64> = alike.iter().flat_map(|left| left.errors.iter().copied()).collect();
        ((NORMAL_90 * NORMAL_90 * between + within).sqrt(), share_good(&errors))
    }

    /// Devices that were as new, when they were left out, as one of `platform` is.
    fn alike(&self, platform: Option<&str>) -> Vec<&LeftOut> {
        let known = self.left_out.iter().any(|left| left.platform.as_deref() == platform);
        let same_platform = |left: &&LeftOut| !known || left.platform.as_deref() == platform;
        self.left_out.iter().filter(|left| left.platform_was_known == known).filter(same_platform).collect()
    }

    /// The errors on the devices left out, each with the half-width that the other devices say it has.
    pub(crate) fn held_out(&self) -> impl Iterator<Item = (usize, f64, f64)> {
        self.left_out.iter().flat_map(|left| {
            let platform = left.platform.as_deref();
            let others: Vec<&LeftOut> =
                self.alike(platform).into_iter().filter(|other| other.device != left.device).collect();
            let (half_width, _) = Self::doubt_of(&others);
            left.rows.iter().zip(&left.errors).map(move |(row, error)| (*row, *error, half_width))
        })
    }

    /// Predicts `rows` of one new device, of which `shots` were measured; both have their features.
    pub(crate) fn predict_with_shots(
        &self,
        data: &TableData,
        residuals: &Residuals,
        (rows, features): (&[usize], &Array2<f32>),
        (shots, shot_features): (&[usize], &Array2<f32>),
    ) -> Result<Vec<TablePrediction>, PredictorError> {
        let inputs = Self::shot_inputs(data, residuals, None);
        let missed: Vec<f64> =
            self.logs(shot_features)?.into_iter().zip(shots).map(|(answer, row)| data.target(*row) - answer).collect();
        let correction = Correction::fit(&inputs, shots, &missed);
        let platform = shots.first().and_then(|row| data.row(*row).platform.as_deref());
        let past = self.errors_after_shots(data, residuals, platform, shots.len());
        let (half_width, confidence) = if past.is_empty() {
            (NORMAL_90 * correction.spread, 0.0)
        } else {
            let spread = (past.iter().map(|error| error * error).sum::<f64>() / past.len() as f64).sqrt();
            let half_width = quantile(past.iter().map(|error| error.abs()).collect());
            (half_width * correction.stretch(spread, self.alike(platform).is_empty()), share_good(&past))
        };
        let answers = self.logs(features)?;
        Ok(rows
            .iter()
            .zip(answers)
            .map(|(row, answer)| TablePrediction {
                row: *row,
                log: answer + correction.predict(&inputs, *row),
                half_width,
                confidence,
                novelty: Novelty::Device,
            })
            .collect())
    }

    /// The regression's inputs, with latent factors of the residuals on all devices but `hidden`.
    pub(crate) fn shot_inputs(data: &TableData, residuals: &Residuals, hidden: Option<usize>) -> Array2<f64> {
        let mut table = residuals.references.table(data.models.count);
        for (class, device) in data.classes.of_row.iter().zip(&data.devices.of_row) {
            if Some(*device) == hidden {
                table.column_mut(*class).fill(0.0);
            }
        }
        inputs(data, &factors(&table, FACTORS))
    }

    /// Errors on the devices left out, had `count` random measurements of each been known.
    fn errors_after_shots(
        &self,
        data: &TableData,
        residuals: &Residuals,
        platform: Option<&str>,
        count: usize,
    ) -> Vec<f64> {
        let mut alike = self.alike(platform);
        if alike.is_empty() {
            // After some measurements a strange device is more like any other than like nothing.
            alike = self.left_out.iter().collect();
        }
        let mut errors = Vec::new();
        for left in alike.into_iter().filter(|left| left.rows.len() > 2 * count) {
            let inputs = Self::shot_inputs(data, residuals, Some(left.device));
            for draw in 0..DRAWS {
                let mut random = fastrand::Rng::with_seed(draw);
                let chosen = random.choose_multiple(0..left.rows.len(), count);
                let shots: Vec<usize> = chosen.iter().map(|index| left.rows[*index]).collect();
                let missed: Vec<f64> = chosen.iter().map(|index| -left.errors[*index]).collect();
                let correction = Correction::fit(&inputs, &shots, &missed);
                let rest = (0..left.rows.len()).filter(|index| !chosen.contains(index));
                errors.extend(rest.map(|index| left.errors[index] + correction.predict(&inputs, left.rows[index])));
            }
        }
        errors
    }
}

fn share_good(errors: &[f64]) -> f64 {
    errors.iter().filter(|error| is_good(**error)).count() as f64 / errors.len().max(1) as f64
}
