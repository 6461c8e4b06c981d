//! What an evaluation says, in the form of the command line's contract.

use std::collections::BTreeMap;

use messages::Metric;
use serde::Serialize;

use super::{data::TableData, estimator::TablePrediction};
use crate::calibration::median;

/// One prediction held against what was measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) prediction: TablePrediction,
    /// What the nearest measurement of the same model says, as a log ratio.
    pub(crate) nearest: f64,
}

/// Errors, coverage and ranking of a metric under a protocol; percentages of the measured value.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Which metric.
    pub metric: &'static str,
    /// Which rows were held out.
    pub protocol: &'static str,
    /// Rows that were predicted, each counted once.
    pub n: usize,
    /// Mean absolute percentage error.
    pub mape_pct: f64,
    /// Median absolute percentage error.
    pub median_ape_pct: f64,
    /// Share of predictions within ±10 %.
    pub within_10_pct: f64,
    /// Share of predictions within ±20 %.
    pub within_20_pct: f64,
    /// Rank correlation of predicted and measured throughput; null for metrics without one.
    pub spearman_throughput: Option<f64>,
    /// Share of truths inside their 90 % interval.
    pub interval_90_coverage_pct: f64,
    /// Median half-width of those intervals, in percent of the predicted value.
    pub interval_90_half_width_median_pct: f64,
    /// Mean confidence in percent; a calibrated one is near `within_20_pct`.
    pub confidence_mean_pct: f64,
    /// What predictors must be better than.
    pub baselines: Baselines,
    /// The same by what was held out: families, or devices.
    pub groups: Vec<Group>,
    /// Coverage and error by device, whatever was held out.
    pub devices: Vec<Group>,
    /// Seconds that training took, over all parts.
    pub train_seconds: f64,
    /// Rows predicted per second, features given.
    pub predict_rows_per_second: f64,
    /// Every prediction held against its measurement; too many for a report that people read.
    #[serde(skip)]
    pub points: Vec<Point>,
}

/// One prediction held against what was measured, in the metric's unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// What was measured.
    pub measured: f64,
    /// What was predicted.
    pub predicted: f64,
    /// Whether the 90 % interval held the truth.
    pub is_inside: bool,
}

/// Errors of what needs no learning.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Baselines {
    /// Physics alone.
    pub roofline: Baseline,
    /// The nearest measurement of the same model, the roofline where there is none.
    pub nearest_same_model: Baseline,
}

/// The error of one baseline.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Baseline {
    /// Mean absolute percentage error.
    pub mape_pct: f64,
}

/// One group's share of a report.
#[derive(Debug, Clone, Serialize)]
pub struct Group {
    /// The family's or the device's name.
    pub group: String,
    /// Its rows.
    pub n: usize,
    /// Mean absolute percentage error.
    pub mape_pct: f64,
    /// Share of truths inside their 90 % interval.
    pub interval_90_coverage_pct: f64,
}

impl Report {
    pub(crate) fn new(
        data: &TableData,
        protocol: &'static str,
        outcomes: &[Outcome],
        train_seconds: f64,
        predict_rows_per_second: f64,
    ) -> Self {
        let errors = Errors { data };
        let apes: Vec<f64> = outcomes.iter().map(|outcome| errors.ape_pct(outcome, outcome.prediction.log)).collect();
        let baseline = |log: fn(&Outcome) -> f64| Baseline {
            mape_pct: mean(outcomes.iter().map(|outcome| errors.ape_pct(outcome, log(outcome)))),
        };
        let family = |outcome: &Outcome| {
            let row = data.row(outcome.prediction.row);
            row.family.clone().unwrap_or_else(|| row.model.clone())
        };
        let device = |outcome: &Outcome| data.row(outcome.prediction.row).device.clone();
        let mut rows: Vec<usize> = outcomes.iter().map(|outcome| outcome.prediction.row).collect();
        rows.sort_unstable();
        rows.dedup();
        Self {
            metric: data.metric().as_str(),
            protocol,
            n: rows.len(),
            mape_pct: mean(apes.iter().copied()),
            median_ape_pct: median(apes.iter().copied()).unwrap_or(f64::NAN),
            within_10_pct: percent(&apes, |ape| *ape <= 10.0),
            within_20_pct: percent(&apes, |ape| *ape <= 20.0),
            spearman_throughput: errors.spearman(outcomes),
            interval_90_coverage_pct: percent(outcomes, |outcome| errors.is_inside(outcome)),
            interval_90_half_width_median_pct: median(
                // Half of (e^h − e^−h), the interval's ends over its value.
                outcomes.iter().map(|outcome| 100.0 * outcome.prediction.half_width.sinh()),
            )
            .unwrap_or(f64::NAN),
            confidence_mean_pct: 100.0 * mean(outcomes.iter().map(|outcome| outcome.prediction.confidence)),
            baselines: Baselines {
                roofline: baseline(|_| 0.0),
                nearest_same_model: baseline(|outcome| outcome.nearest),
            },
            groups: if protocol == "leave-family-out" {
                errors.groups(outcomes, family)
            } else {
                errors.groups(outcomes, device)
            },
            devices: errors.groups(outcomes, device),
            train_seconds,
            predict_rows_per_second,
            points: outcomes.iter().map(|outcome| errors.point(outcome)).collect(),
        }
    }
}

