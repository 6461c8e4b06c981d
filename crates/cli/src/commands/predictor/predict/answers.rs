//! Predictions as people see them: a list where one configuration was asked about, else a matrix per metric.

use super::{
    PredictionRow,
    matrix::{Matrix, distinct},
};
use crate::output::{self, Format};

/// Prints predictions as JSON or as tables.
pub(super) fn print(format: Format, rows: &[PredictionRow]) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::print(&serde_json::to_string_pretty(rows)?);
    }
    let configurations = distinct(rows.iter().map(|row| &row.configuration));
    if configurations.len() <= 1 {
        return output::print(&list(rows).to_string());
    }
    for (index, metric) in distinct(rows.iter().map(|row| &row.metric)).into_iter().enumerate() {
        let of_metric: Vec<&PredictionRow> = rows.iter().filter(|row| row.metric == *metric).collect();
        let gap = if index == 0 { "" } else { "\n" };
        output::print(&format!("{gap}{metric}, with its 90 % interval\n{}", matrix(&of_metric)))?;
    }
    Ok(())
}

fn list(rows: &[PredictionRow]) -> comfy_table::Table {
    let mut table = output::table(["configuration", "metric", "predicted", "90 % interval", "confidence"]);
    for row in rows {
        table.add_row([
            row.configuration.clone(),
            row.metric.clone(),
            row.impossible.clone().unwrap_or_else(|| output::number(row.predicted)),
            interval(row).unwrap_or_else(|| "–".to_owned()),
            row.confidence.map_or_else(|| "–".to_owned(), |confidence| format!("{:.0} %", 100.0 * confidence)),
        ]);
    }
    table
}

fn matrix(rows: &[&PredictionRow]) -> comfy_table::Table {
    let matrix = Matrix::of(rows);
    let mut table = output::table::<String, 0>([]);
    let corner = matrix.shared.unwrap_or_else(|| "model".to_owned());
    table.set_header([corner].into_iter().chain(matrix.columns));
    for (name, cells) in matrix.lines {
        let cells = cells.into_iter().map(|row| row.map_or_else(|| "–".to_owned(), cell));
        table.add_row([name].into_iter().chain(cells));
    }
    table
}

fn cell(row: &PredictionRow) -> String {
    match (&row.impossible, interval(row)) {
        (None, Some(interval)) => format!("{} ({interval})", output::number(row.predicted)),
        (None, None) => output::number(row.predicted),
        (Some(_), _) => "does not fit".to_owned(),
    }
}

fn interval(row: &PredictionRow) -> Option<String> {
    let (lower, upper) = row.lower.zip(row.upper)?;
    Some(format!("{} – {}", output::number(Some(lower)), output::number(Some(upper))))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn row(device: &str, batch_size: u32, predicted: Option<f64>) -> PredictionRow {
        PredictionRow {
            release: "r000001-00000000".to_owned(),
            model: "resnet50".to_owned(),
            device: device.to_owned(),
            platform: Some("cuda".to_owned()),
            browser: None,
            configuration: format!("resnet50 {device} batch {batch_size}"),
            precision: Some("amp".to_owned()),
            batch_size,
            threads: None,
            metric: "latency_ms".to_owned(),
            predicted,
            lower: predicted.map(|value| value / 2.0),
            upper: predicted.map(|value| value * 2.0),
            confidence: Some(0.9),
            novelty: "configuration",
            shots: None,
            interval_rests_on: 100,
            rests_on_few: false,
            known_model: true,
            known_device: true,
            outside: Vec::new(),
            impossible: predicted.is_none().then(|| "needs too much".to_owned()),
        }
    }

    #[test]
    fn several_configurations_make_a_matrix() {
        let rows = [row("A", 1, Some(10.0)), row("A", 8, Some(20.0)), row("B", 1, Some(30.0)), row("B", 8, None)];
        let text = matrix(&rows.iter().collect::<Vec<_>>()).to_string();
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(lines[0], ["resnet50", "batch 1", "batch 8"]);
        assert_eq!(lines[2], ["A amp", "10.00 (5.000 – 20.00)", "20.00 (10.00 – 40.00)"]);
        assert_eq!(lines[3], ["B amp", "30.00 (15.00 – 60.00)", "does not fit"]);
    }
}
