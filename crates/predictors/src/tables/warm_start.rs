//! A new device that is measured row by row, beside devices that are known.

use super::{
    basis::Basis,
    data::TableData,
    estimator::{TablePrediction, TablePredictor},
    few_shot::Corrected,
    laboratory::{Laboratory, Past},
    learner::TrainSettings,
    novelty::Novelty,
    protocol::Choose,
    residuals::Residuals,
    shots::representative,
};
use crate::PredictorError;

/// What was learned of known devices, to be corrected by the first measurements of a new one.
#[derive(Debug)]
pub struct WarmStart<'a> {
    data: &'a TableData,
    training: &'a [usize],
    predictor: TablePredictor,
    residuals: Residuals,
}

/// The same, prepared for a number of measurements.
#[derive(Debug)]
pub struct Shots<'a> {
    data: &'a TableData,
    predictor: &'a TablePredictor,
    count: usize,
    basis: Basis,
    past: Past,
}

impl<'a> WarmStart<'a> {
    /// Learns from the rows of known devices.
    ///
    /// # Errors
    ///
    /// As [`TablePredictor::train`].
    pub fn learn(data: &'a TableData, training: &'a [usize], settings: &TrainSettings) -> Result<Self, PredictorError> {
        let predictor = TablePredictor::train(data, training, &[Novelty::Device], settings)?;
        let features = predictor.full_features(data, training);
        let residuals = Residuals::fit(data, training, &features, &settings.for_new_devices())?;
        Ok(Self { data, training, predictor, residuals })
    }

    /// Predicts rows of a new device of which nothing was measured.
    ///
    /// # Errors
    ///
    /// [`PredictorError::Booster`] if XGBoost fails.
    pub fn predict(&self, rows: &[usize]) -> Result<Vec<TablePrediction>, PredictorError> {
        self.predictor.predict(self.data, rows)
    }

    /// Prepares for `count` measurements of a new device of `platform`; intervals are those of measurements so chosen.
    #[expect(clippy::missing_panics_doc, reason = "new devices were trained for")]
    pub fn shots(&'a self, platform: Option<&str>, count: usize, choose: Choose) -> Shots<'a> {
        let new_device = self.predictor.new_device.as_ref().expect("new devices were trained for");
        let laboratory = Laboratory::new(self.data, self.training, new_device, &self.residuals);
        let (basis, past) = (laboratory.basis(None), laboratory.past(platform, (count, choose)));
        Shots { data: self.data, predictor: &self.predictor, count, basis, past }
    }
}

impl Shots<'_> {
    /// Predicts rows of the new device, of which `measured` were measured.
    ///
    /// # Errors
    ///
    /// [`PredictorError::Booster`] if XGBoost fails.
    #[expect(clippy::missing_panics_doc, reason = "new devices were trained for")]
    pub fn predict(&self, rows: &[usize], measured: &[usize]) -> Result<Vec<TablePrediction>, PredictorError> {
        let missed = self.predictor.missed_as_new(self.data, measured)?;
        let corrected = Corrected::fit(self.data, &self.basis, self.past.clone(), measured, &missed);
        let new_device = self.predictor.new_device.as_ref().expect("new devices were trained for");
        let answers = new_device.answers(&self.predictor.bare_features(self.data, rows))?;
        Ok(corrected.correct(self.data, &self.basis, rows, &answers))
    }

    /// Which of `rows` to measure to know most of all of them, by what the correction can learn.
    pub fn representative(&self, rows: &[usize]) -> Vec<usize> {
        let places: Vec<usize> = (0..rows.len()).collect();
        let chosen = representative(&self.basis.design(self.data, rows), &places, self.count);
        chosen.into_iter().map(|place| rows[place]).collect()
    }
}

impl TableData {
    /// The metric's value of a prediction, in its unit.
    pub fn predicted_value(&self, prediction: &TablePrediction) -> f64 {
        self.value(prediction.row, prediction.log)
    }

    /// What was measured of the metric in a row; `None` if nothing was.
    pub fn measured_value(&self, row: usize) -> Option<f64> {
        self.rows()[row].measured(self.metric())
    }
}
