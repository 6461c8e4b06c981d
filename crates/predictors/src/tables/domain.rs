//! The known domain: what was measured lies between which values, and how far outside a question is.
//!
//! Trees answer beyond the last value that they saw as they do at it, so an interval that was calibrated inside the
//! domain promises too much outside. There it widens: for each standard deviation of a feature that the question is
//! outside, the log ratio may drift by one of its own standard deviations.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::data::TableData;

/// The smallest standard deviation of a feature, all being logarithms: doubling what was always the same is a step.
const DEVIATION_MIN: f32 = std::f32::consts::LN_2;
/// Steps outside that are not worth mentioning: the largest model of one table is no border.
const STEPS_MIN: f64 = 0.1;

/// Features that have a domain, each with its name for people.
const BORDERED: &[Bordered] = &[
    bordered("log_batch_size", "batch size", Of::Configuration, 0.0),
    bordered("log_image_size", "image size", Of::Configuration, 0.0),
    bordered("log_sequence_length", "sequence length", Of::Configuration, 0.0),
    bordered("log_threads", "number of threads", Of::Configuration, 0.0),
    bordered("log_macs_per_item", "number of MACs per item", Of::Graph, 1.0),
    bordered("log_elements_per_item", "number of activation elements per item", Of::Graph, 1.0),
    bordered("log_weights", "number of weights", Of::Graph, 1.0),
    bordered("log_operators", "number of operators", Of::Graph, 1.0),
    bordered("log_flops", "peak of arithmetic in operations/s", Of::Device, 0.0),
    bordered("log_bytes_per_s", "memory bandwidth in bytes/s", Of::Device, 0.0),
];

/// A feature that has a domain.
struct Bordered {
    feature: &'static str,
    name: &'static str,
    of: Of,
    /// What was added before the logarithm.
    added: f64,
}

/// Whose property a feature is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Configuration,
    Graph,
    Device,
}

const fn bordered(feature: &'static str, name: &'static str, of: Of, added: f64) -> Bordered {
    Bordered { feature, name, of, added }
}

/// Between which values each feature was measured, on each device and on all.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Domain {
    of_device: HashMap<usize, Vec<Seen>>,
    /// Devices of which so little was measured that what was measured on all counts for them.
    hardly_measured: HashSet<usize>,
    overall: Vec<Seen>,
    /// Standard deviation of each feature.
    deviations: Vec<f32>,
}

/// What was measured of one feature.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Seen {
    range: Option<Range>,
    /// Whether it was measured without, too: a text model has no image size.
    without: bool,
}

impl Seen {
    fn note(&mut self, value: f32) {
        if value.is_nan() {
            self.without = true;
        } else {
            widen(&mut self.range, value);
        }
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Range {
    low: f32,
    high: f32,
}

/// Where a question lies outside.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Outside {
    /// How many standard deviations, all features together.
    pub(crate) steps: f64,
    /// What is outside, for people.
    pub(crate) reasons: Vec<String>,
}

impl Outside {
    /// Notes one more reason.
    pub(crate) fn add(&mut self, steps: f64, reason: String) {
        self.steps = self.steps.hypot(steps);
        self.reasons.push(reason);
    }
}

impl Domain {
    pub(crate) fn of(data: &TableData, hardly_measured: HashSet<usize>) -> Self {
        let columns: Vec<_> = BORDERED.iter().map(|bordered| data.column(bordered.feature)).collect();
        let deviation = |column: &ndarray::ArrayView1<'_, f32>| {
            let known: Vec<f32> = column.iter().copied().filter(|value| !value.is_nan()).collect();
            let mean = known.iter().sum::<f32>() / known.len().max(1) as f32;
            let variance = known.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / known.len().max(1) as f32;
            variance.sqrt().max(DEVIATION_MIN)
        };
        let deviations = columns.iter().map(deviation).collect();
        let overall = vec![Seen::default(); columns.len()];
        let mut domain = Self { of_device: HashMap::new(), hardly_measured, overall, deviations };
        domain.extend(data);
        domain
    }

    /// Widens the domain by later rows.
    pub(crate) fn extend(&mut self, data: &TableData) {
        let columns: Vec<_> = BORDERED.iter().map(|bordered| data.column(bordered.feature)).collect();
        for (row, device) in data.devices.of_row.iter().enumerate() {
            let own = self.of_device.entry(*device).or_insert_with(|| vec![Seen::default(); columns.len()]);
            for (index, column) in columns.iter().enumerate() {
                own[index].note(column[row]);
                self.overall[index].note(column[row]);
            }
        }
    }

    /// Where each question lies outside, by what was measured on its device, or if that is new on all.
    pub(crate) fn outside(&self, questions: &TableData) -> Vec<Outside> {
        let columns: Vec<_> = BORDERED.iter().map(|bordered| questions.column(bordered.feature)).collect();
        let of_row = |(row, device): (usize, &usize)| {
            let known = self.of_device.get(device);
            let seen = known.filter(|_| !self.hardly_measured.contains(device)).unwrap_or(&self.overall);
            let mut outside = Outside::default();
            let mut is_graph_missing = false;
            for (index, bordered) in BORDERED.iter().enumerate() {
                // A known device's peaks are what they are.
                if bordered.of == Of::Device && known.is_some() {
                    continue;
                }
                let value = columns[index][row];
                match seen[index].range {
                    Some(_) if value.is_nan() && bordered.of == Of::Graph => is_graph_missing = true,
                    Some(_) if value.is_nan() && seen[index].without => {}
                    Some(_) if value.is_nan() => {
                        outside.add(1.0, format!("it has no {}, as all that was measured has", bordered.name));
                    }
                    None if !value.is_nan() => {
                        let value = number(value, bordered.added);
                        outside.add(1.0, format!("{} {value}: none was measured", bordered.name));
                    }
                    Some(range) => self.compare(index, value, range, &mut outside),
                    None => {}
                }
            }
            if is_graph_missing {
                outside.add(1.0, "the model's operators are unknown".to_owned());
            }
            outside
        };
        questions.devices.of_row.iter().enumerate().map(of_row).collect()
    }

