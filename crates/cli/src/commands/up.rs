//! `augur up`: everything on one machine, each stage the daemon that it is anywhere else.

mod daemon;

use std::{os::unix::fs::OpenOptionsExt, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use broker::{AmqpUrl, PrivateNode, PrivateNodeOptions};
use clap::Args;
use messages::Origin;
use pipeline::{CaseSpec, Submission, Suite};
use tokio_util::sync::CancellationToken;

use super::{topology, waiting};
use crate::{
    context::{BROKER_URL_FILE, Context},
    exit::Exit,
    output, shutdown,
};
use daemon::{Daemon, Fleet};

/// How long a run's last results may take from the stream into the database.
const STORED_MAX: Duration = Duration::from_mins(2);

#[derive(Debug, Args)]
#[command(after_help = "Example: augur up --suite deploy/suites/demo.yaml --workers 2 --once")]
pub(crate) struct UpArguments {
    /// Submits this suite once everything is ready.
    #[arg(long)]
    suite: Option<PathBuf>,
    /// Worker processes.
    #[arg(long, default_value_t = 1)]
    workers: u32,
    /// Jobs that browsers run at once; 0 leaves the browser pool out.
    #[arg(long, default_value_t = 0, value_name = "JOBS")]
    browsers: u16,
    /// Jobs that the active learner may ask for; 0 leaves it out.
    #[arg(long, default_value_t = 0, value_name = "JOBS")]
    learn: usize,
    /// Leaves when the suite (and the learner, if any) is done.
    #[arg(long, requires = "suite")]
    once: bool,
}

pub(crate) async fn run(arguments: UpArguments, context: &Context) -> anyhow::Result<Exit> {
    let state = context.state_directory()?;
    std::fs::create_dir_all(&state).with_context(|| format!("failed to create {}", state.display()))?;
    let suite = arguments.suite.as_deref().map(Suite::read).transpose()?;
    let stop = shutdown::token()?;
    let (url, node) = broker(context, &state)?;
    let _url_file = UrlFile::write(state.join(BROKER_URL_FILE), &url)?;

    let (version, plan) = topology::plan(&url).await?;
    output::print(&format!("RabbitMQ {version} at {url}\n{plan}"))?;
    if plan.has_drift() {
        bail!("the broker's queues differ from queues.yaml; `augur topology plan` says how");
    }
    topology::apply(&url, &plan).await?;

    let mut fleet = Fleet::new(context, &state, &url)?;
    fleet.start(Daemon::Aggregator).await?;
    fleet.start(Daemon::Updater).await?;
    for number in 1..=arguments.workers {
        fleet.start(Daemon::Worker(number)).await?;
    }
    let pool = start_browsers(&mut fleet, arguments.browsers, suite.as_ref()).await?;
    output::print(&format!(
        "ready: {} workers{pool}\n  dashboard {}\n  database  {}\n  releases  {}\n  logs      {}",
        arguments.workers,
        context.loaded.settings.aggregator_url,
        state.join("augur.duckdb").display(),
        context.releases_directory(None)?.display(),
        fleet.log_directory().display(),
    ))?;

    let work = work(&arguments, suite, &url, context);
    let exit = tokio::select! {
        exit = work => match exit {
            Ok(exit) if arguments.once => Ok(exit),
            Ok(_) => until_stopped(&mut fleet, &stop).await,
            Err(error) => Err(error),
        },
        () = stop.cancelled() => Ok(Exit::Done),
        error = fleet.watch() => Err(error),
    };
    fleet.stop().await;
    drop(node);
    exit
}

/// Starts the browser pool, if one is asked for, and says for people what came of it. All else runs without it, too,
/// unless the suite needs it.
async fn start_browsers(fleet: &mut Fleet, jobs: u16, suite: Option<&Suite>) -> anyhow::Result<String> {
    if jobs == 0 {
        return Ok(String::new());
    }
    let is_needed = suite.is_some_and(|suite| suite.cases.iter().any(|case| matches!(case.spec, CaseSpec::Web(_))));
    match fleet.start(Daemon::Browsers(jobs)).await {
        Ok(()) => Ok(" and a browser pool".to_owned()),
        Err(error) if is_needed => Err(error),
        Err(error) => Ok(format!("; no browser pool, because {error:#}")),
    }
}

async fn until_stopped(fleet: &mut Fleet, stop: &CancellationToken) -> anyhow::Result<Exit> {
    tokio::select! {
        () = stop.cancelled() => Ok(Exit::Done),
        error = fleet.watch() => Err(error),
    }
}

/// The broker that the settings name, or a private node whose data stay in the state directory.
fn broker(context: &Context, state: &std::path::Path) -> anyhow::Result<(AmqpUrl, Option<PrivateNode>)> {
    if !context.loaded.settings.amqp_url.is_empty() {
        return Ok((context.amqp_url()?, None));
    }
    eprintln!("no broker is named; starting a private RabbitMQ node");
    let options = PrivateNodeOptions { directory: Some(state.join("broker")), ..PrivateNodeOptions::default() };
    let node = tokio::task::block_in_place(|| PrivateNode::start_with(&options))
        .context("failed to start a private RabbitMQ node")?;
    Ok((node.url().parse()?, Some(node)))
}

/// Submits the suite, waits until its results are stored, then lets the learner spend its budget.
async fn work(arguments: &UpArguments, suite: Option<Suite>, url: &AmqpUrl, context: &Context) -> anyhow::Result<Exit> {
    let mut exit = Exit::Done;
    if let Some(suite) = suite {
        let suite = super::suite::resolved(suite, true, context).await?;
        let command_line = format!("augur up --suite {}", suite.path);
        let submission = Submission::new(suite, Origin::Client, waiting::run_context(command_line));
        let endings = waiting::submit(context, url, &submission, true).await?;
        let (run_id, total) = (submission.run.run_id, submission.jobs.len());
        super::run::wait(context, run_id, Some(STORED_MAX))
            .await
            .with_context(|| format!("the results of run {run_id} did not reach the database"))?;
        waiting::print_failures(&endings)?;
        let passed = endings.passed();
        output::print(&format!("run {run_id}: {passed} of {total} jobs passed"))?;
        if passed < total {
            exit = Exit::Unwelcome;
        }
    }
    if arguments.learn > 0 {
        let learned = super::learner::learn(context, url, arguments.learn).await?;
        output::print(&learned)?;
    }
    Ok(exit)
}

/// The broker's URL in a file that other commands of this user find; removed in the end.
struct UrlFile(PathBuf);

impl UrlFile {
    fn write(path: PathBuf, url: &AmqpUrl) -> anyhow::Result<Self> {
        let write = || -> std::io::Result<()> {
            let mut file =
                std::fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&path)?;
            std::io::Write::write_all(&mut file, url.reveal().as_bytes())
        };
        write().with_context(|| format!("failed to write {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for UrlFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "file of the broker's URL was not removed");
        }
    }
}
