//! `augur browsers start|detect|status|bench`.

mod bench;
mod detect;
mod pool;
mod status;

use anyhow::bail;
use browsers::{Pool, PoolSettings};
use clap::{Args, Subcommand};
use messages::Platform;
use runner::WebRunner;

use super::worker::{Asked, WorkerFlags};
use crate::{context::Context, exit::Exit, output::Format, shutdown};

#[derive(Debug, Subcommand)]
pub(crate) enum BrowsersCommand {
    /// Takes jobs for browsers and runs them in a pool of browsers until SIGTERM.
    #[command(after_help = "Example: augur browsers start --concurrency 2")]
    Start(StartArguments),
    /// Tries every browser and what it computes with, and says what works and why the rest does not.
    #[command(after_help = "Example: augur browsers detect --format json")]
    Detect {
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Shows the pool that runs on this machine: its browsers, their health, their jobs.
    #[command(after_help = "Example: augur browsers status")]
    Status {
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Measures models in this machine's browsers, without a broker, and writes numbers and a picture.
    #[command(
        after_help = "Example: augur browsers bench --models mobilenet-v2 --iterations 100 --concurrent 3 --output bench.json"
    )]
    Bench(bench::BenchArguments),
}

#[derive(Debug, Args)]
pub(crate) struct StartArguments {
    /// Which jobs to take; overrides `browsers.platforms`.
    #[arg(long, value_delimiter = ',')]
    platforms: Option<Vec<Platform>>,
    /// Jobs at once; overrides `browsers.concurrency`.
    #[arg(long)]
    concurrency: Option<u16>,
    #[command(flatten)]
    flags: WorkerFlags,
}

pub(crate) async fn run(command: BrowsersCommand, context: &Context) -> anyhow::Result<Exit> {
    match command {
        BrowsersCommand::Start(arguments) => start(arguments, context).await,
        BrowsersCommand::Detect { format } => detect::run(format, context).await,
        BrowsersCommand::Status { format } => status::run(format, context).await,
        BrowsersCommand::Bench(arguments) => bench::run(&arguments, context).await,
    }
}

async fn start(arguments: StartArguments, context: &Context) -> anyhow::Result<Exit> {
    let url = context.amqp_url()?;
    let section = &context.loaded.settings.browsers;
    let named = match arguments.platforms {
        Some(platforms) => platforms,
        None => section.platforms.iter().map(|word| word.parse()).collect::<Result<_, _>>()?,
    };
    if let Some(native) = named.iter().find(|platform| !platform.is_web()) {
        bail!("{native} does not run in browsers; webgpu, webnn and wasm do");
    }
    let concurrency = arguments.concurrency.unwrap_or(section.concurrency);
    let stop = shutdown::token()?;
    let starting = runner(context, pool::settings(context)?);
    // Giving up ends the browsers that were started.
    let Some(started) = stop.run_until_cancelled(starting).await else { return Ok(Exit::Done) };
    let (pool, runner) = started?;
    let platforms = if named.is_empty() { runner.platforms() } else { named };
    let asked = Asked { platforms, concurrency, flags: arguments.flags };
    let settings = match asked.settings(context) {
        Ok(settings) => settings,
        Err(error) => {
            pool.stop().await;
            return Err(error);
        }
    };
    let worked = pipeline::work(&url, settings, runner, stop).await;
    // Whatever happened, no browser may stay behind.
    pool.stop().await;
    worked?;
    Ok(Exit::Done)
}

/// A pool of this machine's browsers, and what runs jobs in it.
///
/// # Errors
///
/// If the pool does not start, or no browser of it can do anything.
async fn runner(context: &Context, settings: PoolSettings) -> anyhow::Result<(Pool, WebRunner)> {
    let devices = super::device::detect(context)?.devices;
    let (models, lease_directory) = (context.models()?, context.lease_directory()?);
    let pool = Pool::start(settings).await?;
    shutdown::before_sudden_exit(pool.killer());
    let runner = WebRunner::new(pool.clone(), models, devices, lease_directory);
    if runner.platforms().is_empty() {
        pool.stop().await;
        bail!("no browser of this machine runs models; `augur browsers detect` says why");
    }
    Ok((pool, runner))
}
