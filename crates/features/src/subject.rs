//! What one row of features is about.

use messages::{AcceptedMeasurement, Configuration, Device, GraphCosts};

/// A configuration on a device, with the costs of its model's graph; nothing measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Subject {
    /// What would run.
    pub configuration: Configuration,
    /// On what.
    pub device: Device,
    /// The graph's costs for the whole batch at the configuration's shape.
    pub costs: GraphCosts,
}

impl From<&AcceptedMeasurement> for Subject {
    fn from(measurement: &AcceptedMeasurement) -> Self {
        Self {
            configuration: measurement.configuration.clone(),
            device: measurement.device.clone(),
            costs: measurement.costs.clone(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use messages::{Backend, ContentHash, ModelRef, OperatorCost, OperatorKind, Platform, Precision};

    use super::*;

    /// A small model on a 4-core processor with round numbers.
    pub(crate) fn subject() -> Subject {
        let operator = |kind, macs, activation_elements, weight_elements, kernel_size, count| OperatorCost {
            kind,
            macs,
            activation_elements,
            weight_elements,
            kernel_size,
            count,
        };
        Subject {
            configuration: Configuration {
                model: ModelRef { name: "test-model".to_owned(), sha256: ContentHash([7; 32]) },
                platform: Platform::Cpu,
                backend: Backend::Onnxruntime,
                precision: Precision::Fp32,
                batch_size: 2,
                sequence_length: None,
                image_size: Some(224),
                threads: 4,
                browser: None,
            },
            device: Device {
                compute_units: Some(4),
                hardware_threads: Some(8),
                cache_l3_kb: Some(16_000.0),
                peak_fp32_gflops: Some(100.0),
                memory_bandwidth_gb_per_s: Some(20.0),
                ..Device::unknown("Test CPU", Platform::Cpu)
            },
            costs: GraphCosts {
                parameters: 5_000_000,
                operators: vec![
                    operator(OperatorKind::Conv, 1_000_000_000, 10_000_000, 1_000_000, 3, 2),
                    operator(OperatorKind::Elem, 0, 20_000_000, 0, 0, 3),
                ],
                memory: None,
            },
        }
    }
}
