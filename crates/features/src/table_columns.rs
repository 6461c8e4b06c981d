//! The columns of the training table. A device and a graph's operators are JSON in a column each: Parquet's
//! dictionaries store a repeated text once, and a reader in any language can take them apart.

use std::{collections::HashMap, fmt::Display, path::Path, str::FromStr};

use messages::{
    AcceptedMeasurement, Backend, Configuration, ContentHash, Device, GraphCosts, JobId, ModelRef, OperatorCost,
    OperatorKind, PeakSource, Platform, Precision, RunId, Timestamp,
};
use polars::{
    error::PolarsResult,
    prelude::{Column, DataFrame, Float64Chunked, Int64Chunked, NamedFrom, Series, StringChunked, UInt32Chunked},
};
use serde::{Deserialize, Serialize};

use crate::FeatureError;

/// A device as its column holds it; the words are [`Device`]'s.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceCell {
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
    peak_source: Option<PeakSourceCell>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PeakSourceCell {
    Measured,
    Published,
}

/// One operator: kind, MACs, activation elements, weight elements, kernel size, count.
type OperatorCell = (String, u64, u64, u64, u32, u32);

impl From<&Device> for DeviceCell {
    fn from(device: &Device) -> Self {
        let device = device.clone();
        Self {
            name: device.name,
            platform: device.platform.to_string(),
            platform_version: device.platform_version,
            driver_version: device.driver_version,
            memory_mb: device.memory_mb,
            compute_units: device.compute_units,
            hardware_threads: device.hardware_threads,
            simd: device.simd,
            clock_mhz: device.clock_mhz,
            cache_l2_kb: device.cache_l2_kb,
            cache_l3_kb: device.cache_l3_kb,
            peak_fp32_gflops: device.peak_fp32_gflops,
            memory_bandwidth_gb_per_s: device.memory_bandwidth_gb_per_s,
            peak_source: device.peak_source.map(|source| match source {
                PeakSource::Measured => PeakSourceCell::Measured,
                PeakSource::Published => PeakSourceCell::Published,
            }),
        }
    }
}

impl TryFrom<DeviceCell> for Device {
    type Error = messages::UnknownWord;

    fn try_from(cell: DeviceCell) -> Result<Self, Self::Error> {
        Ok(Self {
            name: cell.name,
            platform: cell.platform.parse()?,
            platform_version: cell.platform_version,
            driver_version: cell.driver_version,
            memory_mb: cell.memory_mb,
            compute_units: cell.compute_units,
            hardware_threads: cell.hardware_threads,
            simd: cell.simd,
            clock_mhz: cell.clock_mhz,
            cache_l2_kb: cell.cache_l2_kb,
            cache_l3_kb: cell.cache_l3_kb,
            peak_fp32_gflops: cell.peak_fp32_gflops,
            memory_bandwidth_gb_per_s: cell.memory_bandwidth_gb_per_s,
            peak_source: cell.peak_source.map(|source| match source {
                PeakSourceCell::Measured => PeakSource::Measured,
                PeakSourceCell::Published => PeakSource::Published,
            }),
        })
    }
}

fn device_json(device: &Device) -> String {
    serde_json::to_string(&DeviceCell::from(device)).expect("a device has only text and numbers")
}

fn operators_json(costs: &GraphCosts) -> String {
    let cells: Vec<OperatorCell> = costs
        .operators
        .iter()
        .map(|o| (o.kind.to_string(), o.macs, o.activation_elements, o.weight_elements, o.kernel_size, o.count))
        .collect();
    serde_json::to_string(&cells).expect("operators have only text and numbers")
}

fn parse_device(json: &str) -> Result<Device, String> {
    let cell: DeviceCell = serde_json::from_str(json).map_err(|error| error.to_string())?;
    Device::try_from(cell).map_err(|error| error.to_string())
}

fn parse_operators(json: &str) -> Result<Vec<OperatorCost>, String> {
    let cells: Vec<OperatorCell> = serde_json::from_str(json).map_err(|error| error.to_string())?;
    cells
        .into_iter()
        .map(|(kind, macs, activation_elements, weight_elements, kernel_size, count)| {
            let kind = kind.parse::<OperatorKind>().map_err(|error| error.to_string())?;
            Ok(OperatorCost { kind, macs, activation_elements, weight_elements, kernel_size, count })
        })
        .collect()
}

