//! `augur plan next`.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand, ValueEnum};
use messages::{Device, Metric, Origin, Timestamp, UnknownWord};
use pipeline::{Ledger, PipelineError, PlanRequest, Planned, Roster as _, Submission};
use planner::{Constraints, Proposal, Strategy, Withheld};
use serde::Serialize;

use super::{recommend::above_zero, roster::ApiRoster, waiting};
use crate::{
    context::Context,
    exit::Exit,
    output::{self, Format},
};

#[derive(Debug, Subcommand)]
pub(crate) enum PlanCommand {
    /// Proposes what to benchmark next, the most useful first.
    #[command(after_help = "Examples: augur plan next --strategy hybrid --count 10 --submit --wait\n          \
                      augur plan next --strategy information-gain --constraints constraints.yaml --budget-seconds 600")]
    Next(NextArguments),
}

/// For which device of a platform something is proposed: its jobs run on whichever takes the lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DeviceChoice {
    /// The one that was measured last; this machine's processor where nothing was.
    Last,
    /// This machine's, to begin with one that nothing was measured on; the one that was measured last where it has none.
    Local,
}

#[derive(Debug, Args)]
pub(crate) struct NextArguments {
    /// How to choose: uncertainty, representative, diversity, information-gain, hybrid, integrated or random; overrides
    /// `learner.strategy`.
    #[arg(long)]
    strategy: Option<Strategy>,
    /// How many.
    #[arg(long, default_value_t = 10)]
    count: usize,
    /// For which device of a platform; overrides `learner.device`.
    #[arg(long, value_enum)]
    device: Option<DeviceChoice>,
    /// What the batch must keep to, as YAML: most per platform, availability, memory, budget, diversity.
    #[arg(long, value_name = "FILE")]
    constraints: Option<PathBuf>,
    /// Most seconds that all proposals may be expected to take together; overrides that of the constraints.
    #[arg(long, value_parser = above_zero)]
    budget_seconds: Option<f64>,
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
}

#[derive(Serialize)]
struct ProposalRow {
    selection_order: usize,
    configuration: String,
    device: String,
    predicted_latency_ms: Option<f64>,
    lower: Option<f64>,
    upper: Option<f64>,
    spread_log: f64,
    information_gain_pct: f64,
    expected_seconds: f64,
    score: f64,
    parts: BTreeMap<&'static str, f64>,
    why: String,
}

pub(crate) async fn run(command: PlanCommand, context: &Context) -> anyhow::Result<Exit> {
    let PlanCommand::Next(arguments) = command;
    let directory = context.releases_directory(arguments.releases.as_deref())?;
    let request = request(&arguments, &directory, context).await?;
    let models = context.models()?;
    let planned = tokio::task::block_in_place(|| pipeline::plan_next(&directory, &request, &models))?;
    let rows: Vec<ProposalRow> = planned.proposals.iter().map(row).collect();
    output::answer(arguments.format, &rows, |rows| table(rows))?;
    explain(&planned);
    if !arguments.submit || rows.is_empty() {
        return Ok(Exit::Done);
    }
    submit(&arguments, &planned, &request, &directory, context).await
}

async fn request(arguments: &NextArguments, directory: &Path, context: &Context) -> anyhow::Result<PlanRequest> {
    let mut constraints = constraints(arguments.constraints.as_deref())?;
    constraints.budget_seconds = arguments.budget_seconds.or(constraints.budget_seconds);
    let (mut barred, web_places) = match context.api().map(ApiRoster) {
        Ok(roster) => (roster.barred().await, roster.web_places().await),
        Err(_) => Default::default(),
    };
    barred.configurations.extend(ledger(directory)?.withheld());
    Ok(PlanRequest {
        search: super::learner::search(context)?,
        strategy: super::learner::strategy(context, arguments.strategy)?,
        count: arguments.count,
        constraints,
        barred,
        preferred_devices: preferred_devices(arguments.device, context)?,
        first_device: first_device(directory, context)?,
        web_places,
        is_without_release: false,
    })
}

/// The constraints of a file, or none.
pub(crate) fn constraints(file: Option<&Path>) -> anyhow::Result<Constraints> {
    Ok(file.map(pipeline::read_constraints).transpose()?.unwrap_or_default())
}

/// The devices that a flag or the settings prefer to those that were measured last.
pub(crate) fn preferred_devices(flag: Option<DeviceChoice>, context: &Context) -> anyhow::Result<Vec<Device>> {
    let word = &context.loaded.settings.learner.device;
    let of_settings = || {
        DeviceChoice::from_str(word, false).map_err(|_| UnknownWord {
            kind: "choice of a device",
            found: word.clone(),
            known: "last, local".to_owned(),
        })
    };
    match flag.map_or_else(of_settings, Ok)? {
        DeviceChoice::Last => Ok(Vec::new()),
        DeviceChoice::Local => Ok(super::device::detect(context)?.devices),
    }
}

