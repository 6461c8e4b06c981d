//! A new device that is measured row by row, beside devices that are known.

use super::{
    data::TableData,
    estimator::{Novelty, TablePrediction, TablePredictor},
    few_shot::FewShot,
    learner::TrainSettings,
    protocol::Choose,
    residuals::Residuals,
};
use crate::PredictorError;

/// What was learned of known devices, to be corrected by the first measurements of a new one.
#[derive(Debug)]
pub struct WarmStart<'a> {
    data: &'a TableData,
    predictor: TablePredictor,
    residuals: Residuals,
}

/// The same, prepared for a number of measurements.
#[derive(Debug)]
pub struct Shots<'a> {
    predictor: &'a TablePredictor,
    data: &'a TableData,
    few_shot: FewShot<'a>,
}

impl<'a> WarmStart<'a> {
    /// Learns from the rows of known devices.
    ///
    /// # Errors
    ///
    /// As [`TablePredictor::train`].
    pub fn learn(data: &'a TableData, training: &[usize], settings: &TrainSettings) -> Result<Self, PredictorError> {
        let predictor = TablePredictor::train(data, training, &[Novelty::Device], settings)?;
        let features = predictor.full_features(data, training);
        let residuals = Residuals::fit(data, training, &features, &settings.for_new_devices())?;
        Ok(Self { data, predictor, residuals })
    }

    /// Predicts rows of a new device of which nothing was measured.
    ///
    /// # Errors
    ///
    /// [`PredictorError::Booster`] if XGBoost fails.
    pub fn predict(&self, rows: &[usize]) -> Result<Vec<TablePrediction>, PredictorError> {
        self.predictor.predict(self.data, rows)
    }

    /// Prepares for `count` measurements of a new device of `platform`, whose intervals are those of random choices.
    #[expect(clippy::missing_panics_doc, reason = "new devices were trained for")]
    pub fn shots(&'a self, platform: Option<&str>, count: usize) -> Shots<'a> {
        let new_device = self.predictor.new_device.as_ref().expect("new devices were trained for");
        let few_shot = FewShot::prepare(self.data, new_device, &self.residuals, platform, (count, Choose::Random));
        Shots { predictor: &self.predictor, data: self.data, few_shot }
    }
}

impl Shots<'_> {
    /// Predicts rows of the new device, of which `measured` were measured.
    ///
    /// # Errors
    ///
    /// [`PredictorError::Booster`] if XGBoost fails.
    pub fn predict(&self, rows: &[usize], measured: &[usize]) -> Result<Vec<TablePrediction>, PredictorError> {
        let features = |of: &[usize]| self.predictor.bare_features(self.data, of);
        self.few_shot.predict((rows, &features(rows)), (measured, &features(measured)))
    }

    /// Which of `rows` to measure to know most of all of them, by what the correction can learn.
    pub fn representative(&self, rows: &[usize], count: usize) -> Vec<usize> {
        self.few_shot.representative(rows, count)
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
