//! Predictions for devices of which a few measurements are known: what is predicted of a device never seen, corrected.
//!
//! What so few are worth is learned from the known devices, see [`Laboratory`]. The device's own measurements stretch
//! the interval: if they surprise more than those of other devices did, all is less certain.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::{
    basis::Basis,
    data::TableData,
    estimator::{ROWS_NEEDED, TablePrediction},
    laboratory::{Laboratory, Past},
    learner::MeanAndSpread,
    novelty::Novelty,
    protocol::Choose,
    shots::Correction,
};

/// Devices that it takes to learn from, so that one can be left out: with a single one nothing is known of how devices
/// differ.
const DEVICES_MIN: usize = 2;

/// The devices among `rows` of which fewer than `below` configurations were measured, each with its rows; none where too
/// little is left to learn from without them.
pub(crate) fn hardly_measured(data: &TableData, rows: &[usize], below: u32) -> BTreeMap<usize, Vec<usize>> {
    let mut of_device: BTreeMap<usize, (HashSet<usize>, Vec<usize>)> = BTreeMap::new();
    for row in rows {
        let (configurations, rows) = of_device.entry(data.devices.of_row[*row]).or_default();
        configurations.insert(data.configurations.of_row[*row]);
        rows.push(*row);
    }
    let (few, many): (BTreeMap<_, _>, BTreeMap<_, _>) =
        of_device.into_iter().partition(|(_, (configurations, _))| configurations.len() < below as usize);
    let left: usize = many.values().map(|(configurations, _)| configurations.len()).sum();
    if many.len() < DEVICES_MIN || left < ROWS_NEEDED {
        return BTreeMap::new();
    }
    few.into_iter().map(|(device, (_, rows))| (device, rows)).collect()
}

/// Corrections for the devices of which little was measured.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FewShots {
    basis: Basis,
    of_device: BTreeMap<usize, Corrected>,
}

impl FewShots {
    /// Learns from the rows of each device, beside what was learned without them; `residual` says what is missed.
    pub(crate) fn learn<E>(
        data: &TableData,
        laboratory: &Laboratory<'_>,
        devices: &BTreeMap<usize, Vec<usize>>,
        missed: impl Fn(&[usize]) -> Result<Vec<f64>, E>,
    ) -> Result<Self, E> {
        let basis = laboratory.basis(None);
        let corrected = |(device, rows): (&usize, &Vec<usize>)| {
            let platform = rows.first().and_then(|row| data.row(*row).platform.as_deref());
            let past = laboratory.past(platform, (rows.len(), Choose::Random));
            Ok((*device, Corrected::fit(data, &basis, past, rows, &missed(rows)?)))
        };
        let of_device = devices.iter().map(corrected).collect::<Result<_, E>>()?;
        Ok(Self { basis, of_device })
    }

    /// Whether a device is among them.
    pub(crate) fn contains(&self, device: usize) -> bool {
        self.of_device.contains_key(&device)
    }

    /// The devices, each with how many of its measurements are known.
    pub(crate) fn shots(&self) -> impl Iterator<Item = (usize, usize)> {
        self.of_device.iter().map(|(device, corrected)| (*device, corrected.shots))
    }

    /// Corrects what is predicted of rows of these devices, were they new.
    pub(crate) fn correct(&self, data: &TableData, rows: &[usize], answers: &[MeanAndSpread]) -> Vec<TablePrediction> {
        let mut predictions = vec![None; rows.len()];
        for (device, corrected) in &self.of_device {
            let places: Vec<usize> =
                (0..rows.len()).filter(|place| data.devices.of_row[rows[*place]] == *device).collect();
            if places.is_empty() {
                continue;
            }
            let own: Vec<usize> = places.iter().map(|place| rows[*place]).collect();
            let answers: Vec<MeanAndSpread> = places.iter().map(|place| answers[*place]).collect();
            for (place, prediction) in places.iter().zip(corrected.correct(data, &self.basis, &own, &answers)) {
                predictions[*place] = Some(prediction);
            }
        }
        predictions.into_iter().map(|prediction| prediction.expect("every row is of one of these devices")).collect()
    }
}

/// What the measurements of one device say of all others on it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Corrected {
    shots: usize,
    correction: Correction,
    stretch: f64,
    past: Past,
}

impl Corrected {
    /// Learns from the rows `shots`, of which `missed` is what was measured less what was predicted, as logs.
    pub(crate) fn fit(data: &TableData, basis: &Basis, past: Past, shots: &[usize], missed: &[f64]) -> Self {
        let places: Vec<usize> = (0..shots.len()).collect();
        let correction = Correction::fit(&basis.design(data, shots), &places, missed);
        Self { shots: shots.len(), stretch: past.stretch(&correction, shots.len()), correction, past }
    }

    /// Corrects what is predicted of rows.
    pub(crate) fn correct(
        &self,
        data: &TableData,
        basis: &Basis,
        rows: &[usize],
        answers: &[MeanAndSpread],
    ) -> Vec<TablePrediction> {
        let design = basis.design(data, rows);
        let corrected = |(place, (row, answer)): (usize, (&usize, &MeanAndSpread))| {
            let scale = self.stretch * self.correction.deviation(&design, place);
            TablePrediction {
                row: *row,
                log: answer.mean + self.correction.predict(&design, place),
                spread: answer.spread,
                half_width: self.past.half_width(scale),
                confidence: self.past.confidence(scale),
                novelty: Novelty::FewShot,
                groups: self.past.devices(),
            }
        };
        rows.iter().zip(answers).enumerate().map(corrected).collect()
    }
}
