//! `augur plan next`.

use std::path::PathBuf;

use clap::Subcommand;
use messages::{Metric, Origin};
use pipeline::{Planned, Submission};
use planner::{Proposal, Strategy};
use serde::Serialize;

use super::waiting;
use crate::{
    context::Context,
    exit::Exit,
    output::{self, Format},
};

#[derive(Debug, Subcommand)]
pub(crate) enum PlanCommand {
    /// Proposes what to benchmark next, the most useful first.
    #[command(after_help = "Example: augur plan next --strategy uncertainty --count 10 --submit --wait")]
    Next {
        /// How to choose; overrides `learner.strategy`.
        #[arg(long)]
        strategy: Option<Strategy>,
        /// How many.
        #[arg(long, default_value_t = 10)]
        count: usize,
        /// Publishes the proposals as a run.
        #[arg(long)]
        submit: bool,
        /// With `--submit`: waits for the run's end.
        #[arg(long, requires = "submit")]
        wait: bool,
        /// Where the updater keeps releases. Not given: `releases` in the state directory.
        #[arg(long)]
        releases: Option<PathBuf>,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

#[derive(Serialize)]
struct ProposalRow {
    configuration: String,
    predicted_latency_ms: Option<f64>,
    lower: Option<f64>,
    upper: Option<f64>,
    spread_log: f64,
    expected_seconds: f64,
    why: String,
}

pub(crate) async fn run(command: PlanCommand, context: &Context) -> anyhow::Result<Exit> {
    let PlanCommand::Next { strategy, count, submit, wait, releases, format } = command;
    let directory = context.releases_directory(releases.as_deref())?;
    let search = super::learner::search(context)?;
    let strategy = super::learner::strategy(context, strategy)?;
    let models = context.models()?;
    let planned = tokio::task::block_in_place(|| pipeline::plan_next(&directory, &search, strategy, count, &models))?;
    let rows: Vec<ProposalRow> = planned.proposals.iter().map(row).collect();
    output::answer(format, &rows, |rows| table(rows, &planned))?;
    if !submit || rows.is_empty() {
        return Ok(Exit::Done);
    }
    let suite = planned.to_suite("plan-next", search.priority);
    let command_line = format!("augur plan next --strategy {} --count {count} --submit", strategy.as_str());
    let submission = Submission::new(suite, Origin::Learner, waiting::run_context(command_line));
    let endings = waiting::submit(context, &context.amqp_url()?, &submission, wait).await?;
    eprintln!("run {}", submission.run.run_id);
    if !wait {
        return Ok(Exit::Done);
    }
    waiting::print_failures(&endings)?;
    output::print(&waiting::predicted_against_measured(&endings.results).to_string())?;
    Ok(if endings.passed() == submission.jobs.len() { Exit::Done } else { Exit::Unwelcome })
}

fn row(proposal: &Proposal) -> ProposalRow {
    let latency = proposal.predicted.metric(Metric::LatencyMs);
    ProposalRow {
        configuration: proposal.configuration.to_string(),
        predicted_latency_ms: latency.map(|latency| latency.value),
        lower: latency.map(|latency| latency.lower),
        upper: latency.map(|latency| latency.upper),
        spread_log: proposal.spread_log,
        expected_seconds: proposal.expected_seconds,
        why: proposal.why.clone(),
    }
}

fn table(rows: &[ProposalRow], planned: &Planned) -> comfy_table::Table {
    eprintln!("release {} on {}", planned.release.manifest.release_id, planned.device.name);
    let mut table = output::table(["configuration", "predicted ms", "90 % interval", "costs s", "why"]);
    for row in rows {
        table.add_row([
            row.configuration.clone(),
            output::number(row.predicted_latency_ms),
            format!("{} – {}", output::number(row.lower), output::number(row.upper)),
            output::number(Some(row.expected_seconds)),
            row.why.clone(),
        ]);
    }
    table
}
