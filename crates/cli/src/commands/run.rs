//! `augur run list|show|wait|cancel|results|report|compare`.

mod compare;
mod show;
mod wait;

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Subcommand;
use dashboard::RunState;
use messages::{CancelTarget, RunId};
use store::{ResultRow, RunSummary};

pub(crate) use wait::{Waited, wait, wait_showing};

use crate::{
    context::Context,
    exit::Exit,
    output::{self, Format},
    report::{self, ReportFormat},
};

/// Most runs that one answer lists; the aggregator's own limit.
const RUNS_MAX: i64 = 1_000;

#[derive(Debug, Subcommand)]
pub(crate) enum RunCommand {
    /// Lists runs, the newest first.
    #[command(after_help = "Example: augur run list --limit 10 --format json")]
    List {
        /// How many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=RUNS_MAX))]
        limit: u32,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Shows how far a run is: its counts, what runs, what waits and why, what became a dead letter.
    #[command(after_help = "Example: augur run show RUN")]
    Show {
        /// The run.
        run: RunId,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Waits until every job of a run has ended in the database; exit 1 if one did not pass.
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
    /// Finds regressions against another run, with the statistics behind them; exit 1 if there is one.
    Compare(compare::CompareArguments),
}

pub(crate) async fn run(command: RunCommand, context: &Context) -> anyhow::Result<Exit> {
    let api = context.api()?;
    match command {
        RunCommand::List { limit, format } => {
            let runs: Vec<RunSummary> = api.get(&format!("/api/runs?limit={limit}")).await?;
            output::answer(format, &runs, |runs| summaries(runs))?;
        }
        RunCommand::Show { run, format } => {
            let state: RunState = api.get(&format!("/api/runs/{run}/state")).await?;
            match format {
                Format::Json => output::print(&serde_json::to_string_pretty(&show::Flat::new(&state))?)?,
                Format::Table => output::print(&show::text(&state))?,
            }
        }
        RunCommand::Wait { run, timeout_s, format } => {
            let waited = wait(context, run, timeout_s.map(Duration::from_secs)).await?;
            let summary = waited.run();
            output::answer(format, summary, |summary| summaries(std::slice::from_ref(summary)))?;
            waited.explain();
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
        RunCommand::Compare(arguments) => return compare::run(&arguments, context).await,
        RunCommand::Report { run, format, output: file } => {
            let rows: Vec<ResultRow> = api.get(&format!("/api/runs/{run}/results")).await?;
            let state: RunState = api.get(&format!("/api/runs/{run}/state")).await?;
            let text = report::render(format, &state.run, &rows, &state.dead)?;
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

fn summaries(runs: &[RunSummary]) -> comfy_table::Table {
    let mut table = output::table([
        "run",
        "suite",
        "from",
        "submitted",
        "done",
        "passed",
        "failed",
        "error",
        "cancelled",
        "dead",
        "retried",
    ]);
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
            run.dead.to_string(),
            run.retried.to_string(),
        ]);
    }
    table
}

fn results(rows: &[ResultRow]) -> comfy_table::Table {
    let mut table =
        output::table(["case", "ran on", "status", "p50 ms", "p99 ms", "items/s", "memory MB", "load ms", "waited s"]);
    for row in rows {
        table.add_row([
            row.case.clone(),
            report::platform(row),
            status(row),
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

/// How it ended, with the kind of failure, or with what keeps its measurement from being learned from.
fn status(row: &ResultRow) -> String {
    let standing = row.standing.as_ref().filter(|standing| *standing != "accepted");
    let detail = row.failure_type.as_ref().or(standing);
    detail.map_or_else(|| row.status.clone(), |detail| format!("{} ({detail})", row.status))
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
