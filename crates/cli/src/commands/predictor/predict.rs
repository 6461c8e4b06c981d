//! `augur predictor predict`: the current release, or another, is asked about configurations.

mod answers;
mod asked;
mod matrix;
mod tables;

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;
use features::TrainingMemory;
use messages::{Metric, Platform, ReleaseId};

pub(super) use self::matrix::Matrix;
use self::matrix::count_models;
pub(crate) use self::tables::TableArguments;
use super::{
    drawing::{self, DrawnPrediction},
    releases::{none_yet, open},
};
use crate::{context::Context, output::Format};

#[derive(Debug, Args)]
pub(crate) struct PredictArguments {
    /// The model, or several: of what the release learned from, of the zoo, registered, or ONNX files.
    #[arg(long = "model", required = true, value_delimiter = ',')]
    models: Vec<String>,
    /// Platforms whose device on this machine is asked about; wasm, webgpu and webnn in each browser that was measured
    /// here.
    #[arg(long, value_delimiter = ',', conflicts_with = "devices")]
    platforms: Vec<Platform>,
    /// Browsers of wasm, webgpu and webnn. Not given: every one that was measured here.
    #[arg(long, value_delimiter = ',', requires = "platforms")]
    browsers: Vec<String>,
    /// Devices by name, of what the release learned from or of `--device-table`. Not given, nor `--platforms`: this
    /// machine's processor, if the release learned from it.
    #[arg(long, value_delimiter = ',')]
    devices: Vec<String>,
    #[arg(long, value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    batch_sizes: Vec<u32>,
    /// Threads of the session. Not given, like the precision: what was measured most.
    #[arg(long, value_delimiter = ',')]
    threads: Vec<u32>,
    #[arg(long, value_delimiter = ',')]
    precisions: Vec<String>,
    #[arg(long)]
    sequence_length: Option<u32>,
    #[arg(long)]
    image_size: Option<u32>,
    /// Metrics to predict. Not given: all that were trained.
    #[arg(long, value_delimiter = ',')]
    metrics: Vec<Metric>,
    #[command(flatten)]
    tables: TableArguments,
    /// The release; the current one if not given.
    #[arg(long)]
    release: Option<ReleaseId>,
    /// Where releases are kept. Not given: `releases` in the state directory.
    #[arg(long)]
    releases: Option<PathBuf>,
    /// Draws the first metric: several models against the devices as a heatmap; one over the batch size where several
    /// sizes are asked for, else as bars.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// One configuration about which every device is asked that a release can be asked about.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    /// As [`PredictArguments`] have them.
    pub(crate) model: String,
    pub(crate) batch_size: u32,
    pub(crate) threads: Option<u32>,
    pub(crate) precision: Option<String>,
    pub(crate) sequence_length: Option<u32>,
    pub(crate) image_size: Option<u32>,
    pub(crate) tables: TableArguments,
    pub(crate) releases: Option<PathBuf>,
    /// Devices that must be known, beside all that are.
    pub(crate) devices: Vec<String>,
}

/// What is predicted of a configuration on every device.
#[derive(Debug)]
pub(crate) struct OnEveryDevice {
    pub(crate) rows: Vec<PredictionRow>,
    /// By device.
    pub(crate) memory: BTreeMap<String, DeviceMemory>,
}

/// What a device has of memory, and what training the model would hold there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeviceMemory {
    /// In MB, if that is known.
    pub(crate) device_mb: Option<f64>,
    /// By physics, if the model's operators are known.
    pub(crate) training: Option<TrainingMemory>,
}

