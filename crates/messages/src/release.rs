//! News of a release.

use crate::{Metric, ReleaseId, Timestamp};

/// One metric's error on rows that its predictor did not train on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MetricEvaluation {
    /// Which metric.
    pub metric: Metric,
    /// Rows it was trained and evaluated on.
    pub rows: u32,
    /// Mean absolute percentage error, out of fold.
    pub mape_pct: f64,
    /// Share of truths inside the 90 % interval, out of fold, in percent.
    pub interval_90_coverage_pct: f64,
}

/// Says that a release exists.
#[derive(Debug, Clone, PartialEq)]
pub struct ReleasePublished {
    /// Its name.
    pub release_id: ReleaseId,
    /// The release before it.
    pub parent: Option<ReleaseId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Measurements it was trained on.
    pub training_rows: u32,
    /// Its evaluation.
    pub evaluation: Vec<MetricEvaluation>,
}
