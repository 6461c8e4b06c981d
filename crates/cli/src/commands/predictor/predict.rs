//! `augur predictor predict`: the current release, or another, is asked about configurations.

mod answers;
mod asked;
mod jobs;
mod tables;

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use messages::{Metric, Platform, ReleaseId};
use predictors::Source;

use super::releases::{none_yet, open};
use crate::{context::Context, output::Format};

#[derive(Debug, Args)]
pub(crate) struct PredictArguments {
    /// The model: of the release's tables, of the zoo, registered, or an ONNX file.
    #[arg(long)]
    model: String,
    /// Platforms whose device on this machine is asked about.
    #[arg(long, value_delimiter = ',', conflicts_with = "devices")]
    platforms: Vec<Platform>,
    /// Devices by name, of the release's tables or of `--device-table`.
    #[arg(long, value_delimiter = ',')]
    devices: Vec<String>,
    #[arg(long, value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    batch_sizes: Vec<u32>,
    /// Threads of the session. Not given: 1, or what the tables have.
    #[arg(long, value_delimiter = ',')]
    threads: Vec<u32>,
    /// Precisions. Not given: fp32, or what the tables have most of.
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
    tables: tables::TableArguments,
    /// The release; the current one if not given.
    #[arg(long)]
    release: Option<ReleaseId>,
    /// Where releases are kept. Not given: `releases` in the state directory.
    #[arg(long)]
    releases: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(arguments: &PredictArguments, context: &Context) -> anyhow::Result<()> {
    let releases = open(context, arguments.releases.as_deref())?;
    let release = match &arguments.release {
        Some(release) => release.clone(),
        None => releases.current_id()?.ok_or_else(none_yet)?,
    };
    match releases.manifest(&release)?.source {
        Source::Tables(_) => tables::predict(arguments, &releases.load_tables(&release)?, context),
        Source::Jobs(_) if !arguments.devices.is_empty() => bail!(
            "release `{release}` learned from this machine's jobs and knows no other devices; ask with --platforms, or \
             train a release from tables with `augur predictor train`"
        ),
        Source::Jobs(_) => jobs::predict(arguments, &releases.load(&release)?, context),
    }
}

/// One metric of one configuration, as JSON has it.
#[derive(Debug, serde::Serialize)]
struct PredictionRow {
    release: String,
    model: String,
    device: String,
    configuration: String,
    precision: Option<String>,
    batch_size: u32,
    threads: Option<u32>,
    metric: String,
    /// Null where the configuration does not fit into the device's memory, with `lower` and `upper`.
    predicted: Option<f64>,
    lower: Option<f64>,
    upper: Option<f64>,
    /// Share of similar past predictions that fell within ±20 %; null where the release does not keep it.
    confidence: Option<f64>,
    /// What of the configuration was never measured: `configuration`, `model` or `device`.
    novelty: &'static str,
    known_model: bool,
    known_device: bool,
    /// Why the question is outside the known domain, if it is.
    outside: Vec<String>,
    /// Why the configuration cannot run, if it cannot.
    impossible: Option<String>,
}