/// This machine's processor where nothing was measured yet; then there is nothing else to begin with.
pub(crate) fn first_device(directory: &Path, context: &Context) -> anyhow::Result<Option<Device>> {
    if !pipeline::training_table(directory)?.is_empty() {
        return Ok(None);
    }
    Ok(super::device::detect(context)?.devices.into_iter().next())
}

/// Says who was asked, and why there are not more proposals.
fn explain(planned: &Planned) {
    let devices: Vec<&str> = planned.devices.iter().map(|device| device.name.as_str()).collect();
    match &planned.release {
        Some(release) => eprintln!("release {} on {}", release.manifest.release_id, devices.join(", ")),
        None => eprintln!("no release yet, so the design is representative, on {}", devices.join(", ")),
    }
    if !planned.asked_for.is_empty() {
        let platforms: Vec<&str> = planned.asked_for.iter().map(|platform| platform.as_str()).collect();
        eprintln!("the last update asks for {}: predictions are still astray there", platforms.join(", "));
    }
    for (reason, count) in &planned.passed_over {
        eprintln!("{count} candidates are not proposed: {reason}");
    }
    if planned.proposals.is_empty() {
        eprintln!("nothing is left to propose; name more models, sizes or threads under `learner` in the settings");
    }
}

fn ledger(directory: &Path) -> Result<Ledger, PipelineError> {
    Ledger::open(directory, Timestamp::now())
}

/// Publishes the proposals, unless nobody would ever take them.
async fn submit(
    arguments: &NextArguments,
    planned: &Planned,
    request: &PlanRequest,
    directory: &Path,
    context: &Context,
) -> anyhow::Result<Exit> {
    let roster = ApiRoster(context.api()?);
    for target in planned.targets() {
        if let Some(reason) = roster.unserved(&target).await {
            eprintln!("nothing was submitted: {reason}");
            return Ok(Exit::Unwelcome);
        }
    }
    let suite = planned.to_suite("plan-next", request.search.priority);
    let command_line = format!("augur plan next --strategy {} --count {} --submit", request.strategy, request.count);
    let submission = Submission::new(suite, Origin::Learner, waiting::run_context(command_line));
    let url = context.amqp_url()?;
    // Before the submission, so that nobody proposes it meanwhile.
    ledger(directory)?.note(planned.configurations(), Withheld::Queued, Timestamp::now())?;
    let endings = match waiting::submit(context, &url, &submission, arguments.wait).await {
        Ok(endings) => endings,
        Err(error) => {
            if !error.downcast_ref().is_some_and(PipelineError::is_partly_submitted) {
                ledger(directory)?.forget(planned.configurations())?;
            }
            return Err(error);
        }
    };
    eprintln!("run {}", submission.run.run_id);
    if !arguments.wait {
        return Ok(Exit::Done);
    }
    let mut ledger = ledger(directory)?;
    for result in &endings.results {
        ledger.note_end(result, Timestamp::now())?;
    }
    waiting::print_failures(&endings)?;
    output::print(&waiting::predicted_against_measured(&endings.results).to_string())?;
    Ok(if endings.passed() == submission.jobs.len() { Exit::Done } else { Exit::Unwelcome })
}

fn row(proposal: &Proposal) -> ProposalRow {
    let latency = proposal.predicted.metric(Metric::LatencyMs);
    ProposalRow {
        selection_order: proposal.selection_order,
        configuration: proposal.configuration.to_string(),
        device: proposal.device.clone(),
        predicted_latency_ms: latency.map(|latency| latency.value),
        lower: latency.map(|latency| latency.lower),
        upper: latency.map(|latency| latency.upper),
        spread_log: proposal.spread_log,
        information_gain_pct: proposal.information_gain_pct,
        expected_seconds: proposal.expected_seconds,
        score: proposal.score,
        parts: proposal.parts.iter().copied().collect(),
        why: proposal.why.clone(),
    }
}

/// The score, and below it what it is made of.
fn score(row: &ProposalRow) -> String {
    let mut text = format!("{:.2}", row.score);
    for (part, value) in &row.parts {
        write!(text, "\n{part} {value:.2}").expect("writing to a String cannot fail");
    }
    text
}

fn table(rows: &[ProposalRow]) -> comfy_table::Table {
    let mut table =
        output::table(["", "configuration", "predicted ms", "90 % interval", "gain %", "costs s", "score", "why"]);
    for row in rows {
        let interval = row.lower.zip(row.upper).map(|(lower, upper)| [lower, upper].map(|ms| output::number(Some(ms))));
        table.add_row([
            row.selection_order.to_string(),
            row.configuration.clone(),
            output::number(row.predicted_latency_ms),
            output::text(interval.map(|[lower, upper]| format!("{lower} – {upper}"))),
            format!("{:.1}", row.information_gain_pct),
            output::number(Some(row.expected_seconds)),
            score(row),
            row.why.clone(),
        ]);
    }
    table
}
