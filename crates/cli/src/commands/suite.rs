//! `augur suite submit|check`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use graphs::ModelCache;
use messages::{Dispatch, Origin, Priority, Requirements, RunId, WebSpec};
use pipeline::{Case, CaseSpec, RunContext, Submission, Suite};
use predictors::Releases;
use serde::Serialize;

use super::{
    dispatching::{DispatchArguments, requirements_text},
    waiting,
};
use crate::{
    context::Context,
    exit::Exit,
    output::{self, Format},
};

#[derive(Debug, Subcommand)]
pub(crate) enum SuiteCommand {
    /// Publishes a suite and prints the run id.
    #[command(
        after_help = "Examples:\n  augur suite submit deploy/suites/demo.yaml --wait\n  augur suite submit nightly.yaml --at 2026-11-22T22:00:00Z --attempts 5"
    )]
    Submit {
        /// The suite.
        file: PathBuf,
        /// Puts every case into this lane.
        #[arg(long)]
        priority: Option<Priority>,
        #[command(flatten)]
        dispatch: DispatchArguments,
        /// The run's id; the jobs' ids then follow from it, so that submitting again after a crash counts once.
        #[arg(long, value_name = "UUID")]
        run_id: Option<RunId>,
        /// Leaves out what the current release predicts of the benchmarks; else their jobs carry it, to be held
        /// against what they measure.
        #[arg(long)]
        no_predict: bool,
        /// Waits for the run's end; exit 1 if a job did not pass.
        #[arg(long)]
        wait: bool,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Validates a suite and shows its cases.
    #[command(after_help = "Example: augur suite check deploy/suites/demo.yaml")]
    Check {
        /// The suite.
        file: PathBuf,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

#[derive(Serialize)]
struct Submitted {
    run_id: String,
    suite: String,
    jobs: usize,
    passed: Option<usize>,
    dead: Option<usize>,
    /// Jobs of a cancelled run that nobody is left to end.
    unreached: Option<u32>,
}

#[derive(Serialize)]
struct CaseRow {
    case: String,
    kind: &'static str,
    platform: String,
    priority: String,
    timeout_s: f64,
    attempts_max: u32,
    requirements: RequirementsRow,
    unique_key: Option<String>,
    /// What people rarely ask for and then want to see.
    #[serde(skip)]
    unusual: String,
}

/// What a case asks of its worker, with the keys of a suite.
#[derive(Serialize)]
struct RequirementsRow {
    memory_mb_min: Option<u64>,
    device_memory_mb_min: Option<u64>,
    browser: Option<String>,
    tags: Vec<String>,
}

impl From<&Requirements> for RequirementsRow {
    fn from(wanted: &Requirements) -> Self {
        let Requirements { memory_mb_min, device_memory_mb_min, browser, tags } = wanted.clone();
        Self { memory_mb_min, device_memory_mb_min, browser, tags }
    }
}

pub(crate) async fn run(command: SuiteCommand, context: &Context) -> anyhow::Result<Exit> {
    match command {
        SuiteCommand::Check { file, format } => check(&file, format, context),
        SuiteCommand::Submit { file, priority, dispatch, run_id, no_predict, wait, format } => {
            let url = context.amqp_url()?;
            let mut suite = Suite::read(&file)?;
            if let Some(priority) = priority {
                suite.cases.iter_mut().for_each(|case| case.priority = priority);
            }
            if let Some(attempts) = dispatch.attempts {
                suite.cases.iter_mut().for_each(|case| case.attempts_max = attempts);
            }
            suite = resolved(suite, !no_predict, context).await?;
            let command_line = format!("augur suite submit {}", file.display());
            let run_context = RunContext { run_id, due_at: dispatch.due_at(), ..waiting::run_context(command_line) };
            let submission = Submission::new(suite, Origin::Client, run_context);
            let endings = waiting::submit(context, &url, &submission, wait).await?;
            let passed = endings.passed();
            let submitted = Submitted {
                run_id: submission.run.run_id.to_string(),
                suite: submission.run.suite.clone(),
                jobs: submission.jobs.len(),
                passed: wait.then_some(passed),
                dead: wait.then_some(endings.dead.len()),
                unreached: wait.then_some(endings.unreached),
            };
            match format {
                Format::Json => output::print(&serde_json::to_string_pretty(&submitted)?)?,
                Format::Table => {
                    waiting::print_failures(&endings)?;
                    if wait {
                        eprintln!("{passed} of {} jobs passed", submitted.jobs);
                    }
                    output::print(&submitted.run_id)?;
                }
            }
            Ok(if wait && passed < submitted.jobs { Exit::Unwelcome } else { Exit::Done })
        }
    }
}

/// A suite whose models are known, and whose benchmarks carry what the current release says of them, if that is wanted.
pub(crate) async fn resolved(mut suite: Suite, is_predicted: bool, context: &Context) -> anyhow::Result<Suite> {
    let models = context.models()?;
    let resolving = tokio::task::spawn_blocking(move || {
        suite.resolve_models(&models)?;
        anyhow::Ok(suite)
    });
    let suite = resolving.await??;
    if is_predicted { predicted(suite, context).await } else { Ok(suite) }
}

/// A suite of known models whose benchmarks carry what the current release says of them; if it cannot, that is said.
pub(crate) async fn predicted(mut suite: Suite, context: &Context) -> anyhow::Result<Suite> {
    let models = context.models()?;
    let (releases, cache) = (context.releases_directory(None)?, context.cache_directory()?);
    let predicting = tokio::task::spawn_blocking(move || {
        if let Err(error) = predict(&mut suite, &releases, &cache, &models) {
            eprintln!("nothing is predicted of the benchmarks: {error:#}");
        }
        suite
    });
    Ok(predicting.await?)
}

/// Asks the current release, if there is one, about the benchmarks, if there are any.
fn predict(suite: &mut Suite, releases: &Path, cache: &Path, models: &ModelCache) -> anyhow::Result<()> {
    let has_benchmarks = suite.cases.iter().any(|case| case.spec.benchmark().is_some());
    // A directory that is not there would be made.
    if !has_benchmarks || !releases.is_dir() {
        return Ok(());
    }
    let Some(release) = Releases::open(releases)?.current()? else { return Ok(()) };
    let (measured, here) = (pipeline::training_table(releases)?, hardware::detect(cache)?.devices);
    Ok(suite.predict(&release, &measured, &here, models)?)
}

fn check(file: &Path, format: Format, context: &Context) -> anyhow::Result<Exit> {
    let suite = Suite::read(file)?;
    suite.check_models(&context.models()?)?;
    let rows: Vec<CaseRow> = suite.cases.iter().map(row).collect();
    output::answer(format, &rows, |rows| {
        let mut table = output::table(["case", "kind", "platform", "priority", "timeout", "unusual"]);
        for row in rows {
            let timeout = format!("{} s", row.timeout_s);
            table.add_row([row.case.as_str(), row.kind, &row.platform, &row.priority, &timeout, &row.unusual]);
        }
        table
    })?;
    eprintln!("suite {}, cases: {}", suite.name, suite.cases.len());
    Ok(Exit::Done)
}

fn row(case: &Case) -> CaseRow {
    CaseRow {
        case: case.name.clone(),
        kind: match case.spec {
            CaseSpec::Test { .. } => "test",
            CaseSpec::Benchmark(_) => "benchmark",
            CaseSpec::Web(_) => "web",
        },
        platform: case.platform().to_string(),
        priority: case.priority.to_string(),
        timeout_s: case.timeout.as_secs_f64(),
        attempts_max: case.attempts_max,
        requirements: RequirementsRow::from(&case.requirements),
        unique_key: case.unique_key.clone(),
        unusual: unusual(case),
    }
}

fn unusual(case: &Case) -> String {
    let attempts = (case.attempts_max != Dispatch::ATTEMPTS_DEFAULT).then(|| format!("attempts {}", case.attempts_max));
    let requirements = (!case.requirements.is_empty()).then(|| requirements_text(&case.requirements));
    let key = case.unique_key.as_ref().map(|key| format!("key {key}"));
    let web = match &case.spec {
        CaseSpec::Web(web) => web_text(web),
        CaseSpec::Test { .. } | CaseSpec::Benchmark(_) => Vec::new(),
    };
    [attempts, requirements, key].into_iter().flatten().chain(web).collect::<Vec<_>>().join(", ")
}

/// What a web case asks for beside its platform.
fn web_text(web: &WebSpec) -> Vec<String> {
    let fallbacks = (web.acceptable_platforms().len() > 1).then(|| {
        let others = web.acceptable_platforms().into_iter().skip(1);
        format!("or {}", others.map(|platform| platform.to_string()).collect::<Vec<_>>().join(" or "))
    });
    let browsers = match web.browsers.as_slice() {
        [] => Some("any browser".to_owned()),
        [_] => None,
        several => Some(several.join(" or ")),
    };
    let memory = web.memory_mb.map(|megabytes| format!("{megabytes} MB in the browser"));
    [fallbacks, browsers, memory].into_iter().flatten().collect()
}