/// Predicts all metrics of a configuration on this machine's devices, those that the release learned from and those of
/// the device table; the table of imported devices stands in where none is named.
pub(crate) fn on_every_device(question: Question, context: &Context) -> anyhow::Result<OnEveryDevice> {
    let releases = open(context, question.releases.as_deref())?;
    let release = releases.current_id()?.ok_or_else(none_yet)?;
    let here = crate::commands::device::detect(context)?.devices;
    let mut platforms: Vec<Platform> = here.iter().map(|device| device.platform).collect();
    platforms.dedup();
    let mut arguments = PredictArguments {
        models: vec![question.model],
        platforms,
        browsers: Vec::new(),
        devices: Vec::new(),
        batch_sizes: vec![question.batch_size],
        threads: question.threads.into_iter().collect(),
        precisions: question.precision.into_iter().collect(),
        sequence_length: question.sequence_length,
        image_size: question.image_size,
        metrics: Vec::new(),
        tables: question.tables,
        release: Some(release.clone()),
        releases: question.releases,
        plot: None,
        format: Format::Json,
    };
    let release = releases.load(&release)?;
    arguments.tables.or_devices_of(&context.devices_file()?)?;
    arguments.devices = tables::device_names(&arguments, &release)?;
    let is_known = |name: &String| arguments.devices.iter().any(|known| known.eq_ignore_ascii_case(name));
    let is_here = |name: &String| here.iter().any(|device| device.name.eq_ignore_ascii_case(name));
    let strange: Vec<String> = question.devices.into_iter().filter(|name| !is_known(name) && !is_here(name)).collect();
    arguments.devices.extend(strange);
    let answered = tables::ask(&arguments, &release, context)?;
    Ok(OnEveryDevice { memory: answered.memory(), rows: answered.rows })
}

pub(super) fn run(arguments: &PredictArguments, context: &Context) -> anyhow::Result<()> {
    let releases = open(context, arguments.releases.as_deref())?;
    let release = match &arguments.release {
        Some(release) => release.clone(),
        None => releases.current_id()?.ok_or_else(none_yet)?,
    };
    tables::predict(arguments, &releases.load(&release)?, context)
}

/// Draws the first metric of the predictions, if a picture is asked for.
fn draw(arguments: &PredictArguments, rows: &[PredictionRow]) -> anyhow::Result<()> {
    let (Some(path), Some(first)) = (&arguments.plot, rows.first()) else { return Ok(()) };
    let metric: Metric = first.metric.parse()?;
    let rows: Vec<&PredictionRow> = rows.iter().filter(|row| row.metric == first.metric).collect();
    if count_models(&rows) > 1 {
        return drawing::draw_models(metric, &Matrix::of(&rows), path);
    }
    let point = |row: &PredictionRow| {
        let threads = row.threads.map_or_else(String::new, |threads| match threads {
            1 => ", 1 thread".to_owned(),
            threads => format!(", {threads} threads"),
        });
        Some(DrawnPrediction {
            name: format!("{}, {}{threads}", row.device, row.precision.as_deref().unwrap_or("any precision")),
            batch_size: row.batch_size,
            value: row.predicted?,
            lower: row.lower?,
            upper: row.upper?,
            confidence: row.confidence,
        })
    };
    let points: Vec<_> = rows.into_iter().filter_map(point).collect();
    drawing::draw(&first.model, metric, &points, path)
}

/// One metric of one configuration, as JSON has it.
#[derive(Debug, serde::Serialize)]
pub(crate) struct PredictionRow {
    pub(crate) release: String,
    model: String,
    pub(crate) device: String,
    pub(crate) platform: Option<String>,
    /// On a web platform.
    browser: Option<String>,
    configuration: String,
    pub(crate) precision: Option<String>,
    batch_size: u32,
    threads: Option<u32>,
    pub(crate) metric: String,
    /// Null where the configuration does not fit into the device's memory, with `lower` and `upper`.
    pub(crate) predicted: Option<f64>,
    pub(crate) lower: Option<f64>,
    pub(crate) upper: Option<f64>,
    /// Share of similar past predictions that fell within ±20 %; null where the release does not keep it.
    pub(crate) confidence: Option<f64>,
    /// What of the configuration was never measured: `configuration`, `model`, `device`, or that but for a few
    /// measurements: `few-shot`.
    novelty: &'static str,
    /// How many measurements of the device correct what is predicted of it as a new one; null for all others.
    pub(crate) shots: Option<u32>,
    /// How many configurations, families of models or devices, left out as this is new, the interval rests on.
    interval_rests_on: usize,
    /// Whether these are too few for a promise without assumptions.
    #[serde(skip)]
    rests_on_few: bool,
    pub(crate) known_model: bool,
    pub(crate) known_device: bool,
    /// Why the question is outside the known domain, if it is.
    pub(crate) outside: Vec<String>,
    /// Why the configuration cannot run, if it cannot.
    pub(crate) impossible: Option<String>,
}
