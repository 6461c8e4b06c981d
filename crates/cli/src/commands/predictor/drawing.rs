//! Predictions as a picture: over the batch size, as bars, or models against devices.

use std::{collections::BTreeSet, path::Path};

use messages::Metric;

use super::predict::{Matrix, PredictionRow};
use crate::plots::{Band, Bar, Bars, Cell, Heatmap, Lines, Plot, Shading};

/// One prediction with its interval, and the line or bar that it belongs to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DrawnPrediction {
    /// The device, and what else tells lines apart.
    pub(super) name: String,
    pub(super) batch_size: u32,
    pub(super) value: f64,
    pub(super) lower: f64,
    pub(super) upper: f64,
    pub(super) confidence: Option<f64>,
}

/// Draws one metric of one model: lines over the batch size where there are several sizes, else bars.
///
/// # Errors
///
/// As [`Plot::write`].
pub(super) fn draw(model: &str, metric: Metric, predictions: &[DrawnPrediction], path: &Path) -> anyhow::Result<()> {
    let batch_sizes: BTreeSet<u32> = predictions.iter().map(|prediction| prediction.batch_size).collect();
    if batch_sizes.len() > 1 {
        return lines(model, metric, predictions).write(path);
    }
    let batch = batch_sizes.first().map_or_else(String::new, |batch_size| format!(", batch {batch_size}"));
    let bar = |prediction: &DrawnPrediction| Bar {
        name: prediction.name.clone(),
        value: prediction.value,
        interval: Some((prediction.lower, prediction.upper)),
        note: prediction.confidence.map_or_else(String::new, |sure| format!("confidence {:.0} %", 100.0 * sure)),
    };
    let bars = Bars {
        title: format!("{model}{batch}: {}, with 90 % intervals", name(metric)),
        axis: axis(metric).to_owned(),
        rows: predictions.iter().map(bar).collect(),
    };
    bars.write(path)
}

/// Draws one metric of several models as a heatmap.
///
/// # Errors
///
/// As [`Plot::write`].
pub(super) fn draw_models(metric: Metric, matrix: &Matrix<'_>, path: &Path) -> anyhow::Result<()> {
    heatmap(metric, matrix).write(path)
}

fn heatmap(metric: Metric, matrix: &Matrix<'_>) -> Heatmap {
    let cell = |row: Option<&PredictionRow>| match row {
        Some(PredictionRow { impossible: Some(_), .. }) => Cell::Barred("does not fit"),
        Some(PredictionRow { predicted: Some(value), .. }) => Cell::Number(*value),
        _ => Cell::Empty,
    };
    let shared = matrix.shared.as_ref().map_or_else(String::new, |shared| format!(", {shared}"));
    let mut title = format!("{}{shared}", name(metric));
    title[..1].make_ascii_uppercase();
    Heatmap {
        title,
        unit: axis(metric).to_owned(),
        empty: "not asked".to_owned(),
        shading: Shading::Logarithmic,
        columns: matrix.columns.clone(),
        rows: matrix
            .lines
            .iter()
            .map(|(name, cells)| (name.clone(), cells.iter().copied().map(cell).collect()))
            .collect(),
    }
}

fn lines(model: &str, metric: Metric, predictions: &[DrawnPrediction]) -> Lines {
    let mut series: Vec<Band> = Vec::new();
    for DrawnPrediction { name, batch_size, value, lower, upper, .. } in predictions {
        let point = (f64::from(*batch_size), *value, *lower, *upper);
        match series.iter_mut().find(|line| line.name == *name) {
            Some(line) => line.points.push(point),
            None => series.push(Band { name: name.clone(), points: vec![point] }),
        }
    }
    for line in &mut series {
        line.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    Lines {
        title: format!("{model}: {} over batch size, with 90 % intervals", name(metric)),
        x: "batch size".to_owned(),
        y: axis(metric).to_owned(),
        series,
    }
}

const fn name(metric: Metric) -> &'static str {
    match metric {
        Metric::LatencyMs => "predicted latency",
        Metric::ThroughputItemsPerSecond => "predicted throughput",
        Metric::MemoryPeakMb => "predicted peak memory",
        Metric::PowerW => "predicted power",
        Metric::LoadMs => "predicted load time",
    }
}

const fn axis(metric: Metric) -> &'static str {
    match metric {
        Metric::LatencyMs => "latency, ms per batch",
        Metric::ThroughputItemsPerSecond => "throughput, items per second",
        Metric::MemoryPeakMb => "peak memory, MB",
        Metric::PowerW => "power, W",
        Metric::LoadMs => "load time, ms",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_per_name_in_the_order_of_batch_sizes() {
        let point = |name: &str, batch_size: u32| DrawnPrediction {
            name: name.to_owned(),
            batch_size,
            value: f64::from(batch_size),
            lower: 0.5,
            upper: 64.0,
            confidence: None,
        };
        let lines = lines("m", Metric::LatencyMs, &[point("a", 8), point("b", 1), point("a", 2)]);
        let found: Vec<_> =
            lines.series.iter().map(|line| (line.name.as_str(), line.points.iter().map(|p| p.0).collect())).collect();
        assert_eq!(found, [("a", vec![2.0, 8.0]), ("b", vec![1.0])]);
    }
}
