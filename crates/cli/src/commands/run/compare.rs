//! `augur run compare`: regressions, with the statistics behind them.

use std::collections::BTreeMap;

use clap::Args;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use messages::RunId;
use pipeline::{CompareSettings, Compared, Comparison, Repeats, Verdict, compare_repeats};
use serde::Serialize;
use store::ResultRow;

use crate::{
    api::Api,
    context::Context,
    exit::Exit,
    output::{self, Format},
};

/// Jobs whose raw iterations are asked for at once.
const ASKED_AT_ONCE: usize = 8;

#[derive(Debug, Args)]
#[command(
    after_help = "Example: augur run compare RUN BASELINE --threshold-pct 5\n\nEach configuration's repeats are \
                        compared by the exact Mann-Whitney test on the medians of their raw iterations, and the \
                        configurations of each device together by the exact sign test; Holm's correction keeps the \
                        chance of any false alarm at --false-alarms. Exit code 1 if there is a regression."
)]
pub(crate) struct CompareArguments {
    /// The run that is judged.
    run: RunId,
    /// The run that it is held against.
    baseline: RunId,
    /// Smallest difference that matters, in percent.
    #[arg(long, default_value_t = 5.0, value_parser = super::super::recommend::above_zero)]
    threshold_pct: f64,
    /// Probability of any false alarm in the whole comparison.
    #[arg(long, default_value_t = 0.05, value_parser = probability)]
    false_alarms: f64,
    /// Shows every configuration, not only those that differ.
    #[arg(long)]
    all: bool,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

fn probability(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number < 1.0 => Ok(number),
        _ => Err(format!("`{text}` is not between 0 and 1")),
    }
}

/// The answer as JSON.
#[derive(Serialize)]
struct Answer {
    run: String,
    baseline: String,
    threshold_pct: f64,
    false_alarms: f64,
    test: &'static str,
    regressions: usize,
    improvements: usize,
    compared: Vec<ComparedRow>,
    /// The configurations of each device together.
    devices: Vec<ComparedRow>,
    /// Configurations that only one of the runs measured.
    only_run: Vec<String>,
    only_baseline: Vec<String>,
}

#[derive(Serialize)]
struct ComparedRow {
    configuration: String,
    verdict: &'static str,
    run_ms: f64,
    baseline_ms: f64,
    difference_pct: f64,
    lower_pct: Option<f64>,
    upper_pct: Option<f64>,
    p: Option<f64>,
    p_corrected: Option<f64>,
    run_repeats: usize,
    baseline_repeats: usize,
}

pub(crate) async fn run(arguments: &CompareArguments, context: &Context) -> anyhow::Result<Exit> {
    let api = context.api()?;
    let mut run = iterations(&api, arguments.run).await?;
    let baseline = iterations(&api, arguments.baseline).await?;
    let only_run = run.keys().filter(|of| !baseline.contains_key(*of)).map(|of| of.name.clone()).collect();
    let (mut repeats, mut only_baseline) = (Vec::new(), Vec::new());
    for (of, baseline) in baseline {
        match run.remove(&of) {
            Some(run) => repeats.push(Repeats { name: of.name, place: of.place, run, baseline }),
            None => only_baseline.push(of.name),
        }
    }
    let CompareArguments { threshold_pct, false_alarms, .. } = *arguments;
    let compared = compare_repeats(&repeats, &CompareSettings { false_alarms, threshold_pct });
    let answer = answer(arguments, &compared, only_run, only_baseline);
    output::answer(arguments.format, &answer, |answer| table(answer, arguments.all))?;
    if arguments.format == Format::Table {
        explain(&answer, &compared.configurations);
    }
    Ok(if answer.regressions > 0 { Exit::Unwelcome } else { Exit::Done })
}

/// What was measured: equal in two jobs that are repeats of each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Measured {
    name: String,
    /// The platform and the device.
    place: String,
}

/// The raw iterations of every measured configuration of a run, repeat by repeat; what nobody learns from, because it is
/// impossible or was disturbed, is no repeat.
async fn iterations(api: &Api, run: RunId) -> anyhow::Result<BTreeMap<Measured, Vec<Vec<f64>>>> {
    let rows: Vec<ResultRow> = api.get(&format!("/api/runs/{run}/results")).await?;
    let measured = rows.into_iter().filter(|row| row.latency_p50_ms.is_some() && row.accepted != Some(false));
    let of_job = |row: ResultRow| async move {
        let ms: Vec<f64> = api.get(&format!("/api/jobs/{}/iterations", row.job_id)).await?;
        anyhow::Ok((Measured { name: name(&row), place: place(&row) }, ms))
    };
    let jobs: Vec<(Measured, Vec<f64>)> =
        stream::iter(measured).map(of_job).buffered(ASKED_AT_ONCE).try_collect().await?;
    let mut repeats: BTreeMap<Measured, Vec<Vec<f64>>> = BTreeMap::new();
    for (of, ms) in jobs {
        if !ms.is_empty() && ms.iter().all(|ms| ms.is_finite() && *ms > 0.0) {
            repeats.entry(of).or_default().push(ms);
        }
    }
    Ok(repeats)
}

