//! What a training says of itself: errors on rows that were held out, by what of them was new.

use messages::Metric;

use super::data::TableData;
use crate::{Evaluation, Grouping, calibration::median};

/// The error of a row that its boosters did not see.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeldOut {
    pub(crate) row: usize,
    /// Predicted minus true, as a log.
    pub(crate) error: f64,
    /// Half-width of its interval, calibrated on other rows.
    pub(crate) half_width: f64,
}

/// Evaluates the table's metric, and throughput beside latency: a log error of latency is that of throughput with the
/// sign turned. Nothing is said of no rows.
pub(crate) fn evaluations(data: &TableData, grouping: Grouping, folds: usize, held: &[HeldOut]) -> Vec<Evaluation> {
    if held.is_empty() {
        return Vec::new();
    }
    let metrics: &[Metric] = match data.metric() {
        Metric::LatencyMs | Metric::ThroughputItemsPerSecond => &[Metric::LatencyMs, Metric::ThroughputItemsPerSecond],
        Metric::MemoryPeakMb => &[Metric::MemoryPeakMb],
        Metric::PowerW => &[Metric::PowerW],
        Metric::LoadMs => &[Metric::LoadMs],
    };
    metrics.iter().map(|metric| evaluation(data, *metric, grouping, folds, held)).collect()
}

fn evaluation(data: &TableData, metric: Metric, grouping: Grouping, folds: usize, held: &[HeldOut]) -> Evaluation {
    let sign = if metric == Metric::ThroughputItemsPerSecond { -1.0 } else { 1.0 };
    let ape_pct = |log_error: f64| 100.0 * ((sign * log_error).exp() - 1.0).abs();
    let count = held.len() as f64;
    let mean = |apes: &mut dyn Iterator<Item = f64>| apes.sum::<f64>() / count;
    let covered = held.iter().filter(|held| held.error.abs() <= held.half_width).count();
    let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let middle = |values: &mut dyn Iterator<Item = f64>| median(values).unwrap_or(f64::MAX);
    Evaluation {
        metric,
        grouping,
        rows: small(held.len()),
        folds: small(folds),
        mape_pct: mean(&mut held.iter().map(|held| ape_pct(held.error))),
        median_ape_pct: middle(&mut held.iter().map(|held| ape_pct(held.error))),
        roofline_mape_pct: mean(&mut held.iter().map(|held| ape_pct(-data.target(held.row)))),
        interval_90_coverage_pct: 100.0 * covered as f64 / count,
        // Half of (e^h − e^−h), the interval's ends over its value.
        interval_90_half_width_median_pct: middle(&mut held.iter().map(|held| 100.0 * held.half_width.sinh())),
    }
}
