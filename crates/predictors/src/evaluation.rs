//! Errors and coverage on rows that the boosters did not train on.

use std::{fmt, str::FromStr};

use messages::{Metric, MetricEvaluation, UnknownWord};

use crate::calibration::{OutOfFold, cross_calibrated_half_widths, median};

/// What rows of one fold have in common, so what was new to the boosters that were asked about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grouping {
    /// The configuration and the device: its other configurations were seen.
    Configuration,
    /// The model: nothing of it was seen. For tables the whole family was left out.
    Model,
    /// The device: nothing that ran on it was seen.
    Device,
}

impl Grouping {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Model => "model",
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
        match text {
            "configuration" => Ok(Self::Configuration),
            "model" => Ok(Self::Model),
            "device" => Ok(Self::Device),
            _ => Err(UnknownWord {
                kind: "grouping",
                found: text.to_owned(),
                known: "configuration, model, device".to_owned(),
            }),
        }
    }
}

/// One metric's errors out of fold; percentages of the measured value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// Which metric.
    pub metric: Metric,
    /// What was new to the boosters.
    pub grouping: Grouping,
    /// Rows evaluated, each once.
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

/// Evaluates a metric on rows of which there is at least one.
///
/// For `throughput_items_per_second` the rows are those of latency with the measured throughput's latency as target:
/// a log error of latency is that of throughput with the sign turned.
pub(crate) fn evaluate(metric: Metric, grouping: Grouping, rows: &[OutOfFold]) -> Evaluation {
    let sign = if metric == Metric::ThroughputItemsPerSecond { -1.0 } else { 1.0 };
    let ape_pct = |log_error: f64| 100.0 * ((sign * log_error).exp() - 1.0).abs();
    let count = rows.len() as f64;
    let apes: Vec<f64> = rows.iter().map(|row| ape_pct(row.error())).collect();
    let half_widths = cross_calibrated_half_widths(rows);
    let covered = rows.iter().zip(&half_widths).filter(|(row, half_width)| row.error().abs() <= **half_width).count();
    let count_u32 = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Evaluation {
        metric,
        grouping,
        rows: count_u32(rows.len()),
        folds: count_u32(rows.iter().map(|row| row.fold + 1).max().unwrap_or(0)),
        mape_pct: apes.iter().sum::<f64>() / count,
        median_ape_pct: median(apes.iter().copied()).unwrap_or(f64::NAN),
        roofline_mape_pct: rows.iter().map(|row| ape_pct(-row.target)).sum::<f64>() / count,
        interval_90_coverage_pct: 100.0 * covered as f64 / count,
        // Half of (e^h − e^−h), the interval's ends over its value.
        interval_90_half_width_median_pct: median(half_widths.iter().map(|width| 100.0 * width.sinh()))
            .unwrap_or(f64::NAN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boosters::MeanAndSpread;

    #[test]
    fn percentages_are_of_the_measured_value() {
        // Predicted twice the truth in every row, the truth being e times the roofline.
        let row =
            |fold| OutOfFold { fold, target: 1.0, predicted: MeanAndSpread { mean: 1.0 + 2_f64.ln(), spread: 0.1 } };
        let rows: Vec<_> = (0..10).map(|index| row(index % 2)).collect();
        let found = evaluate(Metric::LatencyMs, Grouping::Model, &rows);
        assert!((found.mape_pct - 100.0).abs() < 1e-9 && (found.median_ape_pct - 100.0).abs() < 1e-9, "{found:?}");
        assert!((found.roofline_mape_pct - 100.0 * (1.0 - (-1_f64).exp())).abs() < 1e-9, "{found:?}");
        assert!((found.interval_90_coverage_pct - 100.0).abs() < 1e-9, "{found:?}");
        assert!((found.interval_90_half_width_median_pct - 75.0).abs() < 1e-9, "(2 − 1/2) / 2: {found:?}");
        assert_eq!((found.rows, found.folds), (10, 2));
        let throughput = evaluate(Metric::ThroughputItemsPerSecond, Grouping::Model, &rows);
        assert!((throughput.mape_pct - 50.0).abs() < 1e-9, "half the truth: {throughput:?}");
    }
}
