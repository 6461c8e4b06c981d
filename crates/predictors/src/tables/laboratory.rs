//! The known devices as if each had been new and a few of its measurements had been known: what such are worth.
//!
//! Errors there, over the deviation that the regression expected of them, are the scores of a conformal interval.

use std::collections::{BTreeMap, HashMap};

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::{
    basis::{Basis, Design, FACTORS},
    data::TableData,
    held_out::HeldOut,
    linear::factors,
    new_device::{LeftOut, NewDevice, one_more_known},
    protocol::Choose,
    reliability::{is_good, quantile},
    residuals::Residuals,
    shots::{Correction, NOISE_LOG, representative},
};
use crate::calibration::{NORMAL_90, median};

/// Draws of shots per known device.
const DRAWS: u64 = 6;
/// Rows of each draw that are scored.
const SCORED_ROWS: usize = 500;
/// Measurements that the surprise seen on other devices is worth: each device strays in its own way.
const PRIOR_OBSERVATIONS: f64 = 1.0;
/// Random measurements up to which a device's error is that of a device never seen, which one more known device makes
/// smaller; of more, a share of so many.
const SHOTS_LIKE_NONE: f64 = 5.0;
/// A residual further out than this tells of a special case, not of how far a model strays.
const STRAY_LOG_MAX: f64 = 1.0;
/// Models whose straying is unknown stray as the median does, which counts as so many measurements of every model.
const PRIOR_STRAYS: f64 = 1.0;

/// What happened on devices left out of which a number of measurements was known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Past {
    /// Devices left out.
    devices: usize,
    /// Surprise per measurement.
    surprise: f64,
    /// The 90 % quantile of scores, as absolute values.
    quantile: f64,
    /// Errors over their expected deviations, ascending.
    scores: Vec<f64>,
}

impl Past {
    /// Of devices left out, each with its draws of `count` shots; `strange` says that none is like the one asked about.
    fn of(devices: &[&[Draw]], (count, choose): (usize, Choose), strange: bool) -> Self {
        let draws = || devices.iter().copied().flatten();
        let surprise = median(draws().map(|draw| draw.correction.surprise / count.max(1) as f64));
        let mut past = Self {
            devices: devices.iter().filter(|draws| !draws.is_empty()).count(),
            surprise: surprise.unwrap_or(1.0),
            quantile: NORMAL_90,
            scores: Vec::new(),
        };
        let scores = draws().flat_map(|draw| {
            let stretch = past.stretch(&draw.correction, count);
            draw.scored.iter().map(move |scored| scored.error / scored.deviation / stretch)
        });
        past.scores = scores.collect();
        past.scores.sort_by(f64::total_cmp);
        if !past.scores.is_empty() {
            let share = match choose {
                Choose::Random if !strange => (SHOTS_LIKE_NONE / count.max(1) as f64).min(1.0),
                // A representative choice leaves nothing open that other devices could tell.
                _ => 0.0,
            };
            let narrower = one_more_known(devices.len()).powf(share / 2.0);
            past.quantile = quantile(past.scores.iter().map(|score| score.abs()).collect()) * narrower;
        }
        past
    }

    /// How many devices it is of.
    pub(crate) fn devices(&self) -> usize {
        self.devices
    }

    /// How many times wider deviations must be than the regression says, now that residuals were seen.
    pub(crate) fn stretch(&self, correction: &Correction, count: usize) -> f64 {
        let seen = PRIOR_OBSERVATIONS * self.surprise + correction.surprise;
        (seen / (PRIOR_OBSERVATIONS + count as f64)).sqrt()
    }

    /// Half-width of the 90 % interval of a prediction with this deviation.
    pub(crate) fn half_width(&self, scale: f64) -> f64 {
        scale * self.quantile
    }

    /// Share of past errors that, at this scale, were within ±20 % of the truth.
    pub(crate) fn confidence(&self, scale: f64) -> f64 {
        let below = self.scores.partition_point(|score| *score < 0.0 && !is_good(score * scale));
        let good = self.scores[below..].partition_point(|score| is_good(score * scale));
        good as f64 / self.scores.len().max(1) as f64
    }
}

/// One draw of shots of a device left out, and how the rest of it was predicted.
struct Draw {
    correction: Correction,
    scored: Vec<Scored>,
}

/// The error of a row that was not among the shots.
struct Scored {
    row: usize,
    /// Predicted minus true, as a log.
    error: f64,
    /// What the regression expects of it, before any stretch.
    deviation: f64,
}

/// The known devices, each left out in turn.
pub(crate) struct Laboratory<'a> {
    data: &'a TableData,
    training: &'a [usize],
    device: &'a NewDevice,
    residuals: &'a Residuals,
    /// What all measurements of each device left out leave unexplained, by row, as logs.
    strays: Vec<Vec<f64>>,
}

impl<'a> Laboratory<'a> {
    /// Of what was learned from the rows `training`.
    pub(crate) fn new(
        data: &'a TableData,
        training: &'a [usize],
        device: &'a NewDevice,
        residuals: &'a Residuals,
    ) -> Self {
        let mut laboratory = Self { data, training, device, residuals, strays: Vec::new() };
        laboratory.strays = device.left_out.iter().map(|left| laboratory.unexplained(left)).collect();
        laboratory
    }

