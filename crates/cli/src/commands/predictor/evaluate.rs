//! `augur predictor evaluate`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use messages::Metric;
use predictors::{Choose, Held, Learner, Protocol, Report, TableData, TrainSettings, evaluate, evaluate_split};

use crate::{
    output::{self, Format},
    plots::{Accuracy, AccuracyPoint, Plot},
    tables::Beside,
};

#[derive(Debug, Args)]
pub(crate) struct EvaluateArguments {
    /// Measurement tables that the protocol splits.
    #[arg(long, value_name = "FILE", num_args = 1.., required_unless_present = "train", conflicts_with_all = ["train", "test"])]
    input: Vec<PathBuf>,
    /// Measurement tables to train on.
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "test", conflicts_with = "protocol")]
    train: Vec<PathBuf>,
    /// Measurement tables to predict.
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "train")]
    test: Vec<PathBuf>,
    #[command(flatten)]
    beside: Beside,
    /// Which rows are held out.
    #[arg(long, default_value = "random", value_parser = ["random", "leave-family-out", "leave-device-out", "few-shot"])]
    protocol: String,
    /// `few-shot`: measurements of the new device that are given.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    shots: u32,
    /// `few-shot`: how they are chosen, `random` or `representative`.
    #[arg(long, default_value = "random")]
    choose: Choose,
    #[arg(long, default_value_t = Metric::LatencyMs)]
    metric: Metric,
    /// What learns: `gradient-boosting`, `neural-network`, or `both`: their mean, and trees alone for new devices.
    #[arg(long, default_value = "both")]
    learner: Learner,
    /// Where to write the report as JSON.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Where to write every prediction as CSV, beside what was measured; `part` counts folds, devices and draws.
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// Trees per booster.
    #[arg(long, default_value_t = TrainSettings::default().rounds, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Boosters per predictor, whose mean is the prediction.
    #[arg(long, default_value_t = TrainSettings::default().ensemble, value_parser = clap::value_parser!(u32).range(1..))]
    ensemble: u32,
    /// As `predictor train` has it: devices of which fewer configurations are trained on are predicted as if they were
    /// new, corrected by these; 0 for none.
    #[arg(long, value_name = "N", default_value_t = TrainSettings::default().few_shot_below)]
    few_shot_below: u32,
    /// Draws predicted against measured and the errors, as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Boosters that train at once. Not given: the cores of this machine.
    #[arg(long)]
    threads: Option<u32>,
    /// Seed of splits and boosters.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(arguments: &EvaluateArguments) -> anyhow::Result<()> {
    if arguments.metric == Metric::LoadMs {
        bail!("load_ms is in no measurement table, so nothing can be held against it");
    }
    let settings = settings(arguments);
    let (devices, operators) = (arguments.beside.devices()?, arguments.beside.operators()?);
    let prepare = |rows| TableData::new(rows, &devices, &operators, arguments.metric);
    let (data, report) = if arguments.train.is_empty() {
        let data = prepare(arguments.beside.rows(&arguments.input)?)?;
        let report = evaluate(&data, protocol(arguments), &settings, |step| eprintln!("{step}"))?;
        (data, report)
    } else {
        let mut rows = arguments.beside.rows(&arguments.train)?;
        let trained = rows.len();
        rows.extend(arguments.beside.rows(&arguments.test)?);
        let data = prepare(rows)?;
        let (training, test): (Vec<usize>, Vec<usize>) = data.measured().into_iter().partition(|row| *row < trained);
        if test.is_empty() {
            bail!("no row to test on has `{}`", arguments.metric);
        }
        eprintln!("{} rows to train on, {} to predict", training.len(), test.len());
        let report = evaluate_split(&data, &training, &test, &settings)?;
        (data, report)
    };
    if let Some(path) = &arguments.output {
        write(path, &(serde_json::to_string_pretty(&report)? + "\n"))?;
    }
    if let Some(path) = &arguments.predictions {
        write(path, &csv(&data, &report.predictions))?;
    }
    if let Some(path) = &arguments.plot {
        plot(&report).write(path)?;
    }
    output::answer(arguments.format, &report, table)
}

