//! Device tables: the published properties of hardware that this machine does not have.

use std::{collections::BTreeMap, fs, path::Path};

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

/// Writes a device table as CSV, whole or not at all; [`read_devices`] reads the same table from it.
///
/// # Errors
///
/// [`FeatureError::File`]; an older table at `path` is still there then.
pub fn write_devices(path: &Path, devices: &DeviceTable) -> Result<(), FeatureError> {
    let mut text = DEVICE_COLUMNS.join(",") + "\n";
    for (name, device) in devices {
        let mut device = device.clone();
        let numbers =
            NUMBERS.iter().map(|(_, field)| field(&mut device).map(|number| number.to_string())).collect::<Vec<_>>();
        let cells = [Some(name.clone()), device.platform].into_iter().chain(numbers);
        text += &(cells.map(|cell| quoted(&cell.unwrap_or_default())).collect::<Vec<_>>().join(",") + "\n");
    }
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| FeatureError::File { action, path, source }
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".tmp-{}", std::process::id()));
    let partial = path.with_file_name(name);
    fs::write(&partial, text).map_err(failed("write", &partial))?;
    fs::rename(&partial, path).map_err(failed("rename a temporary file to", path))
}

/// A cell by RFC 4180: quoted where it holds a comma, a quote or a line break.
fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_table_reads_back_the_same() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("devices.csv");
        let full = PublishedDevice {
            platform: Some("cuda".to_owned()),
            fp16_tflops: Some(65.0),
            fp32_tflops: Some(8.1),
            memory_bandwidth_gb_per_s: Some(320.0),
            memory_gb: Some(16.0),
            tdp_w: Some(70.0),
            cores: Some(40.0),
            fp32_lanes: Some(2560.0),
            clock_ghz: Some(1.0 / 3.0),
            cache_mb: Some(4.0),
            year: Some(2018.0),
        };
        let devices = DeviceTable::from([
            ("Tesla T4, \"refurbished\"".to_owned(), full),
            ("unknown".to_owned(), PublishedDevice::default()),
        ]);
        write_devices(&path, &devices).expect("written");
        assert_eq!(read_devices(&path).expect("read"), devices);
        assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 1, "no temporary file is left");
    }

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
