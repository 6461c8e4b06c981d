//! Device tables: the published properties of hardware that this machine does not have.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use crate::{FeatureError, tables::Table};

/// The columns that a device table may have.
pub const DEVICE_COLUMNS: &[&str] = &[
    "device",
    "platform",
    "fp16_tflops",
    "fp32_tflops",
    "memory_bandwidth_gb_per_s",
    "memory_gb",
    "tdp_w",
    "cores",
    "fp32_lanes",
    "clock_ghz",
    "cache_mb",
    "year",
];

/// A device's published properties; what is unknown is `None`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PublishedDevice {
    /// Kind of execution target.
    pub platform: Option<String>,
    /// Peak of fp16 arithmetic, in 10^12 operations per second.
    pub fp16_tflops: Option<f64>,
    /// Peak of fp32 arithmetic, in 10^12 operations per second.
    pub fp32_tflops: Option<f64>,
    /// Bandwidth to memory, in 10^9 bytes per second.
    pub memory_bandwidth_gb_per_s: Option<f64>,
    /// Memory, in GB (10^9 bytes).
    pub memory_gb: Option<f64>,
    /// Power limit, in watts.
    pub tdp_w: Option<f64>,
    /// Cores or streaming multiprocessors.
    pub cores: Option<f64>,
    /// Scalar fp32 units over all cores.
    pub fp32_lanes: Option<f64>,
    /// Clock under load, in GHz.
    pub clock_ghz: Option<f64>,
    /// Last-level cache, in MB (10^6 bytes).
    pub cache_mb: Option<f64>,
    /// Year of release.
    pub year: Option<f64>,
}

/// Published devices by name.
pub type DeviceTable = BTreeMap<String, PublishedDevice>;

type NumberField = fn(&mut PublishedDevice) -> &mut Option<f64>;

const NUMBERS: &[(&str, NumberField)] = &[
    ("fp16_tflops", |device| &mut device.fp16_tflops),
    ("fp32_tflops", |device| &mut device.fp32_tflops),
    ("memory_bandwidth_gb_per_s", |device| &mut device.memory_bandwidth_gb_per_s),
    ("memory_gb", |device| &mut device.memory_gb),
    ("tdp_w", |device| &mut device.tdp_w),
    ("cores", |device| &mut device.cores),
    ("fp32_lanes", |device| &mut device.fp32_lanes),
    ("clock_ghz", |device| &mut device.clock_ghz),
    ("cache_mb", |device| &mut device.cache_mb),
    ("year", |device| &mut device.year),
];

/// Reads a device table.
///
/// # Errors
///
/// As [`crate::MeasuredTable::read`]; a cell that is no number above 0 is [`FeatureError::BadRow`].
pub fn read_devices(path: &Path) -> Result<DeviceTable, FeatureError> {
    let table = Table::read(path, DEVICE_COLUMNS)?;
    let names = table.texts(path, "device")?;
    let mut devices: Vec<_> = table
        .texts(path, "platform")?
        .into_iter()
        .map(|platform| PublishedDevice { platform, ..PublishedDevice::default() })
        .collect();
    let bad = |row, reason| FeatureError::BadRow { path: path.to_owned(), line: Table::line(row), reason };
    for (name, field) in NUMBERS {
        for (row, (device, number)) in devices.iter_mut().zip(table.numbers(path, name)?).enumerate() {
            match number {
                Ok(number) if number.is_none_or(|number| number > 0.0) => *field(device) = number,
                Ok(_) | Err(_) => return Err(bad(row, format!("`{name}` is not a number above 0"))),
            }
        }
    }
    let rows = names.into_iter().zip(devices).enumerate();
    rows.map(|(row, (name, device))| Ok((name.ok_or_else(|| bad(row, "`device` is empty".to_owned()))?, device)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_by_name_and_a_bad_cell_is_named() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("devices.csv");
        std::fs::write(&path, "device,platform,fp32_tflops,tdp_w\nTesla T4,cuda,8.1,\n").expect("written");
        let devices = read_devices(&path).expect("read");
        assert_eq!((devices["Tesla T4"].fp32_tflops, devices["Tesla T4"].tdp_w), (Some(8.1), None));
        std::fs::write(&path, "device,platform,fp32_tflops\nTesla T4,cuda,8.1\nTesla T5,cuda,-8\n").expect("written");
        let error = read_devices(&path).expect_err("negative").to_string();
        assert!(error.contains("devices.csv:3") && error.contains("fp32_tflops"), "{error}");
    }
}
