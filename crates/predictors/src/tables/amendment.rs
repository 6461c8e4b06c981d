//! What a trained predictor learns of measurements that came later, without starting over.
//!
//! The residuals of new measurements join the references, which answer for the same model elsewhere at once. What is
//! still missed after that is learned by a few more trees, from the new rows and a sample of those that were learned
//! before, so that nothing is forgotten where nothing is new. Intervals and what is said of their reliability stay those
//! of the training; how far they hold is for whoever asks to watch.

use features::{DeviceTable, MeasuredRow, OperatorTable};
use ndarray::{Axis, concatenate};
use serde::{Deserialize, Serialize};

use super::{
    data::TableData,
    learner::{Ensemble, Lesson, TrainSettings, means, train_amendment},
    trained::{Predictors, Trained, forget_activation_peaks},
};
use crate::PredictorError;

/// Rows of those learned before for every new one.
const OLD_PER_NEW: usize = 4;
/// Fewest rows of those learned before, if as many are kept.
const OLD_MIN: usize = 200;

/// Trees on what a predictor missed of later rows.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Amendment {
    trees: Ensemble,
}

impl Predictors {
    /// Learns of `new` rows, which none of these predictors has seen and which `devices` and `operators` describe. A
    /// sample of those that they learned from is looked at again.
    ///
    /// # Errors
    ///
    /// [`PredictorError::Features`] if the features cannot be computed, [`PredictorError::Booster`] if XGBoost fails.
    pub fn learn_more(
        &mut self,
        new: Vec<MeasuredRow>,
        devices: &DeviceTable,
        operators: &OperatorTable,
    ) -> Result<(), PredictorError> {
        let mut operators = operators.clone();
        if !self.context.has_activation_peaks {
            forget_activation_peaks(&mut operators);
        }
        // What a model costs must stay what it was when its efficiency was learned.
        self.context.known.prefer_known_sizes(&mut operators);
        let old = self.context.sample.some((OLD_PER_NEW * new.len()).max(OLD_MIN));
        self.context.sample.add(&new);
        self.context.names.extend(&new);
        self.context.known.extend(&new, devices, &operators);
        let (mut old_devices, mut old_operators) = (DeviceTable::new(), OperatorTable::new());
        self.context.known.supplement(&old, &mut old_devices, &mut old_operators);
        self.training_rows = self.training_rows.saturating_add(u32::try_from(new.len()).unwrap_or(u32::MAX));
        let is_measured = |rows: &[MeasuredRow], metric| rows.iter().any(|row| row.measured(metric).is_some());
        let names = &self.context.names;
        let mut new = TableData::described(new, devices, &operators, names, false)?;
        let mut old = TableData::questions(old, &old_devices, &old_operators, names)?;
        self.context.domain.extend(&new);
        for (metric, trained) in &mut self.trained {
            if is_measured(new.rows(), *metric) {
                new = new.about(*metric)?;
                let has_old = is_measured(old.rows(), *metric);
                old = if has_old { old.about(*metric)? } else { old };
                trained.amend(&mut new, has_old.then_some(&old), &self.settings)?;
            }
        }
        Ok(())
    }

    /// How many times these predictors learned more.
    pub fn amendments(&self) -> usize {
        self.trained.values().map(|trained| trained.amendments.len()).max().unwrap_or_default()
    }
}

impl Trained {
    fn amend(
        &mut self,
        new: &mut TableData,
        old: Option<&TableData>,
        settings: &TrainSettings,
    ) -> Result<(), PredictorError> {
        let rows = new.measured();
        self.predictor.learn_references(new, &rows)?;
        let mut features = self.predictor.full_features(new, &rows);
        let mut missed = self.missed(new, &rows)?;
        if let Some(old) = old {
            let rows = old.measured();
            features = concatenate(Axis(0), &[features.view(), self.predictor.full_features(old, &rows).view()])
                .expect("rows of one schema");
            missed.extend(self.missed(old, &rows)?);
        }
        let lesson = Lesson { features, targets: missed, boosters: settings.ensemble };
        let trees = train_amendment(new.metric(), &lesson, settings)?;
        self.amendments.push(Amendment { trees });
        Ok(())
    }

    /// What was measured less what is predicted, as logs.
    fn missed(&self, data: &TableData, rows: &[usize]) -> Result<Vec<f64>, PredictorError> {
        let predictions = self.predict(data, rows)?;
        Ok(predictions.iter().map(|prediction| data.target(prediction.row) - prediction.log).collect())
    }

    /// Adds what was learned later to log predictions of rows, in their order.
    pub(super) fn amended(&self, data: &TableData, rows: &[usize]) -> Result<Vec<f64>, PredictorError> {
        let features = self.predictor.full_features(data, rows);
        let mut sums = vec![0.0; rows.len()];
        for amendment in &self.amendments {
            sums.iter_mut().zip(means(&amendment.trees, &features)?).for_each(|(sum, log)| *sum += log);
        }
        Ok(sums)
    }
}
