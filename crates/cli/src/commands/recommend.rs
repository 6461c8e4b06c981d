//! `augur recommend hardware`: which device suits a model, from what the current release predicts.

mod candidates;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use planner::{Estimate, Excluded, Goal, Limits, Ranked, Recommendation};
use serde::Serialize;

use super::predictor::predict::TableArguments;
use crate::{
    context::Context,
    exit::Exit,
    output::{self, Format},
    plots::{Bar, Bars, Plot},
};

#[derive(Debug, Subcommand)]
pub(crate) enum RecommendCommand {
    /// Ranks devices by what the current release predicts of a model on them: this machine's, and for a release from
    /// tables also theirs and the imported ones.
    #[command(
        after_help = "Examples: augur recommend hardware --model resnet50 --optimize throughput --max-memory-mb 4000\n          \
                      augur recommend hardware --model resnet50 --task training --batch-size 64"
    )]
    Hardware(HardwareArguments),
}

#[derive(Debug, Args)]
pub(crate) struct HardwareArguments {
    /// The model: of the release's tables, of the zoo, registered, or an ONNX file.
    #[arg(long)]
    model: String,
    /// What the model does there; training is derived from inference and physics, because nothing measured it.
    #[arg(long, value_enum, default_value_t)]
    task: Task,
    /// What the hardware should be best at: latency, throughput, memory or power.
    #[arg(long, default_value = "latency")]
    optimize: Goal,
    /// Only these devices or platforms. Not given: all that are known.
    #[arg(long, value_delimiter = ',')]
    available: Vec<String>,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Threads of the session. Not given: 1, or what the tables have.
    #[arg(long)]
    threads: Option<u32>,
    /// Not given: fp32, or what the tables have most of.
    #[arg(long)]
    precision: Option<String>,
    #[arg(long)]
    sequence_length: Option<u32>,
    #[arg(long)]
    image_size: Option<u32>,
    /// Most milliseconds per batch.
    #[arg(long, value_parser = above_zero)]
    max_latency_ms: Option<f64>,
    /// Most peak memory, in MB (10^6 bytes).
    #[arg(long, value_parser = above_zero)]
    max_memory_mb: Option<f64>,
    /// Most power, in watts.
    #[arg(long, value_parser = above_zero)]
    max_power_w: Option<f64>,
    #[command(flatten)]
    tables: TableArguments,
    /// Where releases are kept. Not given: `releases` in the state directory.
    #[arg(long)]
    releases: Option<PathBuf>,
    /// Draws the ranked devices as bars with their intervals, as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Task {
    #[default]
    Inference,
    Training,
}

impl Task {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Inference => "inference",
            Self::Training => "training",
        }
    }

    /// What a reader of the numbers must know.
    fn notes(self) -> Vec<&'static str> {
        match self {
            Self::Inference => Vec::new(),
            Self::Training => vec![planner::TRAINING_BASIS],
        }
    }
}

/// The answer as JSON.
#[derive(Serialize)]
struct Answer {
    model: String,
    task: &'static str,
    batch_size: u32,
    optimize: &'static str,
    release: String,
    notes: Vec<&'static str>,
    ranked: Vec<RankedRow>,
    excluded: Vec<ExcludedRow>,
}

#[derive(Serialize)]
struct RankedRow {
    rank: usize,
    tied: bool,
    device: String,
    platform: String,
    latency_ms: Option<EstimateRow>,
    throughput_items_per_second: Option<EstimateRow>,
    memory_peak_mb: Option<EstimateRow>,
    power_w: Option<EstimateRow>,
    cost_per_million_items: Option<EstimateRow>,
    reasons: Vec<String>,
}

#[derive(Serialize)]
struct EstimateRow {
    value: f64,
    lower: f64,
    upper: f64,
    confidence: Option<f64>,
}

#[derive(Serialize)]
struct ExcludedRow {
    device: String,
    reason: String,
}

impl From<Estimate> for EstimateRow {
    fn from(Estimate { value, lower, upper, confidence }: Estimate) -> Self {
        Self { value, lower, upper, confidence }
    }
}

pub(crate) fn run(command: &RecommendCommand, context: &Context) -> anyhow::Result<Exit> {
    let RecommendCommand::Hardware(arguments) = command;
    let asked = tokio::task::block_in_place(|| candidates::of(arguments, context))?;
    let limits = Limits {
        latency_ms: arguments.max_latency_ms,
        memory_mb: arguments.max_memory_mb,
        power_w: arguments.max_power_w,
    };
    let goal = arguments.optimize;
    let mut recommendation = planner::recommend(asked.candidates, goal, &limits);
    recommendation.excluded.extend(asked.excluded);
    if let Some(path) = &arguments.plot {
        bars(arguments, &recommendation).write(path)?;
    }
    let answer = answer(arguments, asked.release, recommendation);
    output::answer(arguments.format, &answer, table)?;
    if arguments.format == Format::Table {
        for note in &answer.notes {
            eprintln!("note: {note}");
        }
        for ExcludedRow { device, reason } in &answer.excluded {
            eprintln!("excluded: {device}: {reason}");
        }
    }
    Ok(if answer.ranked.is_empty() { Exit::Unwelcome } else { Exit::Done })
}

