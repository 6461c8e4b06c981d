//! `augur device detect|list|import`.

mod published;

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Subcommand;
use hardware::Detection;
use messages::{Device, PeakSource, Platform};
use serde::Serialize;

use crate::{
    context::Context,
    exit::Exit,
    output::{self, Format},
};

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Shows this machine's devices with their measured peaks, and what is absent and why.
    #[command(after_help = "Example: augur device detect --format json")]
    Detect {
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Lists this machine's devices and the imported ones: published peaks beside measured ones.
    #[command(after_help = "Example: augur device list")]
    List {
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Keeps the published properties of devices; one of a name that is there already replaces it.
    #[command(after_help = "Example: augur device import devices.csv")]
    Import {
        /// A device table: CSV or Parquet.
        file: PathBuf,
    },
}

#[derive(Serialize)]
struct DeviceRow {
    platform: String,
    name: Option<String>,
    memory_mb: Option<f64>,
    compute_units: Option<u32>,
    hardware_threads: Option<u32>,
    simd: Option<String>,
    peak_fp32_gflops: Option<f64>,
    memory_bandwidth_gb_per_s: Option<f64>,
    peaks: Option<&'static str>,
    absent_because: Option<String>,
    remedy: Option<String>,
}

pub(crate) fn run(command: DeviceCommand, context: &Context) -> anyhow::Result<Exit> {
    match command {
        DeviceCommand::Detect { format } => {
            let rows = rows(&detect(context)?);
            output::answer(format, &rows, |rows| table(rows))?;
        }
        DeviceCommand::List { format } => {
            published::list(&detect(context)?.devices, &context.published_devices()?, format)?;
        }
        DeviceCommand::Import { file } => published::import(&file, context)?,
    }
    Ok(Exit::Done)
}

/// What this machine has and has not.
pub(crate) fn detect(context: &Context) -> anyhow::Result<Detection> {
    let cache = context.cache_directory()?;
    Ok(tokio::task::block_in_place(|| hardware::detect(&cache))?)
}

/// This machine's first device of a platform.
pub(crate) fn of_platform(context: &Context, platform: Platform) -> anyhow::Result<Device> {
    let detection = detect(context)?;
    let reason = detection
        .absent
        .iter()
        .find(|absent| absent.platform == platform)
        .map_or_else(String::new, |absent| format!(": {}", absent.reason));
    detection
        .devices
        .into_iter()
        .find(|device| device.platform == platform)
        .ok_or_else(|| anyhow!("this machine has no {platform} device{reason}"))
}

fn rows(detection: &Detection) -> Vec<DeviceRow> {
    let present = detection.devices.iter().cloned().map(|device| DeviceRow {
        platform: device.platform.to_string(),
        name: Some(device.name),
        memory_mb: device.memory_mb,
        compute_units: device.compute_units,
        hardware_threads: device.hardware_threads,
        simd: device.simd,
        peak_fp32_gflops: device.peak_fp32_gflops,
        memory_bandwidth_gb_per_s: device.memory_bandwidth_gb_per_s,
        peaks: device.peak_source.map(|source| match source {
            PeakSource::Measured => "measured",
            PeakSource::Published => "published",
        }),
        absent_because: None,
        remedy: None,
    });
    let absent = detection.absent.iter().cloned().map(|absent| DeviceRow {
        platform: absent.platform.to_string(),
        name: None,
        memory_mb: None,
        compute_units: None,
        hardware_threads: None,
        simd: None,
        peak_fp32_gflops: None,
        memory_bandwidth_gb_per_s: None,
        peaks: None,
        absent_because: Some(absent.reason),
        remedy: absent.remedy,
    });
    present.chain(absent).collect()
}

fn table(rows: &[DeviceRow]) -> comfy_table::Table {
    let mut table = output::table(["platform", "device", "cores/threads", "SIMD", "memory MB", "fp32 GFLOP/s", "GB/s"]);
    for row in rows {
        let name = match (&row.name, &row.absent_because) {
            (Some(name), _) => name.clone(),
            (None, reason) => format!("absent: {}", reason.as_deref().unwrap_or("unknown")),
        };
        table.add_row([
            row.platform.clone(),
            name,
            format!("{}/{}", output::text(row.compute_units), output::text(row.hardware_threads)),
            output::text(row.simd.as_ref()),
            output::number(row.memory_mb),
            output::number(row.peak_fp32_gflops),
            output::number(row.memory_bandwidth_gb_per_s),
        ]);
    }
    table
}
