//! The measurements of our own jobs in the form of measurement tables, so that both are learned from alike.

use std::collections::BTreeMap;

use messages::{AcceptedMeasurement, Device, OperatorCost};

use crate::{DeviceTable, MeasuredRow, ModelOperators, OperatorTable, PublishedDevice};

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
    pub fn of(measurements: &[AcceptedMeasurement], family: impl Fn(&str) -> Option<String>) -> Self {
        let mut tables = Self::default();
        // Costs are of a whole batch; the smallest is nearest to one item.
        let mut smallest: BTreeMap<(&str, Option<u32>, Option<u32>), &AcceptedMeasurement> = BTreeMap::new();
        for measurement in measurements {
            let configuration = &measurement.configuration;
            tables.rows.push(row(measurement, family(&configuration.model.name)));
            tables.devices.insert(measurement.device.name.clone(), PublishedDevice::from(&measurement.device));
            let key = (configuration.model.name.as_str(), configuration.image_size, configuration.sequence_length);
            let kept = smallest.entry(key).or_insert(measurement);
            if configuration.batch_size < kept.configuration.batch_size {
                *kept = measurement;
            }
        }
        for ((model, ..), measurement) in smallest {
            tables.operators.entry(model.to_owned()).or_default().push(operators(measurement));
        }
        tables
    }
}

fn row(measurement: &AcceptedMeasurement, family: Option<String>) -> MeasuredRow {
    let configuration = &measurement.configuration;
    let items = f64::from(configuration.batch_size);
    MeasuredRow {
        model: configuration.model.name.clone(),
        family,
        device: measurement.device.name.clone(),
        platform: Some(configuration.platform.to_string()),
        backend: Some(configuration.backend.to_string()),
        backend_version: Some(measurement.backend_version.clone()),
        compiler: None,
        precision: Some(configuration.precision.to_string()),
        layout: None,
        batch_size: items,
        image_size: configuration.image_size.map(f64::from),
        sequence_length: configuration.sequence_length.map(f64::from),
        threads: Some(f64::from(configuration.threads)),
        params_m: Some(measurement.costs.parameters as f64 / 1e6),
        gmacs: Some(measurement.costs.macs() as f64 / 1e9 / items),
        activations_m: None,
        latency_ms: positive(measurement.latency_ms),
        throughput_items_per_second: positive(measurement.throughput_items_per_second),
        memory_peak_mb: measurement.memory_peak_mb.and_then(positive),
        power_w: measurement.power_w.and_then(positive),
    }
}

fn positive(value: f64) -> Option<f64> {
    (value.is_finite() && value > 0.0).then_some(value)
}

fn operators(measurement: &AcceptedMeasurement) -> ModelOperators {
    let configuration = &measurement.configuration;
    let items = u64::from(configuration.batch_size.max(1));
    let of_one = |operator: &OperatorCost| OperatorCost {
        macs: operator.macs / items,
        activation_elements: operator.activation_elements / items,
        ..*operator
    };
    ModelOperators {
        image_size: configuration.image_size.map(f64::from),
        sequence_length: configuration.sequence_length.map(f64::from),
        activation_peak_elements: None,
        operators: measurement.costs.operators.iter().map(of_one).collect(),
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
            cores: device.compute_units.map(f64::from),
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
        // The base is what the roofline of the same measurement is: 40 ms compute and 12 ms bytes at batch 2.
        let base = crate::TableFeatures::build(&tables.rows, &tables.devices, &tables.operators).expect("built");
        let found = base.base(messages::Metric::LatencyMs)[1];
        assert!((found / 52.0 - 1.0).abs() < 1e-9, "{found}");
    }
}
