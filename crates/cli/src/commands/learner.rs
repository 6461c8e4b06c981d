//! `augur learner start`.

use std::{path::PathBuf, time::Duration};

use broker::AmqpUrl;
use clap::Subcommand;
use pipeline::{LearnerReport, LearnerSettings, SearchSettings};
use planner::{Constraints, Strategy};
use tokio_util::sync::CancellationToken;

use super::{
    plan::{self, DeviceChoice},
    recommend::above_zero,
    roster::ApiRoster,
};
use crate::{context::Context, exit::Exit, output, shutdown};

/// How long a worker may take to appear, or to come back, before the learner goes on without its platform.
const WORKER_WAIT_MAX: Duration = Duration::from_mins(1);

#[derive(Debug, Subcommand)]
pub(crate) enum LearnerCommand {
    /// Proposes benchmarks, submits them, waits, and repeats until the budget is spent.
    #[command(after_help = "Example: augur learner start --strategy hybrid --batch 10 --budget 30")]
    Start {
        /// How to choose: uncertainty, representative, diversity, information-gain, hybrid, integrated or random;
        /// overrides `learner.strategy`.
        #[arg(long)]
        strategy: Option<Strategy>,
        /// Jobs per run; overrides `learner.batch`.
        #[arg(long)]
        batch: Option<usize>,
        /// Jobs in all; overrides `learner.budget`.
        #[arg(long)]
        budget: Option<usize>,
        /// For which device of a platform; overrides `learner.device`.
        #[arg(long, value_enum)]
        device: Option<DeviceChoice>,
        /// What each batch must keep to, as YAML; see `augur plan next --help`.
        #[arg(long, value_name = "FILE")]
        constraints: Option<PathBuf>,
        /// Most seconds that all jobs may be expected to take together; overrides that of the constraints.
        #[arg(long, value_parser = above_zero)]
        budget_seconds: Option<f64>,
        /// Where the updater keeps releases. Not given: `releases` in the state directory.
        #[arg(long)]
        releases: Option<PathBuf>,
    },
}

pub(crate) async fn run(command: LearnerCommand, context: &Context) -> anyhow::Result<Exit> {
    let LearnerCommand::Start { strategy, batch, budget, device, constraints, budget_seconds, releases } = command;
    let section = &context.loaded.settings.learner;
    let directory = context.releases_directory(releases.as_deref())?;
    let mut settings = settings(context, directory, device, budget.unwrap_or(section.budget))?;
    settings.strategy = self::strategy(context, strategy)?;
    settings.batch = batch.unwrap_or(section.batch).max(1);
    settings.constraints = plan::constraints(constraints.as_deref())?;
    settings.constraints.budget_seconds = budget_seconds.or(settings.constraints.budget_seconds);
    let roster = ApiRoster(context.api()?);
    let (url, models) = (context.amqp_url()?, context.models()?);
    let report = pipeline::learn(&url, settings, models, &roster, shutdown::token()?).await?;
    output::print(&summary(&report))?;
    Ok(if report.measured == report.jobs { Exit::Done } else { Exit::Unwelcome })
}

/// Lets the learner of the settings spend `budget` jobs; returns a line about it.
pub(crate) async fn learn(context: &Context, url: &AmqpUrl, budget: usize) -> anyhow::Result<String> {
    let settings = settings(context, context.releases_directory(None)?, None, budget)?;
    let roster = ApiRoster(context.api()?);
    Ok(summary(&pipeline::learn(url, settings, context.models()?, &roster, CancellationToken::new()).await?))
}

fn settings(
    context: &Context,
    releases_directory: PathBuf,
    device: Option<DeviceChoice>,
    budget: usize,
) -> anyhow::Result<LearnerSettings> {
    Ok(LearnerSettings {
        search: search(context)?,
        strategy: strategy(context, None)?,
        constraints: Constraints::default(),
        preferred_devices: plan::preferred_devices(device, context)?,
        first_device: plan::first_device(&releases_directory, context)?,
        releases_directory,
        batch: context.loaded.settings.learner.batch.max(1),
        budget,
        worker_wait_max: WORKER_WAIT_MAX,
        patience: context.daemon_patience(),
    })
}

fn summary(report: &LearnerReport) -> String {
    let runs = report.runs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!("active learner: {} of {} proposed jobs were measured; runs: {runs}", report.measured, report.jobs)
}

/// The strategy of a flag or of the settings.
pub(crate) fn strategy(context: &Context, flag: Option<Strategy>) -> anyhow::Result<Strategy> {
    flag.map_or_else(|| context.loaded.settings.learner.strategy.parse().map_err(Into::into), Ok)
}

/// What the settings allow to be proposed.
pub(crate) fn search(context: &Context) -> anyhow::Result<SearchSettings> {
    let section = &context.loaded.settings.learner;
    Ok(SearchSettings {
        models: section.models.clone(),
        batch_sizes: section.batch_sizes.clone(),
        sequence_lengths: section.sequence_lengths.clone(),
        threads: section.threads.clone(),
        web_platforms: section.web_platforms.iter().map(|word| word.parse()).collect::<Result<_, _>>()?,
        priority: section.priority.parse()?,
        seed: section.seed,
    })
}
