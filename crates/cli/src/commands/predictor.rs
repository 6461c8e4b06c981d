//! `augur predictor predict|evaluate|list|show|wait|promote`.

mod drawing;
mod evaluate;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use broker::{BrokerError, Settlement, Start, Subscription};
use clap::{Args, Subcommand};
use messages::{Backend, Configuration, Metric, ModelRef, Platform, Precision, ReleaseId};
use pipeline::{prediction_subject, resolve_shape};
use predictors::{Grouping, Manifest, Releases};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use self::drawing::DrawnPrediction;
use crate::{
    context::Context,
    exit::Exit,
    output::{self, Format},
};

#[derive(Debug, Subcommand)]
pub(crate) enum PredictorCommand {
    /// Predicts configurations on this machine's devices, each with its 90 % interval.
    #[command(
        after_help = "Example: augur predictor predict --model resnet50 --platforms cpu --batch-sizes 1,2,4 --threads 1,2"
    )]
    Predict(PredictArguments),
    /// Holds predictors against measurement tables: error, coverage and ranking.
    #[command(
        after_help = "Example: augur predictor evaluate --input measurements.csv.gz --devices devices.csv --operators operators.jsonl.gz --protocol leave-family-out --output report.json"
    )]
    Evaluate(evaluate::EvaluateArguments),
    /// Lists releases, the oldest first.
    #[command(after_help = "Example: augur predictor list")]
    List {
        /// Where releases are kept. Not given: `releases` in the state directory.
        #[arg(long)]
        releases: Option<PathBuf>,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Shows a release and its evaluation.
    #[command(after_help = "Example: augur predictor show r000003-1f2e3d4c")]
    Show {
        /// The release; the current one if not given.
        release: Option<ReleaseId>,
        #[arg(long)]
        releases: Option<PathBuf>,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Waits until the current release was trained on enough measurements, and prints its name.
    #[command(after_help = "Example: augur predictor wait --rows 60 --timeout-s 60")]
    Wait {
        /// Measurements that it must have been trained on.
        #[arg(long)]
        rows: u32,
        /// Gives up after this long, in seconds.
        #[arg(long, default_value_t = 60)]
        timeout_s: u64,
        #[arg(long)]
        releases: Option<PathBuf>,
    },
    /// Makes a release the current one.
    #[command(after_help = "Example: augur predictor promote r000002-0a1b2c3d")]
    Promote {
        /// The release.
        release: ReleaseId,
        #[arg(long)]
        releases: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PredictArguments {
    /// The model, from the zoo or registered.
    #[arg(long)]
    model: String,
    #[arg(long, value_delimiter = ',', default_value = "cpu")]
    platforms: Vec<Platform>,
    #[arg(long, value_delimiter = ',', default_value = "1")]
    batch_sizes: Vec<u32>,
    #[arg(long, value_delimiter = ',', default_value = "1")]
    threads: Vec<u32>,
    #[arg(long, value_delimiter = ',', default_value = "fp32")]
    precisions: Vec<Precision>,
    #[arg(long)]
    sequence_length: Option<u32>,
    #[arg(long)]
    image_size: Option<u32>,
    /// Where releases are kept. Not given: `releases` in the state directory.
    #[arg(long)]
    releases: Option<PathBuf>,
    /// Draws the latencies: over the batch size where several are asked for, else as bars.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Serialize)]
struct PredictionRow {
    release: String,
    device: String,
    configuration: String,
    batch_size: u32,
    threads: u32,
    metric: String,
    predicted: f64,
    lower: f64,
    upper: f64,
    known_model: bool,
    known_device: bool,
}

#[derive(Serialize)]
struct ReleaseLine {
    release: String,
    is_current: bool,
    parent: Option<String>,
    created_at: String,
    training_rows: u32,
    evaluation: Vec<EvaluationLine>,
}

#[derive(Serialize)]
struct EvaluationLine {
    metric: String,
    tested_on: &'static str,
    rows: u32,
    mape_pct: f64,
    median_ape_pct: f64,
    interval_90_coverage_pct: f64,
    interval_90_half_width_median_pct: f64,
    roofline_mape_pct: f64,
}

pub(crate) async fn run(command: PredictorCommand, context: &Context) -> anyhow::Result<Exit> {
    match command {
        PredictorCommand::Predict(arguments) => predict(&arguments, context)?,
        PredictorCommand::Evaluate(arguments) => evaluate::run(&arguments)?,
        PredictorCommand::List { releases, format } => {
            let releases = open(context, releases.as_deref())?;
            let current = releases.current_id()?;
            let lines: Vec<_> = releases.list()?.iter().map(|manifest| line(manifest, current.as_ref())).collect();
            output::answer(format, &lines, |lines| releases_table(lines))?;
        }
        PredictorCommand::Show { release, releases, format } => {
            let releases = open(context, releases.as_deref())?;
            let current = releases.current_id()?;
            let wanted = release.or_else(|| current.clone()).ok_or_else(none_yet)?;
            let line = line(&releases.load(&wanted)?.manifest, current.as_ref());
            output::answer(format, &line, evaluation_table)?;
        }
        PredictorCommand::Wait { rows, timeout_s, releases } => {
            let releases = open(context, releases.as_deref())?;
            let release =
                tokio::time::timeout(Duration::from_secs(timeout_s), wait(context, &releases, rows))
                    .await
                    .with_context(|| format!("no release was trained on {rows} measurements within {timeout_s} s"))??;
            output::print(&release.to_string())?;
        }
        PredictorCommand::Promote { release, releases } => {
            open(context, releases.as_deref())?.promote(&release)?;
            output::print(&format!("{release} is the current release"))?;
        }
    }
    Ok(Exit::Done)
}

/// Looks at the current release, again whenever there is news of one.
async fn wait(context: &Context, releases: &Releases, rows: u32) -> anyhow::Result<ReleaseId> {
    let stop = CancellationToken::new();
    let _stop_in_the_end = stop.clone().drop_guard();
    let url = context.amqp_url()?;
    let mut news = Subscription::start(
        &url,
        "augur predictor wait",
        topology::names::RELEASES,
        Start::StreamNext,
        1,
        Context::command_patience(),
        &stop,
    )
    .await?;
    loop {
        if let Some(release) = releases.current()?.filter(|release| release.manifest.training_rows >= rows) {
            return Ok(release.manifest.release_id);
        }
        news.next().await.ok_or(BrokerError::Closed)?.settle(Settlement::Done).await?;
    }
}

fn open(context: &Context, flag: Option<&Path>) -> anyhow::Result<Releases> {
    Ok(Releases::open(&context.releases_directory(flag)?)?)
}

fn none_yet() -> anyhow::Error {
    anyhow!("there is no release of predictors yet; run a suite of benchmarks with `augur updater start` running")
}

fn predict(arguments: &PredictArguments, context: &Context) -> anyhow::Result<()> {
    if let Some(precision) = arguments.precisions.iter().find(|precision| **precision != Precision::Fp32) {
        bail!("{precision} is unavailable, because this version measures fp32 only and has nothing to learn it from");
    }
    let release = open(context, arguments.releases.as_deref())?.current()?.ok_or_else(none_yet)?;
    let models = context.models()?;
    let cached = models.obtain(&arguments.model, Precision::Fp32)?;
    let mut subjects = Vec::new();
    for &platform in &arguments.platforms {
        let device = super::device::of_platform(context, platform)?;
        for &precision in &arguments.precisions {
            for &batch_size in &arguments.batch_sizes {
                for &threads in &arguments.threads {
                    let mut configuration = Configuration {
                        model: ModelRef::clone(&cached.model),
                        platform,
                        backend: Backend::Onnxruntime,
                        precision,
                        batch_size,
                        sequence_length: arguments.sequence_length,
                        image_size: arguments.image_size,
                        threads,
                    };
                    resolve_shape(&mut configuration);
                    configuration.validate()?;
                    subjects.push(prediction_subject(&models, configuration, device.clone())?);
                }
            }
        }
    }
    let predicted = release.predictors.predict(&subjects)?;
    let rows: Vec<PredictionRow> = subjects
        .iter()
        .zip(&predicted)
        .flat_map(|(subject, predicted)| {
            predicted.metrics.iter().map(|metric| PredictionRow {
                release: release.manifest.release_id.to_string(),
                device: subject.device.name.clone(),
                configuration: subject.configuration.to_string(),
                batch_size: subject.configuration.batch_size,
                threads: subject.configuration.threads,
                metric: metric.metric.to_string(),
                predicted: metric.value,
                lower: metric.lower,
                upper: metric.upper,
                known_model: predicted.known_model,
                known_device: predicted.known_device,
            })
        })
        .collect();
    if let Some(path) = &arguments.plot {
        drawing::draw(&arguments.model, Metric::LatencyMs, &points(&rows, Metric::LatencyMs), path)?;
    }
    output::answer(arguments.format, &rows, |rows| predictions_table(rows))?;
    if predicted.iter().any(|predicted| !predicted.known_device) {
        eprintln!("note: nothing was measured on this device yet; the intervals promise too much");
    } else if predicted.iter().any(|predicted| !predicted.known_model) {
        eprintln!("note: this model was not measured on this device yet; the intervals are those of models never seen");
    }
    Ok(())
}

fn points(rows: &[PredictionRow], metric: Metric) -> Vec<DrawnPrediction> {
    rows.iter()
        .filter(|row| row.metric == metric.as_str())
        .map(|row| DrawnPrediction {
            name: format!("{}, {} threads", row.device, row.threads),
            batch_size: row.batch_size,
            value: row.predicted,
            lower: row.lower,
            upper: row.upper,
            confidence: None,
        })
        .collect()
}

fn predictions_table(rows: &[PredictionRow]) -> comfy_table::Table {
    let mut table = output::table(["configuration", "latency ms", "items/s", "memory MB"]);
    let cell = |rows: &[&PredictionRow], metric: Metric| {
        rows.iter().find(|row| row.metric == metric.as_str()).map_or_else(
            || "–".to_owned(),
            |row| {
                let [value, lower, upper] =
                    [row.predicted, row.lower, row.upper].map(|value| output::number(Some(value)));
                format!("{value} ({lower} – {upper})")
            },
        )
    };
    let mut rest: Vec<&PredictionRow> = rows.iter().collect();
    while let Some(first) = rest.first() {
        let (same, others): (Vec<_>, Vec<_>) =
            rest.iter().partition(|row| row.configuration == first.configuration && row.device == first.device);
        table.add_row([
            first.configuration.clone(),
            cell(&same, Metric::LatencyMs),
            cell(&same, Metric::ThroughputItemsPerSecond),
            cell(&same, Metric::MemoryPeakMb),
        ]);
        rest = others;
    }
    table
}

fn line(manifest: &Manifest, current: Option<&ReleaseId>) -> ReleaseLine {
    let evaluation = manifest.evaluation.iter().map(|evaluation| EvaluationLine {
        metric: evaluation.metric.to_string(),
        tested_on: match evaluation.grouping {
            Grouping::Model => "models never seen",
            Grouping::Configuration => "configurations never seen",
        },
        rows: evaluation.rows,
        mape_pct: evaluation.mape_pct,
        median_ape_pct: evaluation.median_ape_pct,
        interval_90_coverage_pct: evaluation.interval_90_coverage_pct,
        interval_90_half_width_median_pct: evaluation.interval_90_half_width_median_pct,
        roofline_mape_pct: evaluation.roofline_mape_pct,
    });
    ReleaseLine {
        release: manifest.release_id.to_string(),
        is_current: current == Some(&manifest.release_id),
        parent: manifest.parent.as_ref().map(ToString::to_string),
        created_at: manifest.created_at.to_string(),
        training_rows: manifest.training_rows,
        evaluation: evaluation.collect(),
    }
}

fn releases_table(lines: &[ReleaseLine]) -> comfy_table::Table {
    let mut table = output::table(["release", "made", "rows", "parent", "latency error", "memory error"]);
    for line in lines {
        let error = |metric: Metric| {
            let of_metric = line.evaluation.iter().find(|evaluation| evaluation.metric == metric.as_str());
            of_metric.map_or_else(|| "–".to_owned(), |evaluation| format!("{:.1} %", evaluation.mape_pct))
        };
        table.add_row([
            format!("{}{}", line.release, if line.is_current { " (current)" } else { "" }),
            line.created_at.clone(),
            line.training_rows.to_string(),
            output::text(line.parent.as_ref()),
            error(Metric::LatencyMs),
            error(Metric::MemoryPeakMb),
        ]);
    }
    table
}

fn evaluation_table(line: &ReleaseLine) -> comfy_table::Table {
    eprintln!("release {} of {}, {} training rows", line.release, line.created_at, line.training_rows);
    let mut table = output::table([
        "metric",
        "tested on",
        "rows",
        "mean error",
        "median error",
        "90 % interval held",
        "its half width",
        "roofline alone",
    ]);
    for evaluation in &line.evaluation {
        let percent = |value: f64| format!("{value:.1} %");
        table.add_row([
            evaluation.metric.clone(),
            evaluation.tested_on.to_owned(),
            evaluation.rows.to_string(),
            percent(evaluation.mape_pct),
            percent(evaluation.median_ape_pct),
            percent(evaluation.interval_90_coverage_pct),
            percent(evaluation.interval_90_half_width_median_pct),
            percent(evaluation.roofline_mape_pct),
        ]);
    }
    table
}