/// The table's frame, one row per measurement.
pub(crate) fn to_frame(rows: &[AcceptedMeasurement]) -> PolarsResult<DataFrame> {
    let text = |name: &str, cell: fn(&AcceptedMeasurement) -> String| {
        let cells: Vec<String> = rows.iter().map(cell).collect();
        Column::from(Series::new(name.into(), cells))
    };
    let number = |name: &str, cell: fn(&AcceptedMeasurement) -> Option<f64>| {
        let cells: Vec<Option<f64>> = rows.iter().map(cell).collect();
        Column::from(Series::new(name.into(), cells))
    };
    let count = |name: &str, cell: fn(&AcceptedMeasurement) -> Option<u32>| {
        let cells: Vec<Option<u32>> = rows.iter().map(cell).collect();
        Column::from(Series::new(name.into(), cells))
    };
    let optional_text = |name: &str, cell: fn(&AcceptedMeasurement) -> Option<String>| {
        let cells: Vec<Option<String>> = rows.iter().map(cell).collect();
        Column::from(Series::new(name.into(), cells))
    };
    let integer = |name: &str, cell: fn(&AcceptedMeasurement) -> i64| {
        let cells: Vec<i64> = rows.iter().map(cell).collect();
        Column::from(Series::new(name.into(), cells))
    };
    let columns = vec![
        text("job_id", |m| m.job_id.to_string()),
        text("run_id", |m| m.run_id.to_string()),
        integer("measured_at_us", |m| m.measured_at.as_micros()),
        text("model", |m| m.configuration.model.name.clone()),
        text("model_sha256", |m| m.configuration.model.sha256.to_string()),
        text("platform", |m| m.configuration.platform.to_string()),
        text("backend", |m| m.configuration.backend.to_string()),
        text("backend_version", |m| m.backend_version.clone()),
        text("precision", |m| m.configuration.precision.to_string()),
        count("batch_size", |m| Some(m.configuration.batch_size)),
        count("sequence_length", |m| m.configuration.sequence_length),
        count("image_size", |m| m.configuration.image_size),
        count("threads", |m| Some(m.configuration.threads)),
        optional_text("browser", |m| m.configuration.browser.clone()),
        text("device", |m| device_json(&m.device)),
        text("parameters", |m| m.costs.parameters.to_string()),
        text("operators", |m| operators_json(&m.costs)),
        count("iterations", |m| Some(m.iterations)),
        number("latency_ms", |m| Some(m.latency_ms)),
        number("throughput_items_per_second", |m| Some(m.throughput_items_per_second)),
        number("memory_peak_mb", |m| m.memory_peak_mb),
        number("power_w", |m| m.power_w),
        number("load_ms", |m| Some(m.load_ms)),
    ];
    DataFrame::new(rows.len(), columns)
}

/// The measurements in a frame that was read from `path`.
pub(crate) fn from_frame(path: &Path, frame: &DataFrame) -> Result<Vec<AcceptedMeasurement>, FeatureError> {
    let cells = Cells::of(path, frame)?;
    let mut devices: HashMap<&str, Device> = HashMap::new();
    let mut operators: HashMap<&str, Vec<OperatorCost>> = HashMap::new();
    (0..frame.height())
        .map(|row| {
            Ok(AcceptedMeasurement {
                job_id: cells.word::<JobId>(row, "job_id")?,
                run_id: cells.word::<RunId>(row, "run_id")?,
                measured_at: Timestamp::from_micros(cells.required(
                    row,
                    "measured_at_us",
                    cells.measured_at.get(row),
                )?),
                configuration: cells.configuration(row)?,
                device: cells.json(row, "device", &mut devices, parse_device)?,
                costs: GraphCosts {
                    parameters: cells.word::<u64>(row, "parameters")?,
                    operators: cells.json(row, "operators", &mut operators, parse_operators)?,
                    memory: None,
                },
                backend_version: cells.text(row, "backend_version")?.to_owned(),
                iterations: cells.required(row, "iterations", cells.count(row, "iterations"))?,
                latency_ms: cells.required(row, "latency_ms", cells.number(row, "latency_ms"))?,
                throughput_items_per_second: cells.required(
                    row,
                    "throughput_items_per_second",
                    cells.number(row, "throughput_items_per_second"),
                )?,
                memory_peak_mb: cells.number(row, "memory_peak_mb"),
                power_w: cells.number(row, "power_w"),
                load_ms: cells.required(row, "load_ms", cells.number(row, "load_ms"))?,
            })
        })
        .collect()
}

