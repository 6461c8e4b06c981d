//! `augur worker start|list`.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand};
use messages::{Platform, WorkerId};
use pipeline::WorkerSettings;
use runner::{Profile, ProfileRunner, Runner, RunnerSettings};
use store::WorkerRow;

use crate::{
    context::Context,
    exit::Exit,
    output::{self, Format},
    shutdown,
};

/// A worker that was not heard of for this long is taken for gone, in seconds; heartbeats come every 5.
const SILENT_S_MAX: i64 = 30;

#[derive(Debug, Subcommand)]
pub(crate) enum WorkerCommand {
    /// Takes jobs and runs them until SIGTERM.
    #[command(after_help = "Example: augur worker start --platforms cpu --concurrency 2")]
    Start(StartArguments),
    /// Lists workers that the aggregator has heard of.
    #[command(after_help = "Example: augur worker list")]
    List {
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

#[derive(Debug, Args)]
pub(crate) struct StartArguments {
    /// Which jobs to take; overrides `worker.platforms`.
    #[arg(long, value_delimiter = ',')]
    platforms: Option<Vec<Platform>>,
    /// Jobs at once; overrides `worker.concurrency`.
    #[arg(long)]
    concurrency: Option<u16>,
    /// Deliveries per lane held at once; overrides `worker.prefetch`.
    #[arg(long)]
    prefetch: Option<u16>,
    /// Its name; made from host and process id if not given.
    #[arg(long)]
    name: Option<WorkerId>,
}

pub(crate) async fn run(command: WorkerCommand, context: &Context) -> anyhow::Result<Exit> {
    match command {
        WorkerCommand::Start(arguments) => start(arguments, context).await,
        WorkerCommand::List { format } => {
            let workers: Vec<WorkerRow> = context.api()?.get("/api/workers").await?;
            output::answer(format, &workers, |workers| table(workers))?;
            Ok(Exit::Done)
        }
    }
}

async fn start(arguments: StartArguments, context: &Context) -> anyhow::Result<Exit> {
    let url = context.amqp_url()?;
    let section = &context.loaded.settings.worker;
    let platforms = match arguments.platforms {
        Some(platforms) => platforms,
        None => section.platforms.iter().map(|word| word.parse()).collect::<Result<_, _>>()?,
    };
    let concurrency = arguments.concurrency.unwrap_or(section.concurrency);
    if platforms.is_empty() || concurrency == 0 {
        bail!("a worker needs at least one platform and a concurrency of at least 1");
    }
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let worker_id = match arguments.name {
        Some(name) => name,
        None => WorkerId::parse(&format!("{}:{}", if host.is_empty() { "host" } else { &host }, std::process::id()))?,
    };
    let stop = shutdown::token()?;
    let settings = WorkerSettings {
        worker_id,
        host,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        platforms,
        concurrency,
        prefetch: arguments.prefetch.unwrap_or(section.prefetch),
        grace: Duration::from_secs(section.grace_s),
        patience: context.daemon_patience(),
    };
    let runner = runner(context)?;
    pipeline::work(&url, settings, runner, stop).await?;
    Ok(Exit::Done)
}

fn runner(context: &Context) -> anyhow::Result<Runner> {
    let section = &context.loaded.settings.worker;
    let cache = context.cache_directory()?;
    let detection = tokio::task::block_in_place(|| hardware::detect(&cache))?;
    let settings = RunnerSettings {
        executable: std::env::current_exe().context("failed to find this program's own file")?,
        onnxruntime_library: context.onnxruntime_library()?,
        models: context.models()?,
        lease_directory: context.lease_directory()?,
        profiles: profiles(context)?,
        output_tail_bytes_max: section.output_tail_bytes_max,
        child_memory_mb_max: (section.child_memory_mb_max > 0).then_some(section.child_memory_mb_max),
    };
    Ok(Runner::new(settings, detection.devices))
}

/// The runner profiles of the settings.
pub(crate) fn profiles(context: &Context) -> anyhow::Result<BTreeMap<String, Profile>> {
    let convert = |(name, section): (&String, &crate::settings::ProfileSection)| {
        let runner = match section.runner.as_str() {
            "pytest" => ProfileRunner::Pytest,
            "cargo-nextest" => ProfileRunner::CargoNextest,
            "command" => ProfileRunner::Command,
            "noop" => ProfileRunner::Noop,
            other => {
                return Err(anyhow!(
                    "worker.profiles.{name}.runner is `{other}`; pytest, cargo-nextest, command or noop is possible"
                ));
            }
        };
        let absolute = |path: &Option<PathBuf>| path.as_ref().map(std::path::absolute).transpose();
        Ok((
            name.clone(),
            Profile {
                enabled: section.enabled,
                program: section.program.clone(),
                arguments: section.arguments.clone(),
                working_directory: absolute(&section.working_directory)?,
                environment: section.environment.clone(),
                timeout_ms_max: section.timeout_s.map(|seconds| seconds * 1_000),
                ..Profile::usual(runner)
            },
        ))
    };
    context.loaded.settings.worker.profiles.iter().map(convert).collect()
}

fn table(workers: &[WorkerRow]) -> comfy_table::Table {
    let mut table = output::table(["worker", "platforms", "slots", "running", "done", "last seen", "version"]);
    for worker in workers {
        let running = worker.running.iter().map(|job| job.case.as_str()).collect::<Vec<_>>().join("\n");
        let silent = chrono::DateTime::parse_from_rfc3339(&worker.last_seen_at)
            .is_ok_and(|seen| chrono::Utc::now().signed_duration_since(seen).num_seconds() > SILENT_S_MAX);
        let state = match (silent, worker.draining) {
            (true, _) => " (gone)",
            (false, true) => " (draining)",
            (false, false) => "",
        };
        let running = if silent { String::new() } else { running };
        table.add_row([
            format!("{}{state}", worker.worker_id),
            worker.platforms.join(", "),
            worker.concurrency.to_string(),
            running,
            worker.jobs_done.to_string(),
            worker.last_seen_at.clone(),
            worker.version.clone(),
        ]);
    }
    table
}
