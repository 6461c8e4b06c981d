//! Predictions for a device that nothing was measured on.
//!
//! What is learned leaves the device's own properties out: with a handful of devices they are names in disguise. How
//! far it may be off is learned by leaving each known device out in turn, apart for configurations that other devices of
//! its platform ran and for those that none did: errors there are of another size.

use std::{
    collections::{HashMap, HashSet},
    sync::OnceLock,
};

use features::MeasuredRow;
use ndarray::{Array2, Axis};
use serde::{Deserialize, Serialize};

use super::{
    data::TableData,
    estimator::TablePrediction,
    learner::{Ensemble, Lesson, MeanAndSpread, TrainSettings, answers, means, train},
    novelty::Novelty,
    reliability::{is_good, quantile},
};
use crate::{
    PredictorError,
    calibration::{NORMAL_90, median},
};

/// Half-width where no device was ever left out that was as new as the one asked about: a factor of four either way,
/// the spread of efficiencies between processors and GPUs.
const UNKNOWN_HALF_WIDTH: f64 = 1.386;
/// Errors that a device left out needs to speak for a kind of configurations.
const ERRORS_MIN: usize = 100;

/// Boosters for new devices, and the errors of their like on each known device.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NewDevice {
    boosters: Ensemble,
    configurations: HashSet<Configuration>,
    pub(crate) left_out: Vec<LeftOut>,
    /// Worked out by the first question.
    #[serde(skip)]
    doubts: OnceLock<Doubts>,
}

/// Half-width and confidence by platform and whether the configuration is familiar, so that not every question sorts all
/// errors; and how many devices they rest on.
#[derive(Debug)]
struct Doubts {
    of_platform: HashMap<Option<String>, Doubt>,
    /// On a platform of which no device was left out.
    elsewhere: Doubt,
}

#[derive(Debug)]
struct Doubt {
    /// Of a configuration that is strange, and of one that is familiar.
    half_width_and_confidence: [(f64, f64); 2],
    devices: usize,
}

impl Doubts {
    fn of(new_device: &NewDevice) -> Self {
        let doubt = |alike: &[&LeftOut]| Doubt {
            half_width_and_confidence: [false, true].map(|familiar| NewDevice::doubt_of(alike, familiar)),
            devices: alike.len(),
        };
        let left_out = &new_device.left_out;
        let of_platform = |left: &LeftOut| doubt(&new_device.alike(left.platform.as_deref()));
        let strange: Vec<&LeftOut> = left_out.iter().filter(|left| !left.platform_was_known).collect();
        Self {
            of_platform: left_out.iter().map(|left| (left.platform.clone(), of_platform(left))).collect(),
            elsewhere: doubt(&strange),
        }
    }

    fn of_asked(&self, asked: &MeasuredRow) -> &Doubt {
        self.of_platform.get(&asked.platform).unwrap_or(&self.elsewhere)
    }

    fn get(&self, asked: &MeasuredRow, familiar: bool) -> (f64, f64) {
        self.of_asked(asked).half_width_and_confidence[usize::from(familiar)]
    }

    fn devices(&self, asked: &MeasuredRow) -> usize {
        self.of_asked(asked).devices
    }
}

/// Platform, compiler, precision and layout.
type Configuration = [Option<String>; 4];

fn configuration(row: &MeasuredRow) -> Configuration {
    [&row.platform, &row.compiler, &row.precision, &row.layout].map(Clone::clone)
}

/// A known device that was left out.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LeftOut {
    pub(crate) device: usize,
    pub(crate) platform: Option<String>,
    /// Whether another device of its platform was not left out.
    platform_was_known: bool,
    pub(crate) rows: Vec<usize>,
    /// Predicted minus true, as logs.
    pub(crate) errors: Vec<f64>,
    /// Whether another device ran the row's configuration.
    familiar: Vec<bool>,
}

impl LeftOut {
    /// Errors of rows whose configurations were familiar, or of those whose were not.
    fn errors_of(&self, familiar: bool) -> Vec<f64> {
        self.errors
            .iter()
            .zip(&self.familiar)
            .filter(|(_, other)| **other == familiar)
            .map(|(error, _)| *error)
            .collect()
    }
}

/// The variance of errors between devices of which one more is known than when each of `count` was left out, in the
/// variance of errors then.
///
/// Of `m` that differ alike, the mean of the others is off by `1 / (m − 1)` of their variance, and that of all by `1 / m`.
pub(crate) fn one_more_known(count: usize) -> f64 {
    let count = count as f64;
    if count > 1.0 { 1.0 - 1.0 / (count * count) } else { 1.0 }
}