fn settings(arguments: &EvaluateArguments) -> TrainSettings {
    let cores = || std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
    TrainSettings {
        learner: arguments.learner,
        rounds: arguments.rounds,
        ensemble: arguments.ensemble,
        few_shot_below: arguments.few_shot_below,
        threads: arguments.threads.unwrap_or_else(cores),
        seed: arguments.seed,
        ..TrainSettings::default()
    }
}

fn protocol(arguments: &EvaluateArguments) -> Protocol {
    match arguments.protocol.as_str() {
        "leave-family-out" => Protocol::LeaveFamilyOut,
        "leave-device-out" => Protocol::LeaveDeviceOut,
        "few-shot" => Protocol::FewShot { shots: arguments.shots as usize, choose: arguments.choose },
        _ => Protocol::Random,
    }
}

fn plot(report: &Report) -> Accuracy {
    let Report { n, mape_pct, median_ape_pct, within_20_pct, interval_90_coverage_pct, .. } = report;
    let unit = match report.metric {
        "throughput_items_per_second" => "throughput, items per second",
        "memory_peak_mb" => "peak memory, MB",
        "power_w" => "power, W",
        _ => "latency, ms per batch",
    };
    let point = |held: &Held| AccuracyPoint {
        measured: held.measured,
        predicted: held.predicted,
        is_inside: (held.lower..=held.upper).contains(&held.measured),
    };
    Accuracy {
        title: format!("{}, {}: predicted against measured", report.metric, report.protocol),
        subtitle: format!(
            "{n} rows held out; error: mean {mape_pct:.1} %, median {median_ape_pct:.1} %; {within_20_pct:.0} % within \
             ±20 %; 90 % intervals held {interval_90_coverage_pct:.1} %"
        ),
        unit: unit.to_owned(),
        points: report.predictions.iter().map(point).collect(),
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
}

/// Every prediction as a line of CSV, with what a reader needs to group them.
fn csv(data: &TableData, predictions: &[Held]) -> String {
    let header = "part,row,model,device,platform,batch_size,measured,base,predicted,lower,upper,confidence";
    let lines = predictions.iter().map(|held| {
        let Held { part, row, measured, base, predicted, lower, upper, confidence } = held;
        let asked = &data.rows()[*row];
        let platform = asked.platform.as_deref().unwrap_or_default();
        let [model, device, platform] = [&asked.model, &asked.device, platform].map(quoted);
        let batch_size = asked.batch_size;
        format!("{part},{row},{model},{device},{platform},{batch_size},{measured},{base},{predicted},{lower},{upper},{confidence}")
    });
    std::iter::once(header.to_owned()).chain(lines).map(|line| line + "\n").collect()
}

/// A cell of CSV as RFC 4180 has it.
fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}

fn table(report: &Report) -> comfy_table::Table {
    let mut table = output::table(["group", "rows", "mean error", "90 % interval held"]);
    let percent = |value: f64| format!("{value:.2} %");
    let all = [("all, median error", report.median_ape_pct), ("all, within ±10 %", report.within_10_pct)];
    table.add_row([
        "all".to_owned(),
        report.n.to_string(),
        percent(report.mape_pct),
        percent(report.interval_90_coverage_pct),
    ]);
    for (name, value) in all {
        table.add_row([name.to_owned(), report.n.to_string(), percent(value), String::new()]);
    }
    let half_width = report.interval_90_half_width_median_pct;
    table.add_row([
        "all, half-width of intervals".to_owned(),
        report.n.to_string(),
        String::new(),
        percent(half_width),
    ]);
    let baselines = report.baselines;
    for (name, baseline) in
        [("roofline alone", baselines.roofline), ("nearest same model", baselines.nearest_same_model)]
    {
        table.add_row([name.to_owned(), report.n.to_string(), percent(baseline.mape_pct), String::new()]);
    }
    for group in &report.devices {
        table.add_row([
            group.group.clone(),
            group.n.to_string(),
            percent(group.mape_pct),
            percent(group.interval_90_coverage_pct),
        ]);
    }
    table
}