/// What must be equal for two jobs to be repeats of each other: everything that a job may choose, and the device; of the
/// model's file the beginning of its hash.
fn name(row: &ResultRow) -> String {
    let word = |word: &Option<String>| word.as_ref().map_or_else(String::new, |word| format!(" {word}"));
    let of = |name: &str, size: Option<u32>| size.map_or_else(String::new, |size| format!(" {name} {size}"));
    format!(
        "{} {}{}{}{}{}{}{}{}{} on {}",
        output::text(row.model.as_ref()),
        row.platform,
        word(&row.browser),
        word(&row.backend),
        word(&row.precision),
        of("batch", row.batch_size),
        of("sequence", row.sequence_length),
        of("image", row.image_size),
        of("threads", row.threads),
        row.model_sha256.as_ref().map_or_else(String::new, |hash| format!(" file {hash:.8}")),
        output::text(row.device.as_ref()),
    )
}

fn place(row: &ResultRow) -> String {
    format!("{} on {}", row.platform, output::text(row.device.as_ref()))
}

fn answer(
    arguments: &CompareArguments,
    compared: &Comparison,
    only_run: Vec<String>,
    only_baseline: Vec<String>,
) -> Answer {
    let count = |verdict| compared.all().filter(|of| of.verdict == verdict).count();
    Answer {
        run: arguments.run.to_string(),
        baseline: arguments.baseline.to_string(),
        threshold_pct: arguments.threshold_pct,
        false_alarms: arguments.false_alarms,
        test: "exact Mann-Whitney, by device exact sign test, Holm-corrected",
        regressions: count(Verdict::Regression),
        improvements: count(Verdict::Improvement),
        compared: compared.configurations.iter().map(row).collect(),
        devices: compared.devices.iter().map(row).collect(),
        only_run,
        only_baseline,
    }
}

fn row(of: &Compared) -> ComparedRow {
    let percent = |ratio: f64| 100.0 * (ratio - 1.0);
    ComparedRow {
        configuration: of.name.clone(),
        verdict: of.verdict.as_str(),
        run_ms: of.run_ms,
        baseline_ms: of.baseline_ms,
        difference_pct: percent(of.ratio),
        lower_pct: of.interval.map(|[lower, _]| percent(lower)),
        upper_pct: of.interval.map(|[_, upper]| percent(upper)),
        p: of.p,
        p_corrected: of.p_corrected,
        run_repeats: of.repeats[0],
        baseline_repeats: of.repeats[1],
    }
}

/// A difference and its interval, in percent, as people read them.
pub(super) fn change(difference_pct: f64, lower_pct: Option<f64>, upper_pct: Option<f64>) -> [String; 2] {
    let signed = |percent: f64| format!("{percent:+.1} %");
    let interval = lower_pct.zip(upper_pct).map(|(lower, upper)| format!("{} – {}", signed(lower), signed(upper)));
    [signed(difference_pct), output::text(interval)]
}

fn table(answer: &Answer, all: bool) -> comfy_table::Table {
    let mut table = output::table([
        "configuration",
        "baseline ms",
        "run ms",
        "difference",
        "95 % interval",
        "p, corrected",
        "repeats",
        "verdict",
    ]);
    let differs = |row: &&ComparedRow| row.verdict == "regression" || row.verdict == "improvement";
    let shown = answer.devices.iter().chain(&answer.compared).filter(|row| all || differs(row));
    for row in shown {
        let [difference, interval] = change(row.difference_pct, row.lower_pct, row.upper_pct);
        table.add_row([
            row.configuration.clone(),
            output::number(Some(row.baseline_ms)),
            output::number(Some(row.run_ms)),
            difference,
            interval,
            output::text(row.p_corrected.map(|p| format!("{p:.2e}"))),
            format!("{} and {}", row.baseline_repeats, row.run_repeats),
            row.verdict.to_owned(),
        ]);
    }
    table
}

/// Says what the table does not.
fn explain(answer: &Answer, compared: &[Compared]) {
    let undecided = compared.iter().filter(|of| of.verdict == Verdict::Undecided).count();
    eprintln!(
        "{} configurations compared, and those of each device together: {} regressions, {} improvements, {undecided} \
         undecided; differences below {} % do \
         not count, and the chance of any false alarm is at most {}",
        compared.len(),
        answer.regressions,
        answer.improvements,
        answer.threshold_pct,
        answer.false_alarms,
    );
    if undecided > 0 {
        eprintln!("undecided configurations have too few repeats: `repeat: 10` in the suite gives more");
    }
    for (what, names) in [("the run", &answer.only_run), ("the baseline", &answer.only_baseline)] {
        if !names.is_empty() {
            eprintln!("measured by {what} only, and not compared: {}", names.join("; "));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    /// Two browsers, runtimes or files under one name passed for repeats of one configuration.
    #[test]
    fn repeats_are_equal_in_everything_that_a_job_may_choose() {
        let row = ResultRow {
            model_sha256: Some("1a2b3c4d5e6f".to_owned()),
            ..fixture::benchmark("case", "bert", 1, 10.0, 100.0)
        };
        let expected = "bert cpu onnxruntime fp32 batch 1 sequence 128 threads 2 file 1a2b3c4d on EPYC, 2 cores";
        assert_eq!(name(&row), expected);
        let others = [
            ResultRow { browser: Some("firefox".to_owned()), ..row.clone() },
            ResultRow { backend: Some("ort-web".to_owned()), ..row.clone() },
            ResultRow { model_sha256: Some("2b3c4d5e6f70".to_owned()), ..row.clone() },
            ResultRow { image_size: Some(224), ..row.clone() },
        ];
        assert!(others.iter().all(|other| name(other) != name(&row)));
    }
}
