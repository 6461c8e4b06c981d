//! The other devices that one could take for a model: what makes a measurement matter to a recommendation.

use std::collections::HashMap;

use features::MeasuredRow;
use predictors::{TableData, TablePrediction};

/// The latency of each model, batch and input size on the fastest other device, in milliseconds, however it runs there.
#[derive(Debug, Default)]
pub(crate) struct Rivals(HashMap<Work, f64>);

/// Model, batch size and image size.
type Work = (String, u64, Option<u64>);

fn work(row: &MeasuredRow) -> Work {
    (row.model.clone(), row.batch_size.to_bits(), row.image_size.map(f64::to_bits))
}

impl Rivals {
    /// Of what was measured in `rows`.
    pub(crate) fn fastest(data: &TableData, rows: &[usize]) -> Self {
        let mut fastest: HashMap<Work, f64> = HashMap::new();
        for row in rows {
            let latency_ms = data.measured_value(*row).expect("every row was measured");
            let known = fastest.entry(work(&data.rows()[*row])).or_insert(latency_ms);
            *known = known.min(latency_ms);
        }
        Self(fastest)
    }

    /// `None` where no other device was measured.
    pub(crate) fn of(&self, row: &MeasuredRow) -> Option<f64> {
        self.0.get(&work(row)).copied()
    }

    /// By how many percent the recommended device takes longer than the fastest, on average over what rivals can do too:
    /// recommended is the device itself where it is predicted to be faster than its rival was measured.
    pub(crate) fn mean_loss_pct(&self, data: &TableData, predictions: &[TablePrediction]) -> f64 {
        let loss = |prediction: &TablePrediction| {
            let rival_ms = self.of(&data.rows()[prediction.row])?;
            let own_ms = data.measured_value(prediction.row).expect("every row was measured");
            let recommended_ms = if data.predicted_value(prediction) < rival_ms { own_ms } else { rival_ms };
            Some(recommended_ms / own_ms.min(rival_ms) - 1.0)
        };
        let losses: Vec<f64> = predictions.iter().filter_map(loss).collect();
        100.0 * losses.iter().sum::<f64>() / losses.len() as f64
    }
}