const TEXT_COLUMNS: &[&str] = &[
    "job_id",
    "run_id",
    "model",
    "model_sha256",
    "platform",
    "backend",
    "backend_version",
    "precision",
    "device",
    "parameters",
    "operators",
];
const COUNT_COLUMNS: &[&str] = &["batch_size", "sequence_length", "image_size", "threads", "iterations"];
const NUMBER_COLUMNS: &[&str] = &["latency_ms", "throughput_items_per_second", "memory_peak_mb", "power_w", "load_ms"];

/// The columns of one frame, checked to be there with their types.
struct Cells<'a> {
    path: &'a Path,
    texts: HashMap<&'static str, &'a StringChunked>,
    counts: HashMap<&'static str, &'a UInt32Chunked>,
    numbers: HashMap<&'static str, &'a Float64Chunked>,
    measured_at: &'a Int64Chunked,
    /// Absent from tables that were written before browsers were measured.
    browser: Option<&'a StringChunked>,
}

impl<'a> Cells<'a> {
    fn of(path: &'a Path, frame: &'a DataFrame) -> Result<Self, FeatureError> {
        let lacking = |source| FeatureError::Parquet { action: "read", path: path.to_owned(), source };
        let column = |name: &str| frame.column(name);
        let texts = TEXT_COLUMNS.iter().map(|name| Ok((*name, column(name)?.str()?)));
        let counts = COUNT_COLUMNS.iter().map(|name| Ok((*name, column(name)?.u32()?)));
        let numbers = NUMBER_COLUMNS.iter().map(|name| Ok((*name, column(name)?.f64()?)));
        Ok(Self {
            path,
            texts: texts.collect::<PolarsResult<_>>().map_err(lacking)?,
            counts: counts.collect::<PolarsResult<_>>().map_err(lacking)?,
            numbers: numbers.collect::<PolarsResult<_>>().map_err(lacking)?,
            measured_at: column("measured_at_us").and_then(Column::i64).map_err(lacking)?,
            browser: frame.column("browser").ok().map(Column::str).transpose().map_err(lacking)?,
        })
    }

    fn wrong(&self, row: usize, column: &'static str, reason: impl Display) -> FeatureError {
        FeatureError::Cell { path: self.path.to_owned(), row, column, reason: reason.to_string() }
    }

    fn required<T>(&self, row: usize, column: &'static str, cell: Option<T>) -> Result<T, FeatureError> {
        cell.ok_or_else(|| self.wrong(row, column, "it is empty"))
    }

    fn text(&self, row: usize, column: &'static str) -> Result<&'a str, FeatureError> {
        self.required(row, column, self.texts[column].get(row))
    }

    fn count(&self, row: usize, column: &'static str) -> Option<u32> {
        self.counts[column].get(row)
    }

    fn number(&self, row: usize, column: &'static str) -> Option<f64> {
        self.numbers[column].get(row)
    }

    fn word<T: FromStr<Err: Display>>(&self, row: usize, column: &'static str) -> Result<T, FeatureError> {
        self.text(row, column)?.parse().map_err(|error| self.wrong(row, column, error))
    }

    /// Parses a JSON cell, each distinct text once.
    fn json<T: Clone>(
        &self,
        row: usize,
        column: &'static str,
        known: &mut HashMap<&'a str, T>,
        parse: fn(&str) -> Result<T, String>,
    ) -> Result<T, FeatureError> {
        let text = self.text(row, column)?;
        if let Some(value) = known.get(text) {
            return Ok(value.clone());
        }
        let value = parse(text).map_err(|reason| self.wrong(row, column, reason))?;
        known.insert(text, value.clone());
        Ok(value)
    }

    fn configuration(&self, row: usize) -> Result<Configuration, FeatureError> {
        Ok(Configuration {
            model: ModelRef {
                name: self.text(row, "model")?.to_owned(),
                sha256: self.word::<ContentHash>(row, "model_sha256")?,
            },
            platform: self.word::<Platform>(row, "platform")?,
            backend: self.word::<Backend>(row, "backend")?,
            precision: self.word::<Precision>(row, "precision")?,
            batch_size: self.required(row, "batch_size", self.count(row, "batch_size"))?,
            sequence_length: self.count(row, "sequence_length"),
            image_size: self.count(row, "image_size"),
            threads: self.required(row, "threads", self.count(row, "threads"))?,
            browser: self.browser.and_then(|cells| cells.get(row)).map(str::to_owned),
        })
    }
}
