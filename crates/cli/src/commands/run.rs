//! `augur run list|show|wait|cancel|results|report`.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Subcommand;
use messages::{CancelTarget, RunId};
use store::{ResultRow, RunSummary};

use super::waiting;
use crate::{
    context::Context,
    exit::Exit,
    output::{self, Format},
    report::{self, ReportFormat},
};

/// How long one long poll may take, in seconds.
const POLL_S: u64 = 30;

#[derive(Debug, Subcommand)]
pub(crate) enum RunCommand {
    /// Lists runs, the newest first.
    #[command(after_help = "Example: augur run list --format json")]
    List {
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Shows a run's counts.
    #[command(after_help = "Example: augur run show RUN")]
    Show {
        /// The run.
        run: RunId,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Waits until every job of a run has its result in the database; exit 1 if one did not pass.
    #[command(after_help = "Example: augur run wait RUN --timeout-s 600")]
    Wait {
        /// The run.
        run: RunId,
        /// Gives up after this long, in seconds.
        #[arg(long)]
        timeout_s: Option<u64>,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Ends a run's jobs, running or still queued.
    #[command(after_help = "Example: augur run cancel RUN")]
    Cancel {
        /// The run.
        run: RunId,
    },
    /// Shows a run's results.
    #[command(after_help = "Example: augur run results RUN --format json")]
    Results {
        /// The run.
        run: RunId,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Writes a report of a run.
    #[command(after_help = "Example: augur run report RUN --format html --output report.html")]
    Report {
        /// The run.
        run: RunId,
        #[arg(long, value_enum)]
        format: ReportFormat,
        /// Writes it here instead of to stdout.
        #[arg(long)]
        output: Option<PathBuf>,
    },
}

pub(crate) async fn run(command: RunCommand, context: &Context) -> anyhow::Result<Exit> {
    let api = context.api()?;
    match command {
        RunCommand::List { format } => {
            let runs: Vec<RunSummary> = api.get("/api/runs").await?;
            output::answer(format, &runs, |runs| summaries(runs))?;
        }
        RunCommand::Show { run, format } => {
            let summary: RunSummary = api.get(&format!("/api/runs/{run}")).await?;
            output::answer(format, &summary, |summary| summaries(std::slice::from_ref(summary)))?;
        }
        RunCommand::Wait { run, timeout_s, format } => {
            let waiting = wait(context, run);
            let summary = match timeout_s {
                None => waiting.await?,
                Some(limit) => tokio::time::timeout(Duration::from_secs(limit), waiting)
                    .await
                    .with_context(|| format!("run {run} is not complete after {limit} s"))??,
            };
            output::answer(format, &summary, |summary| summaries(std::slice::from_ref(summary)))?;
            return Ok(if summary.passed == summary.jobs_total { Exit::Done } else { Exit::Unwelcome });
        }
        RunCommand::Cancel { run } => {
            super::job::cancel(context, CancelTarget::Run(run)).await?;
            output::print(&format!("asked all workers to cancel run {run}"))?;
        }
        RunCommand::Results { run, format } => {
            let rows: Vec<ResultRow> = api.get(&format!("/api/runs/{run}/results")).await?;
            output::answer(format, &rows, |rows| results(rows))?;
        }
        RunCommand::Report { run, format, output: file } => {
            let summary: RunSummary = api.get(&format!("/api/runs/{run}")).await?;
            let rows: Vec<ResultRow> = api.get(&format!("/api/runs/{run}/results")).await?;
            let text = report::render(format, &summary, &rows)?;
            match file {
                None => output::print(text.trim_end())?,
                Some(path) => {
                    std::fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
                    eprintln!("report written to {}", path.display());
                }
            }
        }
    }
    Ok(Exit::Done)
}

/// Waits by long polls until a run is complete in the database, also for one that has not reached it yet.
pub(crate) async fn wait(context: &Context, run: RunId) -> anyhow::Result<RunSummary> {
    let api = context.api()?;
    // Differs from any count, so that the first answer comes as soon as the run is known.
    let mut seen = u32::MAX;
    let bar = waiting::bar(0);
    loop {
        let summary: RunSummary = api.get(&format!("/api/runs/{run}/wait?timeout_s={POLL_S}&seen={seen}")).await?;
        bar.set_length(u64::from(summary.jobs_total));
        bar.set_position(u64::from(summary.done));
        if summary.is_complete() {
            bar.finish_and_clear();
            return Ok(summary);
        }
        seen = summary.done;
    }
}

fn summaries(runs: &[RunSummary]) -> comfy_table::Table {
    let mut table =
        output::table(["run", "suite", "from", "submitted", "done", "passed", "failed", "error", "cancelled"]);
    for run in runs {
        table.add_row([
            run.run_id.clone(),
            run.suite.clone(),
            run.origin.clone(),
            run.submitted_at.clone(),
            format!("{}/{}", run.done, run.jobs_total),
            run.passed.to_string(),
            run.failed.to_string(),
            run.error.to_string(),
            run.cancelled.to_string(),
        ]);
    }
    table
}

fn results(rows: &[ResultRow]) -> comfy_table::Table {
    let mut table =
        output::table(["case", "status", "p50 ms", "p99 ms", "items/s", "memory MB", "load ms", "waited s"]);
    for row in rows {
        table.add_row([
            row.case.clone(),
            row.failure_type.as_ref().map_or_else(|| row.status.clone(), |kind| format!("{} ({kind})", row.status)),
            output::number(row.latency_p50_ms),
            output::number(row.latency_p99_ms),
            output::number(row.throughput_items_per_second),
            output::number(row.memory_peak_mb),
            output::number(row.load_ms),
            output::number(Some(row.queue_wait_s)),
        ]);
    }
    table
}

/// One result, a line per field that it has.
pub(crate) fn result_details(row: &ResultRow) -> comfy_table::Table {
    let mut table = output::table(["field", "value"]);
    if let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(row) {
        for (name, value) in fields {
            match value {
                serde_json::Value::Null => {}
                serde_json::Value::String(text) => drop(table.add_row([name, text])),
                other => drop(table.add_row([name, other.to_string()])),
            }
        }
    }
    table
}
