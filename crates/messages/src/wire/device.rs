//! Devices and graph costs on the wire.

use serde::{Deserialize, Serialize};

use super::{Invalid, measured_option, word};
use crate::{Device, GraphCosts, GraphMemory, OperatorCost, OperatorKind, PeakSource};

#[derive(Serialize, Deserialize)]
pub(super) struct DeviceV1 {
    name: String,
    platform: String,
    platform_version: Option<String>,
    driver_version: Option<String>,
    memory_mb: Option<f64>,
    compute_units: Option<u32>,
    hardware_threads: Option<u32>,
    simd: Option<String>,
    clock_mhz: Option<f64>,
    cache_l2_kb: Option<f64>,
    cache_l3_kb: Option<f64>,
    peak_fp32_gflops: Option<f64>,
    memory_bandwidth_gb_per_s: Option<f64>,
    peak_source: Option<String>,
}

impl From<&Device> for DeviceV1 {
    fn from(device: &Device) -> Self {
        Self {
            name: device.name.clone(),
            platform: device.platform.to_string(),
            platform_version: device.platform_version.clone(),
            driver_version: device.driver_version.clone(),
            memory_mb: device.memory_mb,
            compute_units: device.compute_units,
            hardware_threads: device.hardware_threads,
            simd: device.simd.clone(),
            clock_mhz: device.clock_mhz,
            cache_l2_kb: device.cache_l2_kb,
            cache_l3_kb: device.cache_l3_kb,
            peak_fp32_gflops: device.peak_fp32_gflops,
            memory_bandwidth_gb_per_s: device.memory_bandwidth_gb_per_s,
            peak_source: device.peak_source.map(|source| match source {
                PeakSource::Measured => "measured".to_owned(),
                PeakSource::Published => "published".to_owned(),
            }),
        }
    }
}

impl TryFrom<DeviceV1> for Device {
    type Error = Invalid;

    fn try_from(on_wire: DeviceV1) -> Result<Self, Invalid> {
        Ok(Self {
            name: on_wire.name,
            platform: word("device.platform", &on_wire.platform)?,
            platform_version: on_wire.platform_version,
            driver_version: on_wire.driver_version,
            memory_mb: measured_option("device.memory_mb", on_wire.memory_mb)?,
            compute_units: counted("device.compute_units", on_wire.compute_units)?,
            hardware_threads: counted("device.hardware_threads", on_wire.hardware_threads)?,
            simd: on_wire.simd,
            clock_mhz: measured_option("device.clock_mhz", on_wire.clock_mhz)?,
            cache_l2_kb: measured_option("device.cache_l2_kb", on_wire.cache_l2_kb)?,
            cache_l3_kb: measured_option("device.cache_l3_kb", on_wire.cache_l3_kb)?,
            peak_fp32_gflops: measured_option("device.peak_fp32_gflops", on_wire.peak_fp32_gflops)?,
            memory_bandwidth_gb_per_s: measured_option(
                "device.memory_bandwidth_gb_per_s",
                on_wire.memory_bandwidth_gb_per_s,
            )?,
            peak_source: match on_wire.peak_source.as_deref() {
                None => None,
                Some("measured") => Some(PeakSource::Measured),
                Some("published") => Some(PeakSource::Published),
                Some(other) => {
                    return Err(Invalid::new(
                        "device.peak_source",
                        format!("`{other}` is neither measured nor published"),
                    ));
                }
            },
        })
    }
}

/// Refuses more of a thing than [`Device::UNITS_MAX`].
fn counted(field: &'static str, count: Option<u32>) -> Result<Option<u32>, Invalid> {
    match count {
        Some(count) if count > Device::UNITS_MAX => {
            Err(Invalid::new(field, format!("{count} is more than {}", Device::UNITS_MAX)))
        }
        count => Ok(count),
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct GraphCostsV1 {
    parameters: u64,
    /// Kind, MACs, activation elements, weight elements, kernel size, count.
    operators: Vec<(String, u64, u64, u64, u32, u32)>,
    /// Bytes of the weights, of all values at their peak, and of the largest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    memory: Option<(u64, u64, u64)>,
}

impl From<&GraphCosts> for GraphCostsV1 {
    fn from(costs: &GraphCosts) -> Self {
        let operator = |o: &OperatorCost| {
            (o.kind.to_string(), o.macs, o.activation_elements, o.weight_elements, o.kernel_size, o.count)
        };
        Self {
            parameters: costs.parameters,
            operators: costs.operators.iter().map(operator).collect(),
            memory: costs.memory.map(|m| (m.weight_bytes, m.activation_peak_bytes, m.activation_max_bytes)),
        }
    }
}

impl TryFrom<GraphCostsV1> for GraphCosts {
    type Error = Invalid;

    fn try_from(on_wire: GraphCostsV1) -> Result<Self, Invalid> {
        if on_wire.operators.len() > Self::OPERATORS_MAX {
            return Err(Invalid::new("costs.operators", format!("there are more than {}", Self::OPERATORS_MAX)));
        }
        let operator =
            |(kind, macs, activation_elements, weight_elements, kernel_size, count): (String, _, _, _, _, u32)| {
                if count == 0 {
                    return Err(Invalid::new("costs.operators.count", "an operator occurs at least once"));
                }
                let kind = word::<OperatorKind>("costs.operators.kind", &kind)?;
                Ok(OperatorCost { kind, macs, activation_elements, weight_elements, kernel_size, count })
            };
        Ok(Self {
            parameters: on_wire.parameters,
            operators: on_wire.operators.into_iter().map(operator).collect::<Result<_, _>>()?,
            memory: on_wire.memory.map(|(weight_bytes, activation_peak_bytes, activation_max_bytes)| GraphMemory {
                weight_bytes,
                activation_peak_bytes,
                activation_max_bytes,
            }),
        })
    }
}