/// Reads a number above 0.
pub(super) fn above_zero(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err(format!("`{text}` is not a number above 0")),
    }
}

fn answer(arguments: &HardwareArguments, release: String, recommendation: Recommendation) -> Answer {
    let Recommendation { ranked, excluded } = recommendation;
    let row = |Ranked { rank, is_tied, candidate, cost_per_million, reasons }| RankedRow {
        rank,
        tied: is_tied,
        device: candidate.device,
        platform: candidate.platform,
        latency_ms: candidate.latency_ms.map(EstimateRow::from),
        throughput_items_per_second: candidate.throughput_items_per_second.map(EstimateRow::from),
        memory_peak_mb: candidate.memory_peak_mb.map(EstimateRow::from),
        power_w: candidate.power_w.map(EstimateRow::from),
        cost_per_million_items: cost_per_million.map(EstimateRow::from),
        reasons,
    };
    Answer {
        model: arguments.model.clone(),
        task: arguments.task.as_str(),
        batch_size: arguments.batch_size,
        optimize: arguments.optimize.as_str(),
        release,
        notes: arguments.task.notes(),
        ranked: ranked.into_iter().map(row).collect(),
        excluded: excluded.into_iter().map(|Excluded { device, reason }| ExcludedRow { device, reason }).collect(),
    }
}

fn table(answer: &Answer) -> comfy_table::Table {
    let mut table = output::table([
        "rank",
        "device",
        "latency ms",
        "items/s",
        "memory MB",
        "power W",
        "confidence",
        "cost per million",
        "why",
    ]);
    let cell = |estimate: &Option<EstimateRow>| {
        estimate.as_ref().map_or_else(
            || "–".to_owned(),
            |EstimateRow { value, lower, upper, .. }| {
                let [value, lower, upper] = [value, lower, upper].map(|number| output::number(Some(*number)));
                format!("{value} ({lower} – {upper})")
            },
        )
    };
    for row in &answer.ranked {
        let goal = match answer.optimize {
            "throughput" => &row.throughput_items_per_second,
            "memory" => &row.memory_peak_mb,
            "power" => &row.power_w,
            _ => &row.latency_ms,
        };
        let confidence = goal.as_ref().and_then(|estimate| estimate.confidence);
        table.add_row([
            format!("{}{}", row.rank, if row.tied { " (tied)" } else { "" }),
            row.device.clone(),
            cell(&row.latency_ms),
            cell(&row.throughput_items_per_second),
            cell(&row.memory_peak_mb),
            cell(&row.power_w),
            confidence.map_or_else(|| "–".to_owned(), |confidence| format!("{:.0} %", 100.0 * confidence)),
            cell(&row.cost_per_million_items),
            row.reasons.join("; "),
        ]);
    }
    table
}

fn bars(arguments: &HardwareArguments, recommendation: &Recommendation) -> Bars {
    let goal = arguments.optimize;
    let bar = |ranked: &Ranked| {
        let estimate = ranked.candidate.estimate(goal.metric())?;
        let tied = if ranked.is_tied { ", tied" } else { "" };
        let sure = estimate.confidence.map_or_else(String::new, |sure| format!(", confidence {:.0} %", 100.0 * sure));
        Some(Bar {
            name: ranked.candidate.device.clone(),
            value: estimate.value,
            interval: Some((estimate.lower, estimate.upper)),
            note: format!("rank {}{tied}{sure}", ranked.rank),
        })
    };
    let HardwareArguments { model, batch_size, .. } = arguments;
    let (title, latency) = match arguments.task {
        Task::Inference => {
            (format!("{model}, batch {batch_size}: devices by {goal}, with 90 % intervals"), "latency, ms per batch")
        }
        Task::Training => (
            format!("{model}, training, batch {batch_size}: devices by {goal}, derived from inference and physics"),
            "latency, ms per step",
        ),
    };
    let axis = match goal {
        Goal::Latency => latency,
        Goal::Throughput => "throughput, items per second",
        Goal::Memory => "peak memory, MB",
        Goal::Power => "power, W",
    };
    let rows = recommendation.ranked.iter().filter_map(bar).collect();
    Bars { title, axis: format!("predicted {axis}"), rows }
}
