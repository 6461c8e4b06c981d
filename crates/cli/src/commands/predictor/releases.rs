//! `augur predictor list|show|promote|rollback`: releases.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use messages::{Metric, ReleaseId};
use predictors::{Evaluation, FewShotDevice, Grouping, Judged, Manifest, Releases, Update};
use serde::Serialize;

use crate::{
    context::Context,
    output::{self, Format},
};

/// Which releases, and how to answer.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Where releases are kept. Not given: `releases` in the state directory.
    #[arg(long)]
    releases: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArguments {
    /// The release; the current one if not given.
    release: Option<ReleaseId>,
    /// Another release to compare it with, metric by metric.
    #[arg(long, value_name = "RELEASE")]
    against: Option<ReleaseId>,
    #[command(flatten)]
    list: ListArguments,
}

#[derive(Debug, Args)]
pub(crate) struct PromoteArguments {
    /// The release.
    release: ReleaseId,
    /// Where releases are kept. Not given: `releases` in the state directory.
    #[arg(long)]
    releases: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArguments {
    /// Where releases are kept. Not given: `releases` in the state directory.
    #[arg(long)]
    releases: Option<PathBuf>,
}

/// A release and what it says of itself.
#[derive(Serialize)]
pub(super) struct ReleaseLine {
    release: String,
    is_current: bool,
    parent: Option<String>,
    created_at: String,
    /// `jobs` or `tables`.
    learned_from: &'static str,
    training_rows: u32,
    models: usize,
    devices: Vec<String>,
    /// Devices of which little was measured, which are predicted as if they were new and corrected by it.
    few_shots: Vec<FewShotLine>,
    learner: &'static str,
    /// How it came of its parent; null if somebody trained it by hand.
    update: Option<UpdateLine>,
    feature_schema: String,
    evaluation: Vec<EvaluationLine>,
}

#[derive(Serialize)]
struct FewShotLine {
    metric: String,
    device: String,
    shots: u32,
}

#[derive(Serialize)]
struct UpdateLine {
    strategy: &'static str,
    reason: String,
    /// Whether it became the current release when it was made; else it was kept as a candidate.
    promoted: bool,
    rows_held_out: usize,
    judged: Vec<JudgedLine>,
}

/// Errors on rows that neither the release nor the one that was current then had learned from.
#[derive(Serialize)]
struct JudgedLine {
    metric: String,
    platform: String,
    rows: u32,
    mape_pct: f64,
    current_mape_pct: f64,
    interval_90_coverage_pct: f64,
    worse: bool,
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

/// Two releases side by side.
#[derive(Serialize)]
struct Comparison {
    release: String,
    against: String,
    /// Errors are of each release's own rows; where these differ, so may the difficulty.
    same_number_of_rows: bool,
    metrics: Vec<ComparisonLine>,
}

#[derive(Serialize)]
struct ComparisonLine {
    metric: String,
    tested_on: &'static str,
    mape_pct: Option<f64>,
    against_mape_pct: Option<f64>,
    interval_90_coverage_pct: Option<f64>,
    against_interval_90_coverage_pct: Option<f64>,
    interval_90_half_width_median_pct: Option<f64>,
    against_interval_90_half_width_median_pct: Option<f64>,
}

pub(super) fn open(context: &Context, flag: Option<&Path>) -> anyhow::Result<Releases> {
    Ok(Releases::open(&context.releases_directory(flag)?)?)
}

pub(super) fn none_yet() -> anyhow::Error {
    anyhow!(
        "there is no release of predictors yet; run a suite of benchmarks with `augur updater start` running, or train \
         one from measurement tables with `augur predictor train`"
    )
}

pub(super) fn list(arguments: &ListArguments, context: &Context) -> anyhow::Result<()> {
    let releases = open(context, arguments.releases.as_deref())?;
    let current = releases.current_id()?;
    let mut lines = Vec::new();
    for manifest in releases.list()? {
        match manifest {
            Ok(manifest) => lines.push(line(&manifest, current.as_ref())),
            Err(reason) => eprintln!("note: {reason}"),
        }
    }
    output::answer(arguments.format, &lines, |lines| releases_table(lines))
}

pub(super) fn show(arguments: &ShowArguments, context: &Context) -> anyhow::Result<()> {
    let releases = open(context, arguments.list.releases.as_deref())?;
    let current = releases.current_id()?;
    let wanted = arguments.release.clone().or_else(|| current.clone()).ok_or_else(none_yet)?;
    let manifest = releases.manifest(&wanted)?;
    let Some(against) = &arguments.against else {
        let line = line(&manifest, current.as_ref());
        return output::answer(arguments.list.format, &line, evaluation_table);
    };
    let comparison = compare(&manifest, &releases.manifest(against)?);
    output::answer(arguments.list.format, &comparison, comparison_table)?;
    if !comparison.same_number_of_rows {
        eprintln!("note: the releases were tested on rows of their own, whose numbers differ");
    }
    Ok(())
}

pub(super) fn promote(arguments: &PromoteArguments, context: &Context) -> anyhow::Result<()> {
    open(context, arguments.releases.as_deref())?.promote(&arguments.release)?;
    output::print(&format!("{} is the current release", arguments.release))
}

pub(super) fn rollback(arguments: &RollbackArguments, context: &Context) -> anyhow::Result<()> {
    let current = open(context, arguments.releases.as_deref())?.rollback()?;
    output::print(&format!("{current} is the current release"))
}

pub(super) fn line(manifest: &Manifest, current: Option<&ReleaseId>) -> ReleaseLine {
    let evaluation = manifest.evaluation.iter().map(|evaluation| EvaluationLine {
        metric: evaluation.metric.to_string(),
        tested_on: tested_on(evaluation.grouping),
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
        learned_from: manifest.source.as_str(),
        training_rows: manifest.training_rows,
        models: manifest.models as usize,
        devices: manifest.devices.clone(),
        few_shots: manifest.few_shots.iter().map(few_shot_line).collect(),
        learner: manifest.settings.learner.as_str(),
        update: manifest.update.as_ref().map(update_line),
        feature_schema: manifest.feature_schema.clone(),
        evaluation: evaluation.collect(),
    }
}

fn update_line(update: &Update) -> UpdateLine {
    let judged = |judged: &Judged| JudgedLine {
        metric: judged.metric.to_string(),
        platform: judged.platform.clone(),
        rows: judged.rows,
        mape_pct: judged.mape_pct,
        current_mape_pct: judged.current_mape_pct,
        interval_90_coverage_pct: judged.inside_pct,
        worse: judged.is_worse,
    };
    UpdateLine {
        strategy: update.strategy.as_str(),
        reason: update.reason.clone(),
        promoted: update.is_promoted,
        rows_held_out: update.held_out.len(),
        judged: update.judged.iter().map(judged).collect(),
    }
}

fn few_shot_line(few_shot: &FewShotDevice) -> FewShotLine {
    let FewShotDevice { metric, device, shots } = few_shot;
    FewShotLine { metric: metric.to_string(), device: device.clone(), shots: *shots }
}

const fn tested_on(grouping: Grouping) -> &'static str {
    match grouping {
        Grouping::Configuration => "configurations never seen",
        Grouping::Model => "models never seen",
        Grouping::FewShot => "devices hardly measured",
        Grouping::Device => "devices never seen",
    }
}

fn releases_table(lines: &[ReleaseLine]) -> comfy_table::Table {
    let mut table =
        output::table(["release", "made", "learned from", "how", "rows", "parent", "latency error", "memory error"]);
    for line in lines {
        let error = |metric: Metric| {
            let of_metric = line.evaluation.iter().find(|evaluation| evaluation.metric == metric.as_str());
            of_metric.map_or_else(|| "–".to_owned(), |evaluation| percent(evaluation.mape_pct))
        };
        let is_candidate = line.update.as_ref().is_some_and(|update| !update.promoted);
        let state = match (line.is_current, is_candidate) {
            (true, _) => " (current)",
            (false, true) => " (candidate)",
            (false, false) => "",
        };
        table.add_row([
            format!("{}{state}", line.release),
            line.created_at.clone(),
            line.learned_from.to_owned(),
            line.update.as_ref().map_or("by hand", |update| update.strategy).to_owned(),
            line.training_rows.to_string(),
            output::text(line.parent.as_ref()),
            error(Metric::LatencyMs),
            error(Metric::MemoryPeakMb),
        ]);
    }
    table
}

/// The errors of a release, after a line on stderr that says which one it is.
pub(super) fn evaluation_table(line: &ReleaseLine) -> comfy_table::Table {
    eprintln!(
        "release {} of {}, learned from {} by {}: {} training rows, {} models, {} devices",
        line.release,
        line.created_at,
        line.learned_from,
        line.learner,
        line.training_rows,
        line.models,
        line.devices.len()
    );
    if let Some(UpdateLine { strategy, reason, promoted, judged, .. }) = &line.update {
        let fate = if *promoted { "promoted" } else { "kept as a candidate" };
        eprintln!("learned by a {strategy} update, because {reason}; {fate}");
        for JudgedLine { metric, platform, rows, mape_pct, current_mape_pct, .. } in judged {
            eprintln!(
                "{metric} on {platform}: {mape_pct:.1} % mean error on {rows} rows that it did not see, after \
                 {current_mape_pct:.1} % of the release before"
            );
        }
    }
    for FewShotLine { metric, device, shots } in &line.few_shots {
        eprintln!("{device}: predicted in {metric} as if it were new, corrected by its {shots} measurements");
    }
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

fn compare(manifest: &Manifest, against: &Manifest) -> Comparison {
    let find = |manifest: &Manifest, metric, grouping| {
        let is_same = |found: &&Evaluation| found.metric == metric && found.grouping == grouping;
        manifest.evaluation.iter().find(is_same).copied()
    };
    let mut metrics = Vec::new();
    for metric in Metric::ALL {
        for grouping in Grouping::ALL {
            let (own, other) = (find(manifest, *metric, grouping), find(against, *metric, grouping));
            if own.is_none() && other.is_none() {
                continue;
            }
            let coverage = |found: Evaluation| found.interval_90_coverage_pct;
            let half_width = |found: Evaluation| found.interval_90_half_width_median_pct;
            metrics.push(ComparisonLine {
                metric: metric.to_string(),
                tested_on: tested_on(grouping),
                mape_pct: own.map(|found| found.mape_pct),
                against_mape_pct: other.map(|found| found.mape_pct),
                interval_90_coverage_pct: own.map(coverage),
                against_interval_90_coverage_pct: other.map(coverage),
                interval_90_half_width_median_pct: own.map(half_width),
                against_interval_90_half_width_median_pct: other.map(half_width),
            });
        }
    }
    Comparison {
        release: manifest.release_id.to_string(),
        against: against.release_id.to_string(),
        same_number_of_rows: manifest.training_rows == against.training_rows,
        metrics,
    }
}

fn comparison_table(comparison: &Comparison) -> comfy_table::Table {
    let Comparison { release, against, metrics, .. } = comparison;
    let mut table = output::table([
        "metric".to_owned(),
        "tested on".to_owned(),
        format!("mean error of {against}"),
        format!("of {release}"),
        "change".to_owned(),
        "90 % interval held".to_owned(),
        "its half width".to_owned(),
    ]);
    for line in metrics {
        let shown = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), percent);
        let both = |before: Option<f64>, after: Option<f64>| format!("{} → {}", shown(before), shown(after));
        let change = line.mape_pct.zip(line.against_mape_pct).map(|(own, other)| format!("{:+.1}", own - other));
        table.add_row([
            line.metric.clone(),
            line.tested_on.to_owned(),
            shown(line.against_mape_pct),
            shown(line.mape_pct),
            output::text(change),
            both(line.against_interval_90_coverage_pct, line.interval_90_coverage_pct),
            both(line.against_interval_90_half_width_median_pct, line.interval_90_half_width_median_pct),
        ]);
    }
    table
}

fn percent(value: f64) -> String {
    format!("{value:.1} %")
}

#[cfg(test)]
mod tests {
    use messages::Timestamp;
    use predictors::{Source, TrainSettings, UpdateStrategy};

