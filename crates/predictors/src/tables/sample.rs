//! Some of the rows that predictors learned from, kept with them for when they learn more: what they know must not be
//! forgotten where nothing is new, and whoever has the new rows may not have the old ones.

use features::MeasuredRow;
use serde::{Deserialize, Serialize};

/// Most rows that are kept: what they cost must not grow with the tables.
const ROWS_MAX: usize = 2_000;

/// Rows, each as likely to be among them as any other that was learned from.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    rows: Vec<Kept>,
    /// How many rows were learned from.
    learned: usize,
    seed: u64,
}

impl Sample {
    pub(super) fn of(rows: &[MeasuredRow], seed: u64) -> Self {
        let mut sample = Self { rows: Vec::new(), learned: 0, seed };
        sample.add(rows);
        sample
    }

    /// Adds rows that were learned from (algorithm R, Vitter 1985, <https://doi.org/10.1145/3147.3165>).
    pub(super) fn add(&mut self, rows: &[MeasuredRow]) {
        let mut random = fastrand::Rng::with_seed(self.seed ^ self.learned as u64);
        for row in rows {
            self.learned += 1;
            if self.rows.len() < ROWS_MAX {
                self.rows.push(Kept::from(row));
            } else if let Some(place) = self.rows.get_mut(random.usize(..self.learned)) {
                *place = Kept::from(row);
            }
        }
    }

    /// So many of them, or all if there are fewer.
    pub(super) fn some(&self, count: usize) -> Vec<MeasuredRow> {
        let count = count.min(self.rows.len());
        let chosen = fastrand::Rng::with_seed(self.seed).choose_multiple(self.rows.iter(), count);
        chosen.into_iter().map(MeasuredRow::from).collect()
    }
}

/// A row as it is saved.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    model: String,
    device: String,
    texts: [Option<String>; 7],
    batch_size: f64,
    numbers: [Option<f64>; 10],
}

impl From<&MeasuredRow> for Kept {
    fn from(row: &MeasuredRow) -> Self {
        Self {
            model: row.model.clone(),
            device: row.device.clone(),
            texts: row.texts().map(|(_, text)| text.map(str::to_owned)),
            batch_size: row.batch_size,
            numbers: row.numbers().map(|(_, number)| number),
        }
    }
}

impl From<&Kept> for MeasuredRow {
    fn from(Kept { model, device, texts, batch_size, numbers }: &Kept) -> Self {
        let [family, platform, backend, backend_version, compiler, precision, layout] = texts.clone();
        let [image_size, sequence_length, threads, params_m, gmacs, activations_m, measured @ ..] = *numbers;
        let [latency_ms, throughput_items_per_second, memory_peak_mb, power_w] = measured;
        Self {
            model: model.clone(),
            family,
            device: device.clone(),
            platform,
            backend,
            backend_version,
            compiler,
            precision,
            layout,
            batch_size: *batch_size,
            image_size,
            sequence_length,
            threads,
            params_m,
            gmacs,
            activations_m,
            latency_ms,
            throughput_items_per_second,
            memory_peak_mb,
            power_w,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn rows(numbers: std::ops::Range<usize>) -> Vec<MeasuredRow> {
        let row = |number: usize| MeasuredRow { batch_size: number as f64, ..MeasuredRow::default() };
        numbers.map(row).collect()
    }

    #[test]
    fn a_row_is_given_back_as_it_was_learned_from() {
        let text = |text: &str| Some(text.to_owned());
        let row = MeasuredRow {
            model: "m".to_owned(),
            family: text("f"),
            device: "d".to_owned(),
            platform: text("cpu"),
            backend: text("onnxruntime"),
            backend_version: text("1"),
            compiler: text("firefox"),
            precision: text("fp32"),
            layout: text("nchw"),
            batch_size: 2.0,
            image_size: Some(3.0),
            sequence_length: Some(4.0),
            threads: Some(5.0),
            params_m: Some(6.0),
            gmacs: Some(7.0),
            activations_m: Some(8.0),
            latency_ms: Some(9.0),
            throughput_items_per_second: Some(10.0),
            memory_peak_mb: Some(11.0),
            power_w: None,
        };
        assert_eq!(Sample::of(std::slice::from_ref(&row), 1).some(5), [row]);
    }

    #[test]
    fn every_row_is_as_likely_whenever_it_came() {
        let mut sample = Sample::of(&rows(0..4_000), 1);
        sample.add(&rows(4_000..8_000));
        let kept: Vec<f64> = sample.some(usize::MAX).iter().map(|row| row.batch_size).collect();
        let distinct: BTreeSet<u64> = kept.iter().map(|number| number.to_bits()).collect();
        assert_eq!(distinct.len(), ROWS_MAX);
        let early = kept.iter().filter(|number| **number < 4_000.0).count();
        // 1,000 are expected, with a standard deviation of 19.
        assert!((920..1_080).contains(&early), "{early}");
        assert_eq!(sample.some(10).len(), 10);
    }
}