    fn compare(&self, index: usize, value: f32, range: Range, outside: &mut Outside) {
        let beyond = (range.low - value).max(value - range.high).max(0.0);
        let steps = f64::from(beyond / self.deviations[index]);
        if steps > STEPS_MIN {
            let bordered = &BORDERED[index];
            let [value, low, high] = [value, range.low, range.high].map(|value| number(value, bordered.added));
            let measured = if low == high { low } else { format!("{low} to {high}") };
            outside.add(steps, format!("{} {value}: measured was {measured}", bordered.name));
        }
    }
}

fn widen(range: &mut Option<Range>, value: f32) {
    let known = range.get_or_insert(Range { low: value, high: value });
    known.low = known.low.min(value);
    known.high = known.high.max(value);
}

/// What a logarithm is of, with four significant digits.
fn number(log: f32, added: f64) -> String {
    let value = f64::from(log).exp() - added;
    if value >= 1e5 { format!("{value:.3e}") } else { format!("{}", round_to_four_digits(value)) }
}

fn round_to_four_digits(value: f64) -> f64 {
    if value.abs() < 1e-12 {
        return 0.0;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a decimal exponent is small")]
    let scale = 10_f64.powi(4 - value.abs().log10().ceil() as i32);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use features::{DeviceTable, MeasuredRow, ModelOperators, OperatorTable};
    use messages::{Metric, OperatorCost, OperatorKind};

    use super::*;
    use crate::tables::names::Names;

    fn row(device: &str, batch_size: f64) -> MeasuredRow {
        MeasuredRow {
            model: "m".to_owned(),
            device: device.to_owned(),
            batch_size,
            image_size: Some(224.0),
            latency_ms: Some(1.0),
            ..MeasuredRow::default()
        }
    }

    /// What has no image.
    fn bare(device: &str) -> MeasuredRow {
        MeasuredRow { image_size: None, ..row(device, 1.0) }
    }

    fn operators() -> OperatorTable {
        let operator = OperatorCost {
            kind: OperatorKind::Conv,
            macs: 1_000_000,
            activation_elements: 1_000,
            weight_elements: 100,
            kernel_size: 3,
            count: 1,
        };
        OperatorTable::from([(
            "m".to_owned(),
            vec![ModelOperators {
                image_size: Some(224.0),
                sequence_length: None,
                activation_peak_elements: None,
                operators: vec![operator],
            }],
        )])
    }

    fn check(question: MeasuredRow, reasons: &[&str], steps: std::ops::RangeInclusive<f64>) {
        check_with(&HashSet::new(), question, reasons, steps);
    }

    fn check_with(
        hardly_measured: &HashSet<usize>,
        question: MeasuredRow,
        reasons: &[&str],
        steps: std::ops::RangeInclusive<f64>,
    ) {
        let table: Vec<MeasuredRow> = vec![row("x", 32.0), row("x", 512.0), row("y", 1.0), row("z", 1.0), bare("z")];
        let names = Names::of(&table);
        let data = TableData::new(table, &DeviceTable::new(), &operators(), Metric::LatencyMs).expect("measured");
        let asked = TableData::questions(vec![question], &DeviceTable::new(), &operators(), &names).expect("asked");
        let [outside] = &Domain::of(&data, hardly_measured.clone()).outside(&asked)[..] else { panic!("one question") };
        assert_eq!(outside.reasons, reasons);
        assert!(steps.contains(&outside.steps), "{outside:?}");
    }

    #[test]
    fn inside_is_what_was_measured_on_the_device() {
        check(row("x", 64.0), &[], 0.0..=0.0);
        check(row("x", 1.0), &["batch size 1: measured was 32 to 512"], 1.0..=3.0);
        check(row("y", 64.0), &["batch size 64: measured was 1"], 1.0..=3.0);
        check(row("new", 64.0), &[], 0.0..=0.0);
    }

    #[test]
    fn on_a_hardly_measured_device_counts_what_was_measured_on_all() {
        // `y` is the second device of the table.
        check_with(&HashSet::from([1]), row("y", 64.0), &[], 0.0..=0.0);
        let far = ["batch size 4096: measured was 1 to 512"];
        check_with(&HashSet::from([1]), row("y", 4096.0), &far, 0.3..=3.0);
    }

    #[test]
    fn what_is_missing_or_was_never_there_is_outside() {
        let question = MeasuredRow { image_size: None, sequence_length: Some(128.0), ..row("x", 64.0) };
        check(
            question,
            &["it has no image size, as all that was measured has", "sequence length 128: none was measured"],
            1.4..=1.5,
        );
        check(bare("z"), &[], 0.0..=0.0);
        check(bare("y"), &["it has no image size, as all that was measured has"], 1.0..=1.0);
        let unknown = MeasuredRow { model: "other".to_owned(), ..row("x", 64.0) };
        check(unknown, &["the model's operators are unknown"], 1.0..=1.0);
    }
}