    use super::*;

    fn release_id(number: u32) -> ReleaseId {
        ReleaseId::parse(&format!("r{number:06}-1f2e3d4c")).expect("a name")
    }

    /// A release, made by an update unless by hand.
    fn release(number: u32, is_promoted: Option<bool>) -> Manifest {
        let update = |is_promoted| Update {
            strategy: UpdateStrategy::Weighted,
            reason: "a test".to_owned(),
            table_rows: 80,
            whole_rows: 75,
            held_out: Vec::new(),
            judged: Vec::new(),
            is_promoted,
        };
        Manifest {
            release_id: release_id(number),
            parent: None,
            created_at: Timestamp::from_micros(0),
            augur_version: "0.1.0".to_owned(),
            feature_schema: "0123456789abcdef".to_owned(),
            feature_names: Vec::new(),
            training_rows: 75,
            source: Source::Jobs,
            models: 1,
            devices: Vec::new(),
            few_shots: Vec::new(),
            metrics: vec![Metric::LatencyMs],
            evaluation: Vec::new(),
            update: is_promoted.map(update),
            settings: TrainSettings::default(),
            files: Vec::new(),
        }
    }

    #[test]
    fn a_list_tells_candidates_from_what_is_and_was_current() {
        let made = [release(1, None), release(2, Some(true)), release(3, Some(true)), release(4, Some(false))];
        let lines = |current: ReleaseId| made.iter().map(|manifest| line(manifest, Some(&current))).collect::<Vec<_>>();
        let shown = |current: u32| {
            let table = releases_table(&lines(release_id(current)));
            let cells = |row: &comfy_table::Row| row.cell_iter().map(comfy_table::Cell::content).collect::<Vec<_>>();
            table.row_iter().map(|row| (cells(row)[0].clone(), cells(row)[3].clone())).collect::<Vec<_>>()
        };
        let row = |number, state: &str, how: &str| (format!("{}{state}", release_id(number)), how.to_owned());
        let by_hand = row(1, "", "by hand");
        let (second, third) = (row(2, "", "weighted"), row(3, " (current)", "weighted"));
        assert_eq!(shown(3), [by_hand.clone(), second.clone(), third, row(4, " (candidate)", "weighted")]);
        // One that somebody promoted since.
        let (third, fourth) = (row(3, "", "weighted"), row(4, " (current)", "weighted"));
        assert_eq!(shown(4), [by_hand, second, third, fourth]);
        let json = serde_json::to_value(lines(release_id(3))).expect("written");
        let states = [1_usize, 2, 3].map(|place| [&json[place]["is_current"], &json[place]["update"]["promoted"]]);
        let states = states.map(|state| state.map(serde_json::Value::as_bool));
        assert_eq!(states, [[false, true], [true, true], [false, false]].map(|state| state.map(Some)));
        assert!(json[0]["update"].is_null(), "{json:#}");
    }
}