    /// What is known of rows if `hidden` is a device of which nothing is.
    pub(crate) fn basis(&self, hidden: Option<usize>) -> Basis {
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
        let noise = |(sum, count): (f64, f64)| {
            let variance = (sum + PRIOR_STRAYS * usual) / (count + PRIOR_STRAYS);
            (NOISE_LOG * NOISE_LOG + variance) / (NOISE_LOG * NOISE_LOG + usual)
        };
        let noise = of_model.into_iter().map(|(model, strays)| (model, noise(strays))).collect();
        Basis::of(self.data, self.training, &self.factors(hidden), noise)
    }

    /// What devices left out say of a new one of `platform` of which `count` measurements are known, chosen in this way.
    pub(crate) fn past(&self, platform: Option<&str>, (count, choose): (usize, Choose)) -> Past {
        let alike = self.device.alike(platform);
        let strange = alike.is_empty();
        // After some measurements a strange device is more like any other than like nothing.
        let like: Vec<&LeftOut> = if strange { self.device.left_out.iter().collect() } else { alike };
        let drawn: Vec<Vec<Draw>> = like.iter().map(|left| self.draws(left, (count, choose))).collect();
        Past::of(&drawn.iter().map(Vec::as_slice).collect::<Vec<_>>(), (count, choose), strange)
    }

    /// Errors on each device left out, of which `count` random measurements were known; half-widths are what the other
    /// devices say.
    pub(crate) fn held_out(&self, count: usize) -> Vec<HeldOut> {
        let left_out = &self.device.left_out;
        let drawn: BTreeMap<usize, Vec<Draw>> =
            left_out.iter().map(|left| (left.device, self.draws(left, (count, Choose::Random)))).collect();
        let mut held = Vec::new();
        for left in left_out {
            let others_of = |devices: &[&LeftOut]| -> Vec<&[Draw]> {
                let others = devices.iter().filter(|other| other.device != left.device);
                others.map(|other| drawn[&other.device].as_slice()).collect()
            };
            let alike = others_of(&self.device.alike(left.platform.as_deref()));
            let past = if alike.is_empty() {
                Past::of(&others_of(&left_out.iter().collect::<Vec<_>>()), (count, Choose::Random), true)
            } else {
                Past::of(&alike, (count, Choose::Random), false)
            };
            for draw in &drawn[&left.device] {
                let stretch = past.stretch(&draw.correction, count);
                held.extend(draw.scored.iter().map(|scored| HeldOut {
                    row: scored.row,
                    error: scored.error,
                    half_width: past.half_width(stretch * scored.deviation),
                }));
            }
        }
        held
    }

    fn factors(&self, hidden: Option<usize>) -> Array2<f64> {
        let mut table = self.residuals.references.table(self.data.models.count);
        for (class, device) in self.data.classes.of_row.iter().zip(&self.data.devices.of_row) {
            if Some(*device) == hidden {
                table.column_mut(*class).fill(0.0);
            }
        }
        factors(&table, FACTORS)
    }

    fn unexplained(&self, left: &LeftOut) -> Vec<f64> {
        let basis = Basis::of(self.data, self.training, &self.factors(Some(left.device)), BTreeMap::new());
        let design = basis.design(self.data, &left.rows);
        let missed: Vec<f64> = left.errors.iter().map(|error| -error).collect();
        let all: Vec<usize> = (0..left.rows.len()).collect();
        let correction = Correction::fit(&design, &all, &missed);
        let rest = all.iter().zip(&left.errors).map(|(row, error)| error + correction.predict(&design, *row));
        rest.map(|log| log.clamp(-STRAY_LOG_MAX, STRAY_LOG_MAX)).collect()
    }

    /// A device left out, of which some measurements were known, chosen as they will be: at random, or as representative
    /// of a random half of its rows. None where it has too few rows for that.
    fn draws(&self, left: &LeftOut, (count, choose): (usize, Choose)) -> Vec<Draw> {
        if left.rows.len() <= 2 * count {
            return Vec::new();
        }
        let design = self.basis(Some(left.device)).design(self.data, &left.rows);
        (0..DRAWS).map(|seed| draw(left, &design, (count, choose), seed)).collect()
    }
}

fn draw(left: &LeftOut, design: &Design, (count, choose): (usize, Choose), seed: u64) -> Draw {
    let mut random = fastrand::Rng::with_seed(seed);
    let rows = 0..left.rows.len();
    let chosen: Vec<usize> = match choose {
        Choose::Random => random.choose_multiple(rows.clone(), count),
        Choose::Representative => {
            let half = random.choose_multiple(rows.clone(), left.rows.len() / 2);
            representative(design, &half, count)
        }
    };
    let missed: Vec<f64> = chosen.iter().map(|row| -left.errors[*row]).collect();
    let correction = Correction::fit(design, &chosen, &missed);
    let rest: Vec<usize> = rows.filter(|row| !chosen.contains(row)).collect();
    let scored = rest.iter().step_by(rest.len().div_ceil(SCORED_ROWS).max(1)).map(|row| Scored {
        row: left.rows[*row],
        error: left.errors[*row] + correction.predict(design, *row),
        deviation: correction.deviation(design, *row),
    });
    Draw { scored: scored.collect(), correction }
}
