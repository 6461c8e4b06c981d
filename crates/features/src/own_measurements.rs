//! The measurements of our own jobs in the form of measurement tables, so that both are learned from alike, and
//! configurations in the form of questions to what was learned.

use std::{borrow::Borrow, collections::BTreeMap};

use messages::{AcceptedMeasurement, Configuration, Device, GraphCosts, OperatorCost, Precision};

use crate::{DeviceTable, MeasuredRow, ModelOperators, OperatorTable, PublishedDevice, Subject};

/// A model's name, image size and sequence length.
type SizedModel<'a> = (&'a str, Option<u32>, Option<u32>);

/// Tables made of measurements, as those that people bring.
#[derive(Debug, Clone, Default)]
pub struct OwnTables {
    /// A row per measurement, in their order.
    pub rows: Vec<MeasuredRow>,
    /// Their devices with the peaks that were measured on them.
    pub devices: DeviceTable,
    /// The operators of their models, at batch 1 in every size that was measured.
    pub operators: OperatorTable,
}

impl OwnTables {
    /// Makes tables of measurements; `family` names the family of a model, if it is known.
    pub fn of(measurements: &[impl Borrow<AcceptedMeasurement>], family: impl Fn(&str) -> Option<String>) -> Self {
        let measurements = || measurements.iter().map(Borrow::borrow);
        let described = measurements().map(|of| (&of.configuration, &of.device, &of.costs));
        let mut tables = Self::described(described);
        for (row, measurement) in tables.rows.iter_mut().zip(measurements()) {
            row.family = family(&row.model);
            row.backend_version = Some(measurement.backend_version.clone());
            row.latency_ms = positive(measurement.latency_ms);
            row.throughput_items_per_second = positive(measurement.throughput_items_per_second);
            row.memory_peak_mb = measurement.memory_peak_mb.and_then(positive);
            row.power_w = measurement.power_w.and_then(positive);
        }
        tables
    }

    /// Makes tables without a metric: rows to be asked about, in the order of the subjects.
    pub fn asked(subjects: &[Subject]) -> Self {
        Self::described(subjects.iter().map(|of| (&of.configuration, &of.device, &of.costs)))
    }

    fn described<'a>(subjects: impl Iterator<Item = (&'a Configuration, &'a Device, &'a GraphCosts)>) -> Self {
        let mut tables = Self::default();
        let mut plainest: BTreeMap<SizedModel<'a>, (&Configuration, &GraphCosts)> = BTreeMap::new();
        for (configuration, device, costs) in subjects {
            tables.rows.push(row(configuration, device, costs));
            tables.devices.entry(device.name.clone()).or_insert_with(|| PublishedDevice::from(device));
            let key = (configuration.model.name.as_str(), configuration.image_size, configuration.sequence_length);
            let kept = plainest.entry(key).or_insert((configuration, costs));
            if plainness(configuration) < plainness(kept.0) {
                *kept = (configuration, costs);
            }
        }
        for ((model, ..), (configuration, costs)) in plainest {
            tables.operators.entry(model.to_owned()).or_default().push(operators(configuration, costs));
        }
        tables
    }
}

/// Orders configurations of one model by how well their graph stands for all: one that was not quantised, since that
/// adds operators, and the smallest batch, which is nearest to one item.
const fn plainness(configuration: &Configuration) -> (bool, u32) {
    (matches!(configuration.precision, Precision::Int8 | Precision::Int4), configuration.batch_size)
}

fn row(configuration: &Configuration, device: &Device, costs: &GraphCosts) -> MeasuredRow {
    let items = f64::from(configuration.batch_size);
    MeasuredRow {
        model: configuration.model.name.clone(),
        device: device.name.clone(),
        platform: Some(configuration.platform.to_string()),
        backend: Some(configuration.backend.to_string()),
        // A table has no column for browsers; a browser's engine is what compiles WebAssembly and shaders there.
        compiler: configuration.browser.clone(),
        precision: Some(configuration.precision.to_string()),
        batch_size: items,
        image_size: configuration.image_size.map(f64::from),
        sequence_length: configuration.sequence_length.map(f64::from),
        threads: Some(f64::from(configuration.threads)),
        params_m: Some(costs.parameters as f64 / 1e6),
        gmacs: Some(costs.macs() as f64 / 1e9 / items),
        ..MeasuredRow::default()
    }
}

fn positive(value: f64) -> Option<f64> {
    (value.is_finite() && value > 0.0).then_some(value)
}

fn operators(configuration: &Configuration, costs: &GraphCosts) -> ModelOperators {
    let items = u64::from(configuration.batch_size.max(1));
    let of_one = |operator: &OperatorCost| OperatorCost {
        macs: operator.macs / items,
        activation_elements: operator.activation_elements / items,
        ..*operator
    };
    let element_bytes = if configuration.precision == Precision::Fp16 { 2.0 } else { 4.0 };
    let peak_elements = |bytes: u64| bytes as f64 / element_bytes / items as f64;
    ModelOperators {
        image_size: configuration.image_size.map(f64::from),
        sequence_length: configuration.sequence_length.map(f64::from),
        activation_peak_elements: costs.memory.map(|memory| peak_elements(memory.activation_peak_bytes)),
        operators: costs.operators.iter().map(of_one).collect(),
    }
}

