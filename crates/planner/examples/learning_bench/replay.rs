//! The published table, cut into devices.

use std::{error::Error, path::Path};

use features::{DeviceTable, MeasuredRow, MeasuredTable, OperatorTable, read_devices, read_operators};
use messages::Metric;
use planner::{Constraints, Landscape, Outlook, Pool, Strategy, decision_value, select};
use predictors::{TableData, TablePrediction};

use crate::rivals::Rivals;

/// Two-sided 90 % quantile of the normal distribution.
const NORMAL_90: f64 = 1.645;

/// Measurements with what describes them.
pub(crate) struct Replay {
    pub(crate) rows: Vec<MeasuredRow>,
    pub(crate) devices: DeviceTable,
    pub(crate) operators: OperatorTable,
}

impl Replay {
    pub(crate) fn read(folder: &Path) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            rows: MeasuredTable::read(&folder.join("measurements.csv.gz"))?.rows,
            devices: read_devices(&folder.join("devices.csv"))?,
            operators: read_operators(&folder.join("operators.jsonl.gz"))?,
        })
    }

    /// Names of the GPUs, in alphabetical order.
    pub(crate) fn gpus(&self) -> Vec<String> {
        let on_gpu = self.rows.iter().filter(|row| row.platform.as_deref() == Some("cuda"));
        let mut names: Vec<String> = on_gpu.map(|row| row.device.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    pub(crate) fn data(&self, rows: Vec<MeasuredRow>) -> Result<TableData, Box<dyn Error>> {
        Ok(TableData::new(rows, &self.devices, &self.operators, Metric::LatencyMs)?)
    }

    /// Lets a strategy choose `count` of `open` rows of `data`, after those `measured`.
    ///
    /// `predicted` is of the open rows, in their order; `None` before anything can be predicted. `rivals` are the other
    /// devices that one could take.
    pub(crate) fn choose(
        &self,
        data: &TableData,
        (open, measured): (&[usize], &[usize]),
        predicted: Option<&[TablePrediction]>,
        rivals: &Rivals,
        (strategy, count, seed): (Strategy, usize, u64),
    ) -> Result<Vec<usize>, Box<dyn Error>> {
        let rows: Vec<MeasuredRow> = open.iter().chain(measured).map(|row| data.rows()[*row].clone()).collect();
        let landscape = Landscape::describe(&rows, &self.devices, &self.operators)?;
        let outlook = |(index, row): (usize, &MeasuredRow)| {
            let predicted = predicted.map(|predicted| predicted[index]);
            let deviation_log = predicted.map_or(f64::NAN, |predicted| predicted.half_width / NORMAL_90);
            let value = |latency_ms: f64| {
                let predicted_ms = predicted.map_or(f64::NAN, |predicted| data.predicted_value(&predicted));
                decision_value(predicted_ms.ln(), deviation_log, latency_ms.ln())
            };
            Outlook {
                platform: row.platform.clone().unwrap_or_default(),
                device: row.device.clone(),
                model: row.model.clone(),
                deviation_log,
                spread_log: predicted.map_or(0.0, |predicted| predicted.spread),
                decision_value: rivals.of(row).map_or(0.0, value),
                ..Outlook::default()
            }
        };
        let outlooks: Vec<Outlook> = rows.iter().take(open.len()).enumerate().map(outlook).collect();
        let measured_devices: Vec<String> = rows[open.len()..].iter().map(|row| row.device.clone()).collect();
        let pool = Pool { landscape: &landscape, outlooks: &outlooks, measured_devices: &measured_devices };
        // As `propose` does before the first release.
        let strategy = match (strategy, predicted) {
            (Strategy::Random, _) | (_, Some(_)) => strategy,
            (_, None) => Strategy::Representative,
        };
        let selection = select(strategy, pool, count, &Constraints::default(), seed);
        Ok(selection.picks.iter().map(|pick| open[pick.candidate]).collect())
    }
}

/// The mean error of predictions, in percent of what was measured.
pub(crate) fn mean_error_pct(data: &TableData, predictions: &[TablePrediction]) -> f64 {
    let error = |prediction: &TablePrediction| {
        let measured = data.measured_value(prediction.row).expect("every row was measured");
        (data.predicted_value(prediction) / measured - 1.0).abs()
    };
    100.0 * predictions.iter().map(error).sum::<f64>() / predictions.len() as f64
}