impl NewDevice {
    /// Trains on all devices, and on all but each in turn.
    pub(crate) fn learn(
        data: &TableData,
        training: &[usize],
        features: &Array2<f32>,
        settings: &TrainSettings,
    ) -> Result<Self, PredictorError> {
        let settings = settings.for_new_devices();
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
        let mut ensembles = train(data.metric(), &lessons, &settings)?.into_iter();
        let boosters = ensembles.next().expect("the first lesson's");
        let mut left_out = Vec::new();
        for (device, ensemble) in others.into_iter().zip(ensembles) {
            let (kept, held) = parts(device);
            let answers = means(&ensemble, &features.select(Axis(0), &held))?;
            let rows: Vec<usize> = held.iter().map(|index| training[*index]).collect();
            let platform = data.row(rows[0]).platform.clone();
            let known = configurations(data, kept.iter().map(|index| training[*index]));
            left_out.push(LeftOut {
                device,
                platform_was_known: known.iter().any(|configuration| configuration[0] == platform),
                platform,
                familiar: rows.iter().map(|row| known.contains(&configuration(data.row(*row)))).collect(),
                errors: rows.iter().zip(answers).map(|(row, answer)| answer - data.target(*row)).collect(),
                rows,
            });
        }
        let configurations = configurations(data, training.iter().copied());
        Ok(Self { boosters, configurations, left_out, doubts: OnceLock::new() })
    }

    /// Log predictions of rows.
    pub(crate) fn logs(&self, features: &Array2<f32>) -> Result<Vec<f64>, PredictorError> {
        means(&self.boosters, features)
    }

    /// The same, and how much the boosters disagree.
    pub(crate) fn answers(&self, features: &Array2<f32>) -> Result<Vec<MeanAndSpread>, PredictorError> {
        answers(&self.boosters, features)
    }

    /// Predicts rows of new devices.
    pub(crate) fn predict(
        &self,
        data: &TableData,
        rows: &[usize],
        features: &Array2<f32>,
    ) -> Result<Vec<TablePrediction>, PredictorError> {
        let doubts = self.doubts.get_or_init(|| Doubts::of(self));
        let answers = self.answers(features)?;
        Ok(rows
            .iter()
            .zip(answers)
            .map(|(row, MeanAndSpread { mean, spread })| {
                let asked = data.row(*row);
                let familiar = self.configurations.contains(&configuration(asked));
                let (half_width, confidence) = doubts.get(asked, familiar);
                let groups = doubts.devices(asked);
                let novelty = Novelty::Device;
                TablePrediction { row: *row, log: mean, half_width, confidence, spread, novelty, groups }
            })
            .collect())
    }

    /// Half-width and confidence for a new device, from those that were as new, for configurations that other devices of
    /// its platform ran or did not.
    ///
    /// A device's errors have a level of their own, and spread about it. The level of a new device is drawn as those of
    /// the devices left out were, about 0. Each of those was predicted from one device of its platform fewer than the
    /// new one is, see [`one_more_known`].
    fn doubt_of(alike: &[&LeftOut], familiar: bool) -> (f64, f64) {
        if alike.is_empty() {
            return (UNKNOWN_HALF_WIDTH, 0.0);
        }
        let mut errors: Vec<Vec<f64>> = alike.iter().map(|left| left.errors_of(familiar)).collect();
        errors.retain(|errors| errors.len() >= ERRORS_MIN);
        if errors.is_empty() {
            errors = alike.iter().map(|left| left.errors.clone()).collect();
        }
        let count = errors.len() as f64;
        let levels: Vec<f64> = errors.iter().map(|errors| median(errors.iter().copied()).unwrap_or_default()).collect();
        let within = errors
            .iter()
            .zip(&levels)
            .map(|(errors, level)| quantile(errors.iter().map(|error| (error - level).abs()).collect()).powi(2));
        let within = within.sum::<f64>() / count;
        let between = levels.iter().map(|level| level * level).sum::<f64>() / count * one_more_known(alike.len());
        ((NORMAL_90 * NORMAL_90 * between + within).sqrt(), share_good(&errors.concat()))
    }

    /// The errors on the devices left out, each with the half-width that the other devices say it has.
    pub(crate) fn held_out(&self) -> impl Iterator<Item = (usize, f64, f64)> {
        self.left_out.iter().flat_map(|left| {
            let platform = left.platform.as_deref();
            let others: Vec<&LeftOut> =
                self.alike(platform).into_iter().filter(|other| other.device != left.device).collect();
            let half_widths = [false, true].map(|familiar| Self::doubt_of(&others, familiar).0);
            let errors = left.rows.iter().zip(&left.errors).zip(&left.familiar);
            errors.map(move |((row, error), familiar)| (*row, *error, half_widths[usize::from(*familiar)]))
        })
    }

    /// Devices that were as new, when they were left out, as one of `platform` is.
    pub(crate) fn alike(&self, platform: Option<&str>) -> Vec<&LeftOut> {
        let known = self.left_out.iter().any(|left| left.platform.as_deref() == platform);
        let same_platform = |left: &&LeftOut| !known || left.platform.as_deref() == platform;
        self.left_out.iter().filter(|left| left.platform_was_known == known).filter(same_platform).collect()
    }
}

fn configurations(data: &TableData, rows: impl Iterator<Item = usize>) -> HashSet<Configuration> {
    rows.map(|row| configuration(data.row(row))).collect()
}

fn share_good(errors: &[f64]) -> f64 {
    errors.iter().filter(|error| is_good(**error)).count() as f64 / errors.len().max(1) as f64
}
