//! Published devices: kept in the state directory, listed beside what was measured here.

use std::path::Path;

use features::{DeviceTable, PublishedDevice, read_devices, write_devices};
use messages::{Device, PeakSource};
use serde::Serialize;

use crate::{
    context::Context,
    output::{self, Format},
};

/// A device with what is published of it and what was measured; what is unknown is null.
#[derive(Debug, Default, PartialEq, Serialize)]
struct ListedDevice {
    device: String,
    platform: Option<String>,
    is_here: bool,
    is_published: bool,
    published_fp16_tflops: Option<f64>,
    published_fp32_tflops: Option<f64>,
    measured_fp32_tflops: Option<f64>,
    published_bandwidth_gb_per_s: Option<f64>,
    measured_bandwidth_gb_per_s: Option<f64>,
    memory_gb: Option<f64>,
    tdp_w: Option<f64>,
    year: Option<f64>,
}

pub(super) fn import(file: &Path, context: &Context) -> anyhow::Result<()> {
    let read = read_devices(file)?;
    let mut kept = context.published_devices()?;
    let (mut added, mut replaced, mut equal) = (0, 0, 0);
    for (name, device) in read {
        match kept.insert(name, device.clone()) {
            None => added += 1,
            Some(before) if before == device => equal += 1,
            Some(_) => replaced += 1,
        }
    }
    context.made_state_directory()?;
    write_devices(&context.devices_file()?, &kept)?;
    output::print(&format!("{added} devices added, {replaced} replaced, {equal} there already; {} in all", kept.len()))
}

pub(super) fn list(here: &[Device], published: &DeviceTable, format: Format) -> anyhow::Result<()> {
    output::answer(format, &listed(here, published), |rows| table(rows))
}

/// This machine's devices, then the published ones that it has not.
fn listed(here: &[Device], published: &DeviceTable) -> Vec<ListedDevice> {
    let own = here.iter().map(|device| {
        let is_measured = device.peak_source == Some(PeakSource::Measured);
        let peaks =
            if is_measured { (device.peak_fp32_gflops, device.memory_bandwidth_gb_per_s) } else { (None, None) };
        let of_vendor = published.iter().find(|(name, _)| name.eq_ignore_ascii_case(&device.name));
        let described = of_vendor.map(|(name, published)| of_table(name, published)).unwrap_or_default();
        ListedDevice {
            device: device.name.clone(),
            platform: Some(device.platform.to_string()),
            is_here: true,
            measured_fp32_tflops: peaks.0.map(|gflops| gflops / 1e3),
            measured_bandwidth_gb_per_s: peaks.1,
            memory_gb: device.memory_mb.map(|mb| mb / 1e3).or(described.memory_gb),
            ..described
        }
    });
    let is_elsewhere = |name: &str| !here.iter().any(|device| device.name.eq_ignore_ascii_case(name));
    let others = published.iter().filter(|(name, _)| is_elsewhere(name)).map(|(name, device)| of_table(name, device));
    own.chain(others).collect()
}

fn of_table(name: &str, device: &PublishedDevice) -> ListedDevice {
    ListedDevice {
        device: name.to_owned(),
        platform: device.platform.clone(),
        is_published: true,
        published_fp16_tflops: device.fp16_tflops,
        published_fp32_tflops: device.fp32_tflops,
        published_bandwidth_gb_per_s: device.memory_bandwidth_gb_per_s,
        memory_gb: device.memory_gb,
        tdp_w: device.tdp_w,
        year: device.year,
        ..ListedDevice::default()
    }
}

fn table(rows: &[ListedDevice]) -> comfy_table::Table {
    let mut table = output::table([
        "device",
        "platform",
        "fp16 TFLOP/s\npublished",
        "fp32 TFLOP/s\npublished",
        "\nmeasured",
        "GB/s\npublished",
        "\nmeasured",
        "memory GB",
        "power limit W",
        "year",
    ]);
    for row in rows {
        let year = row.year.map(|year| format!("{year:.0}"));
        let mut cells = vec![
            format!("{}{}", row.device, if row.is_here { " (here)" } else { "" }),
            output::text(row.platform.as_ref()),
        ];
        let numbers = [
            row.published_fp16_tflops,
            row.published_fp32_tflops,
            row.measured_fp32_tflops,
            row.published_bandwidth_gb_per_s,
            row.measured_bandwidth_gb_per_s,
            row.memory_gb,
            row.tdp_w,
        ];
        cells.extend(numbers.map(output::number));
        cells.push(output::text(year));
        table.add_row(cells);
    }
    table
}

#[cfg(test)]
mod tests {
    use messages::Platform;

    use super::*;

    #[test]
    fn published_peaks_stand_beside_measured_ones() {
        let here = Device {
            peak_fp32_gflops: Some(500.0),
            memory_bandwidth_gb_per_s: Some(20.0),
            peak_source: Some(PeakSource::Measured),
            ..Device::unknown("AMD EPYC 7B13", Platform::Cpu)
        };
        let published = DeviceTable::from([
            ("amd epyc 7b13".to_owned(), PublishedDevice { fp32_tflops: Some(2.0), ..PublishedDevice::default() }),
            ("Tesla T4".to_owned(), PublishedDevice { fp32_tflops: Some(8.1), ..PublishedDevice::default() }),
        ]);
        let rows = listed(&[here], &published);
        let peaks: Vec<_> = rows
            .iter()
            .map(|row| (row.device.as_str(), row.published_fp32_tflops, row.measured_fp32_tflops, row.is_here))
            .collect();
        assert_eq!(peaks, [("AMD EPYC 7B13", Some(2.0), Some(0.5), true), ("Tesla T4", Some(8.1), None, false)]);
    }
}