struct Errors<'a> {
    data: &'a TableData,
}

impl Errors<'_> {
    fn ape_pct(&self, outcome: &Outcome, log: f64) -> f64 {
        let row = outcome.prediction.row;
        let (found, truth) = (self.data.value(row, log), self.truth(row));
        100.0 * (found / truth - 1.0).abs()
    }

    /// What was measured. Throughput is held against the table's own, which may differ a little from batch over latency.
    fn truth(&self, row: usize) -> f64 {
        self.data.row(row).measured(self.data.metric()).expect("only measured rows are predicted")
    }

    fn is_inside(&self, outcome: &Outcome) -> bool {
        let TablePrediction { row, log, half_width, .. } = outcome.prediction;
        let ends = [self.data.value(row, log - half_width), self.data.value(row, log + half_width)];
        let truth = self.truth(row);
        ends[0].min(ends[1]) <= truth && truth <= ends[0].max(ends[1])
    }

    fn point(&self, outcome: &Outcome) -> Point {
        let TablePrediction { row, log, .. } = outcome.prediction;
        Point { measured: self.truth(row), predicted: self.data.value(row, log), is_inside: self.is_inside(outcome) }
    }

    fn groups(&self, outcomes: &[Outcome], of: impl Fn(&Outcome) -> String) -> Vec<Group> {
        let mut groups: BTreeMap<String, Vec<&Outcome>> = BTreeMap::new();
        for outcome in outcomes {
            groups.entry(of(outcome)).or_default().push(outcome);
        }
        groups
            .into_iter()
            .map(|(group, outcomes)| Group {
                group,
                n: outcomes.len(),
                mape_pct: mean(outcomes.iter().map(|outcome| self.ape_pct(outcome, outcome.prediction.log))),
                interval_90_coverage_pct: percent(&outcomes, |outcome| self.is_inside(outcome)),
            })
            .collect()
    }

    /// Spearman's rank correlation of throughput (<https://doi.org/10.2307/1412159>).
    fn spearman(&self, outcomes: &[Outcome]) -> Option<f64> {
        let per_second = |row: usize, value: f64| match self.data.metric() {
            Metric::LatencyMs => Some(self.data.row(row).batch_size * 1e3 / value),
            Metric::ThroughputItemsPerSecond => Some(value),
            Metric::MemoryPeakMb | Metric::PowerW | Metric::LoadMs => None,
        };
        let pairs: Vec<(f64, f64)> = outcomes
            .iter()
            .map(|outcome| {
                let TablePrediction { row, log, .. } = outcome.prediction;
                Some((per_second(row, self.data.value(row, log))?, per_second(row, self.truth(row))?))
            })
            .collect::<Option<_>>()?;
        let (left, right): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        Some(correlation(&ranks(&left), &ranks(&right)))
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}

fn percent<T>(values: &[T], holds: impl Fn(&T) -> bool) -> f64 {
    100.0 * values.iter().filter(|value| holds(value)).count() as f64 / values.len() as f64
}

/// Ranks from 0; equal values share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let value = values[order[start]];
        let end = start + order[start..].iter().take_while(|row| values[**row].total_cmp(&value).is_eq()).count();
        for row in &order[start..end] {
            ranks[*row] = (start + end - 1) as f64 / 2.0;
        }
        start = end;
    }
    ranks
}

fn correlation(left: &[f64], right: &[f64]) -> f64 {
    let (mean_left, mean_right) = (mean(left.iter().copied()), mean(right.iter().copied()));
    let product = |a: &[f64], b: &[f64], mean_a: f64, mean_b: f64| {
        a.iter().zip(b).map(|(x, y)| (x - mean_a) * (y - mean_b)).sum::<f64>()
    };
    product(left, right, mean_left, mean_right)
        / (product(left, left, mean_left, mean_left) * product(right, right, mean_right, mean_right)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_share_ties_and_correlate() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [2.5, 0.0, 2.5, 1.0]);
        let correlate = |left: &[f64], right: &[f64]| correlation(&ranks(left), &ranks(right));
        assert!((correlate(&[1.0, 2.0, 3.0], &[10.0, 100.0, 1000.0]) - 1.0).abs() < 1e-12);
        assert!((correlate(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]) + 1.0).abs() < 1e-12);
    }
}
