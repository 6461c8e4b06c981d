//! `augur worker start|list`.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand};
use messages::{Platform, WorkerId};
use pipeline::WorkerSettings;
use runner::{Profile, ProfileRunner, Runner, RunnerSettings};
use store::{RunningRow, WorkerRow};

use crate::{
    context::Context,
    exit::Exit,
    output::{self, Format},
    settings::{ProfileSection, WorkerSection},
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
    #[command(flatten)]
    flags: WorkerFlags,
}

/// What every kind of worker can be told.
#[derive(Debug, Args)]
pub(crate) struct WorkerFlags {
    /// Deliveries per lane held at once; overrides `worker.prefetch`.
    #[arg(long)]
    prefetch: Option<u16>,
    /// Words that jobs may ask for; overrides `worker.tags`.
    #[arg(long, value_delimiter = ',')]
    tags: Option<Vec<String>>,
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
    let asked = Asked { platforms, concurrency, flags: arguments.flags };
    let stop = shutdown::token()?;
    let settings = asked.settings(context)?;
    let runner = runner(context)?;
    pipeline::work(&url, settings, runner, stop).await?;
    Ok(Exit::Done)
}

/// What a worker's start was asked for, natively or in browsers.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) platforms: Vec<Platform>,
    pub(crate) concurrency: u16,
    pub(crate) flags: WorkerFlags,
}

impl Asked {
    /// The worker's settings, from the flags and from the section `worker`.
    ///
    /// # Errors
    ///
    /// If there would be nothing to do, or a setting is impossible.
    pub(crate) fn settings(self, context: &Context) -> anyhow::Result<WorkerSettings> {
        let Self { platforms, concurrency, flags } = self;
        let section = &context.loaded.settings.worker;
        if platforms.is_empty() || concurrency == 0 || section.lease_s == 0 {
            bail!("a worker needs at least one platform, a concurrency of at least 1 and a lease of at least 1 s");
        }
        let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let named = if host.is_empty() { "host" } else { &host };
        let worker_id = match flags.name {
            Some(name) => name,
            None => WorkerId::parse(&format!("{named}:{}", std::process::id()))?,
        };
        Ok(WorkerSettings {
            worker_id,
            host,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            platforms,
            concurrency,
            prefetch: flags.prefetch.unwrap_or(section.prefetch),
            grace: Duration::from_secs(section.grace_s),
            claim_after: Duration::from_secs(section.claim_after_s),
            lease: Duration::from_secs(section.lease_s),
            tags: flags.tags.unwrap_or_else(|| section.tags.clone()),
            rate_limits: rate_limits(section)?,
            hold_max: Duration::from_millis(section.hold_ms_max),
            patience: context.daemon_patience(),
        })
    }
}

/// Jobs begun per second and platform, where the settings limit them.
fn rate_limits(section: &WorkerSection) -> anyhow::Result<BTreeMap<Platform, f64>> {
    let mut limits = BTreeMap::new();
    for (word, &per_s) in &section.rate_limit_per_s {
        let key = || format!("worker.rate_limit_per_s.{word}");
        let platform: Platform = word.parse().with_context(|| format!("the settings have {}", key()))?;
        if !(per_s.is_finite() && per_s >= 0.0) {
            bail!("{} is {per_s}; jobs per second are expected, or 0 for no limit", key());
        }
        if per_s > 0.0 {
            limits.insert(platform, per_s);
        }
    }
    Ok(limits)
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
        waited_pct_max: section.waited_pct_max,
        arithmetic_pct_min: section.arithmetic_pct_min,
        handoff_ns: detection.handoff_ns,
    };
    Ok(Runner::new(settings, detection.devices))
}

/// The runner profiles of the settings.
pub(crate) fn profiles(context: &Context) -> anyhow::Result<BTreeMap<String, Profile>> {
    let convert = |(name, section): (&String, &ProfileSection)| {
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
    let headings = ["worker", "platforms", "browsers", "tags", "slots", "running", "done", "last seen", "version"];
    let mut table = output::table(headings);
    for worker in workers {
        let silent = chrono::DateTime::parse_from_rfc3339(&worker.last_seen_at)
            .is_ok_and(|seen| chrono::Utc::now().signed_duration_since(seen).num_seconds() > SILENT_S_MAX);
        let state = match (silent, worker.draining) {
            (true, _) => " (gone)",
            (false, true) => " (draining)",
            (false, false) => "",
        };
        let running = if silent { String::new() } else { lines(&worker.running, running_job) };
        table.add_row([
            format!("{}{state}", worker.worker_id),
            worker.platforms.join(", "),
            worker.browsers.join(", "),
            worker.tags.join(", "),
            worker.concurrency.to_string(),
            running,
            worker.jobs_done.to_string(),
            worker.last_seen_at.clone(),
            worker.version.clone(),
        ]);
    }
    table
}

fn lines<T>(items: &[T], line: impl Fn(&T) -> String) -> String {
    items.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A running job in few words: its case, how far it is, and what is unusual about it.
pub(crate) fn running_job(job: &RunningRow) -> String {
    let progress = progress(job).map(|progress| format!(" {progress}")).unwrap_or_default();
    let again = if job.attempt > 1 { format!(", attempt {}", job.attempt) } else { String::new() };
    let leased = if job.leased { ", leased" } else { "" };
    format!("{}{progress}{again}{leased}", job.case)
}

/// Timed iterations done and to do at most, where they are known.
pub(crate) fn progress(job: &RunningRow) -> Option<String> {
    Some(format!("{}/{}", job.progress_done?, job.progress_total?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(edit: impl FnOnce(&mut WorkerSection)) -> WorkerSection {
        let defaults = crate::settings::load_defaults();
        let mut section = defaults.settings.worker;
        edit(&mut section);
        section
    }

    #[test]
    fn no_rate_is_limited_unless_asked_for() {
        assert!(rate_limits(&section(|_| ())).expect("defaults").is_empty());
        let limited = section(|section| section.rate_limit_per_s.extend([("cuda".to_owned(), 0.5)]));
        assert_eq!(rate_limits(&limited).expect("a limit"), BTreeMap::from([(Platform::Cuda, 0.5)]));
    }

    #[test]
    fn impossible_limits_are_refused_with_their_key() {
        for (platform, per_s, expected) in [("cpu", -1.0, "rate_limit_per_s.cpu is -1"), ("abacus", 1.0, "s.abacus")] {
            let wrong = section(|section| section.rate_limit_per_s.extend([(platform.to_owned(), per_s)]));
            let error = rate_limits(&wrong).expect_err("impossible").to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_running_job_says_how_far_it_is() {
        let job = |attempt, progress: Option<(u32, u32)>, leased| RunningRow {
            job_id: String::new(),
            run_id: String::new(),
            case: "resnet50".to_owned(),
            attempt,
            started_at: String::new(),
            progress_done: progress.map(|(done, _)| done),
            progress_total: progress.map(|(_, total)| total),
            leased,
        };
        assert_eq!(running_job(&job(1, None, false)), "resnet50");
        assert_eq!(running_job(&job(2, Some((37, 100)), true)), "resnet50 37/100, attempt 2, leased");
    }
}
