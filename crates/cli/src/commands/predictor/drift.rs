//! `augur predictor drift`: how well predictions held against what was measured later, over time.

use chrono::DateTime;
use clap::Args;
use pipeline::{DatedError, Drift, drift};
use serde::Serialize;
use store::PredictionErrorRow;

use crate::{
    context::Context,
    exit::Exit,
    output::{self, Format},
};

/// Probability of calling any group worse where none is.
const FALSE_ALARMS: f64 = 0.05;

#[derive(Debug, Args)]
pub(crate) struct DriftArguments {
    /// Of which metric.
    #[arg(long, default_value = "latency_ms")]
    metric: String,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Serialize)]
struct DriftRow {
    by: &'static str,
    group: String,
    predictions: usize,
    mean_error_pct: f64,
    earlier_half_pct: Option<f64>,
    later_half_pct: Option<f64>,
    inside_pct: f64,
    slope_pct_per_day: Option<f64>,
    p: Option<f64>,
    p_corrected: Option<f64>,
    worse: bool,
}

impl From<&Drift> for DriftRow {
    fn from(drift: &Drift) -> Self {
        Self {
            by: drift.by,
            group: drift.group.clone(),
            predictions: drift.count,
            mean_error_pct: drift.mean_error_pct,
            earlier_half_pct: drift.halves_pct.map(|[earlier, _]| earlier),
            later_half_pct: drift.halves_pct.map(|[_, later]| later),
            inside_pct: drift.inside_pct,
            slope_pct_per_day: drift.slope_pct_per_day,
            p: drift.p,
            p_corrected: drift.p_corrected,
            worse: drift.is_worse(FALSE_ALARMS),
        }
    }
}

pub(crate) async fn run(arguments: &DriftArguments, context: &Context) -> anyhow::Result<Exit> {
    let rows: Vec<PredictionErrorRow> = context.api()?.get("/api/prediction-errors").await?;
    let of_metric = rows.iter().filter(|row| row.metric == arguments.metric);
    let errors: Vec<DatedError> = of_metric.filter_map(dated).collect();
    let answer: Vec<DriftRow> = drift(&errors).iter().map(DriftRow::from).collect();
    output::answer(arguments.format, &answer, |rows| table(rows))?;
    if answer.is_empty() {
        eprintln!("no prediction of {} was measured yet; jobs with a prediction are held against it", arguments.metric);
    }
    Ok(if answer.iter().any(|row| row.worse) { Exit::Unwelcome } else { Exit::Done })
}

/// An error with its moment and what it is counted under; `None` if the error is unknown.
fn dated(row: &PredictionErrorRow) -> Option<DatedError> {
    let at = DateTime::parse_from_rfc3339(&row.measured_at).ok()?;
    let family = row.model.as_ref().map(|model| pipeline::model_family(model).unwrap_or_else(|| model.clone()));
    let mut groups =
        vec![("all", "all".to_owned()), ("platform", row.platform.clone()), ("release", row.release_id.clone())];
    groups.extend(family.map(|family| ("family", family)));
    Some(DatedError {
        at_s: at.timestamp_micros() as f64 / 1e6,
        error_pct: row.error_pct.filter(|error| error.is_finite())?,
        inside: row.inside,
        groups,
    })
}

fn table(rows: &[DriftRow]) -> comfy_table::Table {
    let mut table = output::table([
        "by",
        "group",
        "predictions",
        "mean error",
        "earlier half",
        "later half",
        "90 % interval held",
        "trend per day",
        "p, corrected",
        "",
    ]);
    let percent = |value: Option<f64>| output::text(value.map(|value| format!("{value:.1} %")));
    for row in rows {
        table.add_row([
            row.by.to_owned(),
            row.group.clone(),
            row.predictions.to_string(),
            percent(Some(row.mean_error_pct)),
            percent(row.earlier_half_pct),
            percent(row.later_half_pct),
            percent(Some(row.inside_pct)),
            output::text(row.slope_pct_per_day.map(|slope| format!("{slope:+.2} points"))),
            output::text(row.p_corrected.map(|p| format!("{p:.3}"))),
            if row.worse { "worse" } else { "" }.to_owned(),
        ]);
    }
    table
}