impl From<&Device> for PublishedDevice {
    /// A device of our own in the form of published ones; its peaks are what was measured.
    fn from(device: &Device) -> Self {
        Self {
            platform: Some(device.platform.to_string()),
            fp32_tflops: device.peak_fp32_gflops.map(|gflops| gflops / 1e3),
            memory_bandwidth_gb_per_s: device.memory_bandwidth_gb_per_s,
            memory_gb: device.memory_mb.map(|megabytes| megabytes / 1e3),
            cores: device.compute_units.or(device.hardware_threads).map(f64::from),
            clock_ghz: device.clock_mhz.map(|megahertz| megahertz / 1e3),
            cache_mb: device.cache_l3_kb.map(|kilobytes| kilobytes / 1e3),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use messages::{JobId, RunId, Timestamp};

    use super::*;
    use crate::subject::tests::subject;

    fn measurement(batch_size: u32, latency_ms: f64) -> AcceptedMeasurement {
        let mut subject = subject();
        subject.configuration.batch_size = batch_size;
        for operator in &mut subject.costs.operators {
            operator.macs = operator.macs / 2 * u64::from(batch_size);
            operator.activation_elements = operator.activation_elements / 2 * u64::from(batch_size);
        }
        AcceptedMeasurement {
            job_id: JobId::new(),
            run_id: RunId::new(),
            measured_at: Timestamp::from_micros(0),
            configuration: subject.configuration,
            device: subject.device,
            costs: subject.costs,
            backend_version: "1.31.1".to_owned(),
            iterations: 10,
            latency_ms,
            throughput_items_per_second: f64::from(batch_size) * 1e3 / latency_ms,
            memory_peak_mb: Some(120.0),
            power_w: None,
            load_ms: 1.0,
        }
    }

    #[test]
    fn a_measurement_is_a_row_with_its_device_and_its_operators_at_batch_one() {
        let tables = OwnTables::of(&[measurement(4, 40.0), measurement(2, 24.0)], |_| Some("family".to_owned()));
        let row = &tables.rows[0];
        assert_eq!((row.batch_size, row.latency_ms, row.threads), (4.0, Some(40.0), Some(4.0)));
        assert_eq!((row.gmacs, row.family.as_deref()), (Some(1.0), Some("family")));
        assert_eq!(tables.devices["Test CPU"].fp32_tflops, Some(0.1));
        let [operators] = &tables.operators["test-model"][..] else { panic!("{:?}", tables.operators) };
        assert_eq!(operators.operators[0].macs, 500_000_000);
        assert_eq!(operators.operators[0].weight_elements, 1_000_000, "weights do not grow with the batch");
        assert_eq!(operators.activation_peak_elements, None, "nobody followed the lifetimes");
        // The base is what the roofline of the same measurement is: 40 ms compute and 12 ms bytes at batch 2.
        let base = crate::FeatureFrame::build(&tables.rows, &tables.devices, &tables.operators).expect("built");
        let found = base.base(messages::Metric::LatencyMs)[1];
        assert!((found / 52.0 - 1.0).abs() < 1e-9, "{found}");
    }

    #[test]
    fn operators_are_those_of_the_graph_that_was_not_quantised() {
        let mut quantised = measurement(2, 24.0);
        quantised.configuration.precision = Precision::Int8;
        quantised.costs.operators.truncate(1);
        let memory = messages::GraphMemory { weight_bytes: 0, activation_peak_bytes: 3_200, activation_max_bytes: 0 };
        let plain = AcceptedMeasurement {
            costs: GraphCosts { memory: Some(memory), ..measurement(8, 80.0).costs },
            ..measurement(8, 80.0)
        };
        let tables = OwnTables::of(&[quantised, plain], |_| None);
        let [operators] = &tables.operators["test-model"][..] else { panic!("{:?}", tables.operators) };
        assert_eq!((operators.operators.len(), operators.activation_peak_elements), (2, Some(100.0)));
    }

    #[test]
    fn two_browsers_are_two_classes() {
        let in_browser = |name: &str| {
            let mut measured = measurement(2, 24.0);
            measured.configuration.browser = Some(name.to_owned());
            measured
        };
        let rows = OwnTables::of(&[measurement(2, 24.0), in_browser("firefox"), in_browser("chromium")], |_| None).rows;
        assert_ne!(rows[0].class(), rows[1].class());
        assert_ne!(rows[1].class(), rows[2].class());
        assert_eq!(rows[1].compiler.as_deref(), Some("firefox"));
    }

    #[test]
    fn what_is_asked_has_no_metric() {
        let tables = OwnTables::asked(&[subject()]);
        let [row] = &tables.rows[..] else { panic!("{:?}", tables.rows) };
        assert_eq!((row.latency_ms, row.backend_version.as_ref(), row.threads), (None, None, Some(4.0)));
        assert_eq!((tables.devices.len(), tables.operators["test-model"].len()), (1, 1));
    }
}
