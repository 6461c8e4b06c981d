//! Predictors on real measurements: timm's published inference benchmarks, read from where they lie.
//!
//! `AUGUR_SHARED_DATA` names the folder (default: `../shared/data` beside the work tree). Without the variable and
//! without the folder the test says so and checks nothing, since the data are no part of the project.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::Command,
};

use messages::{
    AcceptedMeasurement, Backend, Configuration, ContentHash, Device, GraphCosts, JobId, Metric, ModelRef,
    OperatorCost, PeakSource, Platform, Precision, RunId, Timestamp,
};
use predictors::{Evaluation, Grouping, Predictors, TrainSettings};

/// Models of which rows are taken: enough to learn from, few enough to train in seconds.
const MODELS: usize = 240;

fn data() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("AUGUR_SHARED_DATA") {
        return Some(PathBuf::from(folder).join("timm"));
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/timm");
    folder.is_dir().then_some(folder)
}

fn unzipped(path: &Path) -> String {
    let output = Command::new("gzip").arg("-dc").arg(path).output().expect("gzip runs");
    assert!(output.status.success(), "gzip cannot read {}", path.display());
    String::from_utf8(output.stdout).expect("text")
}

/// Operators of every model at batch 1, with the image size they were counted at.
fn operators(folder: &Path) -> HashMap<String, (f64, Vec<OperatorCost>)> {
    let parse = |line: &str| {
        let entry: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let operators = entry["operators"].as_array().expect("a list").iter().map(|fields| {
            let number = |index: usize| fields[index].as_u64().expect("a number");
            OperatorCost {
                kind: fields[0].as_str().expect("a word").parse().expect("a kind"),
                macs: number(1),
                activation_elements: number(2),
                weight_elements: number(3),
                kernel_size: u32::try_from(number(4)).expect("small"),
                count: u32::try_from(number(5)).expect("small"),
            }
        });
        let name = entry["model"].as_str().expect("a name").to_owned();
        (name, (entry["image_size"].as_f64().expect("a size"), operators.collect()))
    };
    unzipped(&folder.join("operators.jsonl.gz")).lines().map(parse).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts scaled by a ratio")]
fn costs(operators: &(f64, Vec<OperatorCost>), parameters_m: f64, image_size: f64, batch_size: f64) -> GraphCosts {
    let factor = batch_size * (image_size / operators.0).powi(2);
    let scaled = |count: u64| (count as f64 * factor) as u64;
    let scale = |operator: &OperatorCost| OperatorCost {
        macs: scaled(operator.macs),
        activation_elements: scaled(operator.activation_elements),
        ..*operator
    };
    GraphCosts {
        parameters: (parameters_m * 1e6) as u64,
        operators: operators.1.iter().map(scale).collect(),
        memory: None,
    }
}

/// Rows of one device under one version of its backend, one per model, every n-th model of the alphabet.
fn measurements(folder: &Path, device: &Device, version: &str, compiler: &str) -> Vec<AcceptedMeasurement> {
    let operators = operators(folder);
    let table = unzipped(&folder.join("measurements.csv.gz"));
    let columns: Vec<&str> = table.lines().next().expect("a header").split(',').collect();
    let column = |name: &str| columns.iter().position(|column| *column == name).expect("a column");
    let [model, device_name, backend_version, compiler_name, layout] =
        ["model", "device", "backend_version", "compiler", "layout"].map(column);
    let numbers = ["batch_size", "image_size", "params_m", "latency_ms", "throughput_items_per_second"].map(column);
    let mut rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split(',').collect::<Vec<_>>())
        .filter(|row| row[device_name] == device.name && row[backend_version] == version)
        .filter(|row| row[compiler_name] == compiler && row[layout] == "nchw" && operators.contains_key(row[model]))
        .collect();
    rows.sort_unstable();
    rows.dedup_by_key(|row| row[model]);
    let step = rows.len() / MODELS;
    rows.into_iter()
        .step_by(step)
        .take(MODELS)
        .map(|row| {
            let [batch_size, image_size, parameters_m, latency_ms, throughput] =
                numbers.map(|column| row[column].parse::<f64>().expect("a number"));
            let name = row[model];
            measurement(
                name,
                device,
                (batch_size, image_size),
                costs(&operators[name], parameters_m, image_size, batch_size),
                (latency_ms, throughput),
            )
        })
        .collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small whole numbers")]
fn measurement(
    model: &str,
    device: &Device,
    (batch_size, image_size): (f64, f64),
    costs: GraphCosts,
    (latency_ms, throughput_items_per_second): (f64, f64),
) -> AcceptedMeasurement {
    let mut sha256 = [0; 32];
    for (index, byte) in model.bytes().enumerate() {
        sha256[index % 32] ^= byte.rotate_left(u32::try_from(index).expect("short") / 32);
    }
    AcceptedMeasurement {
        job_id: JobId::new(),
        run_id: RunId::new(),
        measured_at: Timestamp::from_micros(0),
        configuration: Configuration {
            model: ModelRef { name: model.to_owned(), sha256: ContentHash(sha256) },
            platform: device.platform,
            backend: Backend::Onnxruntime,
            precision: if device.platform == Platform::Cpu { Precision::Fp32 } else { Precision::Fp16 },
            batch_size: batch_size as u32,
            sequence_length: None,
            image_size: Some(image_size as u32),
            threads: 14,
        },
        device: device.clone(),
        costs,
        backend_version: "PyTorch".to_owned(),
        iterations: 1,
        latency_ms,
        throughput_items_per_second,
        memory_peak_mb: None,
        power_w: None,
        load_ms: 0.0,
    }
}

fn device(name: &str, platform: Platform, gflops: f64, bandwidth: f64, units: u32) -> Device {
    Device {
        compute_units: Some(units),
        peak_fp32_gflops: Some(gflops),
        memory_bandwidth_gb_per_s: Some(bandwidth),
        peak_source: Some(PeakSource::Published),
        ..Device::unknown(name, platform)
    }
}

/// Trains on one device's rows and returns latency's evaluation on models left out.
fn check(device: &Device, version: &str, compiler: &str) -> Option<Evaluation> {
    let Some(folder) = data() else {
        eprintln!("nothing checked: ../shared/data is not there and AUGUR_SHARED_DATA is not set");
        return None;
    };
    let rows = measurements(&folder, device, version, compiler);
    assert_eq!(rows.len(), MODELS);
    let started = std::time::Instant::now();
    let predictors = Predictors::train(&rows, &TrainSettings::default()).expect("trained");
    let found = predictors
        .evaluation()
        .iter()
        .find(|found| found.metric == Metric::LatencyMs && found.grouping == Grouping::Model)
        .copied();
    eprintln!("{}: {:.1} s, {found:#?}", device.name, started.elapsed().as_secs_f64());
    found
}

#[test]
fn latency_on_a_processor_is_far_better_than_the_roofline_and_intervals_keep_their_promise() {
    let device = device("Intel Core i9-10940X", Platform::Cpu, 2_960.0, 94.0, 14);
    let Some(found) = check(&device, "2.4.0", "dynamo") else { return };
    assert!(found.mape_pct < found.roofline_mape_pct / 2.0 && found.median_ape_pct < 25.0, "{found:?}");
    assert!((80.0..=97.0).contains(&found.interval_90_coverage_pct), "{found:?}");
}

#[test]
fn latency_on_a_gpu_is_far_better_than_the_roofline_and_intervals_keep_their_promise() {
    let device = device("NVIDIA GeForce RTX 3090", Platform::Cuda, 35_600.0, 936.0, 82);
    let Some(found) = check(&device, "2.4.0", "eager") else { return };
    assert!(found.mape_pct < found.roofline_mape_pct / 2.0 && found.median_ape_pct < 25.0, "{found:?}");
    assert!((80.0..=97.0).contains(&found.interval_90_coverage_pct), "{found:?}");
}
