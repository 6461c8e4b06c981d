//! What predictors answer about configurations of our own.

use messages::{Metric, PredictedMetric, Prediction, ReleaseId};

use crate::Answer;

/// One metric's predicted value with its interval, in the metric's unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PredictedWithSpread {
    /// Which metric.
    pub metric: Metric,
    /// The most likely value.
    pub value: f64,
    /// Lower end of the 90 % interval.
    pub lower: f64,
    /// Upper end of the 90 % interval.
    pub upper: f64,
    /// Standard deviation of the ensemble's logarithms: how much its members disagree.
    pub spread_log: f64,
}

impl From<Answer> for PredictedWithSpread {
    fn from(answer: Answer) -> Self {
        let Answer { metric, value, lower, upper, spread_log, .. } = answer;
        Self { metric, value, lower, upper, spread_log }
    }
}

/// What is predicted of one configuration.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Predicted {
    /// One entry per metric that was trained, in the order of [`Metric::ALL`].
    pub metrics: Vec<PredictedWithSpread>,
}

impl Predicted {
    /// What is predicted of one metric, if it was trained.
    pub fn metric(&self, metric: Metric) -> Option<&PredictedWithSpread> {
        self.metrics.iter().find(|predicted| predicted.metric == metric)
    }

    /// As it travels, in the name of the release that said it of this device.
    pub fn to_prediction(&self, release: &ReleaseId, device: &str) -> Prediction {
        Prediction {
            release_id: release.clone(),
            device: Some(device.to_owned()),
            metrics: self
                .metrics
                .iter()
                .map(|predicted| PredictedMetric {
                    metric: predicted.metric,
                    value: predicted.value,
                    lower: predicted.lower,
                    upper: predicted.upper,
                })
                .collect(),
        }
    }
}
