//! What predictors must be better than: physics alone is a ratio of 1; the nearest measurement of the same model is
//! the other.

use std::collections::HashMap;

use super::data::TableData;

/// The log ratio of the training row of the same model that is nearest in device, configuration and batch; 0, so the
/// roofline, where the model was not measured.
pub(crate) fn nearest_same_model(data: &TableData, training: &[usize], rows: &[usize]) -> Vec<f64> {
    let mut of_model: HashMap<usize, Vec<usize>> = HashMap::new();
    for row in training {
        of_model.entry(data.models.of_row[*row]).or_default().push(*row);
    }
    let (flops, bandwidth) = (data.column("log_flops"), data.column("log_bytes_per_s"));
    let distance = |a: usize, b: usize| {
        let (left, right) = (data.row(a), data.row(b));
        let differ = left.class().iter().zip(right.class()).filter(|(left, right)| **left != *right).count();
        let peaks = f64::from((flops[a] - flops[b]).abs() + (bandwidth[a] - bandwidth[b]).abs());
        differ as f64 + peaks + (left.batch_size / right.batch_size).ln().abs()
    };
    rows.iter()
        .map(|row| {
            let others = of_model.get(&data.models.of_row[*row]).into_iter().flatten();
            let nearest = others.min_by(|a, b| distance(*row, **a).total_cmp(&distance(*row, **b)));
            nearest.map_or(0.0, |nearest| data.target(*nearest))
        })
        .collect()
}
