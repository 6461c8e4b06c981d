//! How far the predictions that travelled with a run's jobs were from what was measured.

use store::{PredictedRow, ResultRow};

use super::sections::distinct;

/// The predictions of one metric that a measurement answered.
pub(super) struct MetricAccuracy<'a> {
    /// The metric, with its unit.
    pub(super) metric: &'a str,
    /// What was predicted and measured, both above 0.
    pub(super) points: Vec<Point<'a>>,
    /// Truths inside their interval.
    pub(super) inside: usize,
    /// Median over points of the absolute error, in percent of the measured value.
    pub(super) error_pct_median: f64,
}

/// One prediction and the truth.
pub(super) struct Point<'a> {
    /// The job that carried it.
    pub(super) row: &'a ResultRow,
    /// The prediction.
    pub(super) prediction: &'a PredictedRow,
    /// Its value.
    pub(super) predicted: f64,
    /// The truth.
    pub(super) measured: f64,
}

impl Point<'_> {
    /// 100 (predicted − measured) / measured.
    pub(super) fn error_pct(&self) -> f64 {
        100.0 * (self.predicted - self.measured) / self.measured
    }

    /// Whether the interval held the truth.
    pub(super) fn is_inside(&self) -> bool {
        self.prediction.inside == Some(true)
    }
}

/// Per metric, in the order of first appearance, what became of the predictions in `rows`.
pub(super) fn accuracy<'a>(rows: &[&'a ResultRow]) -> Vec<MetricAccuracy<'a>> {
    let points: Vec<Point<'a>> =
        rows.iter().flat_map(|row| row.predictions.iter().filter_map(|prediction| point(row, prediction))).collect();
    let metrics = distinct(points.iter().map(|point| point.prediction.metric.as_str()));
    let mut all = Vec::new();
    let mut points = points;
    for metric in metrics {
        let (of_metric, others) = points.into_iter().partition::<Vec<_>, _>(|point| point.prediction.metric == metric);
        points = others;
        all.push(MetricAccuracy {
            metric,
            inside: of_metric.iter().filter(|point| point.is_inside()).count(),
            error_pct_median: median(of_metric.iter().map(|point| point.error_pct().abs()).collect()),
            points: of_metric,
        });
    }
    all
}

fn point<'a>(row: &'a ResultRow, prediction: &'a PredictedRow) -> Option<Point<'a>> {
    let (predicted, measured) = (prediction.value?, prediction.measured?);
    (predicted > 0.0 && measured > 0.0).then_some(Point { row, prediction, predicted, measured })
}

/// The median; NaN of nothing.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn counts_only_predictions_with_a_truth() {
        let results = fixture::results();
        let rows: Vec<&ResultRow> = results.iter().collect();
        let all = accuracy(&rows);
        let found: Vec<_> = all
            .iter()
            .map(|one| (one.metric, one.points.len(), one.inside, (10.0 * one.error_pct_median).round()))
            .collect();
        assert_eq!(found, [("latency_ms", 2, 1, 153.0), ("throughput_items_per_second", 1, 1, 100.0)]);
    }

    #[test]
    fn the_median_of_an_even_number_is_between() {
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-12);
        assert!(median(Vec::new()).is_nan());
    }
}
