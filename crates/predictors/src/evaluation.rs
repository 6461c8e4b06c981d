//! Errors and coverage on rows that the boosters did not train on.

use std::{fmt, str::FromStr};

use messages::{Metric, MetricEvaluation, UnknownWord};

/// What rows of one fold have in common, so what was new to the boosters that were asked about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grouping {
    /// The configuration: others of its model and its device were seen.
    Configuration,
    /// The model: nothing of it was seen, nor of its family.
    Model,
    /// The device: a few measurements of it were seen, each device in turn.
    FewShot,
    /// The device: nothing that ran on it was seen.
    Device,
}

impl Grouping {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Configuration, Self::Model, Self::FewShot, Self::Device];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Model => "model",
            Self::FewShot => "few-shot",
            Self::Device => "device",
        }
    }
}

impl fmt::Display for Grouping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Grouping {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|grouping| grouping.as_str() == text).ok_or_else(|| UnknownWord {
            kind: "grouping",
            found: text.to_owned(),
            known: Self::ALL.map(Self::as_str).join(", "),
        })
    }
}

/// One metric's errors out of fold; percentages of the measured value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// Which metric.
    pub metric: Metric,
    /// What was new to the boosters.
    pub grouping: Grouping,
    /// Rows evaluated, each once; of few shots once per draw of them.
    pub rows: u32,
    /// Folds.
    pub folds: u32,
    /// Mean absolute percentage error.
    pub mape_pct: f64,
    /// Median absolute percentage error.
    pub median_ape_pct: f64,
    /// Mean absolute percentage error of the bare roofline on the same rows.
    pub roofline_mape_pct: f64,
    /// Share of truths inside the 90 % interval, each fold's interval calibrated on the other folds.
    pub interval_90_coverage_pct: f64,
    /// Median half-width of those intervals, in percent of the predicted value.
    pub interval_90_half_width_median_pct: f64,
}

impl From<&Evaluation> for MetricEvaluation {
    fn from(evaluation: &Evaluation) -> Self {
        Self {
            metric: evaluation.metric,
            rows: evaluation.rows,
            mape_pct: evaluation.mape_pct,
            interval_90_coverage_pct: evaluation.interval_90_coverage_pct,
        }
    }
}
