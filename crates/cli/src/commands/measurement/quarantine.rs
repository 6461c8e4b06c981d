//! `augur measurement quarantine list|release`: measurements that cannot be, and the word that they are right after all.

use anyhow::bail;
use broker::Publisher;
use clap::{Args, Subcommand};
use comfy_table::Table;
use messages::{JobId, RunId};
use serde::Serialize;
use store::{HeldBackRow, ResultRow};
use tokio_util::sync::CancellationToken;

use crate::{
    api::Api,
    context::Context,
    exit::Exit,
    output::{self, Format},
};

#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineCommand {
    /// Lists the measurements in quarantine, each with the reason.
    #[command(after_help = "Example: augur measurement quarantine list --run RUN")]
    List {
        /// Only those of this run.
        #[arg(long)]
        run: Option<RunId>,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Has measurements learned from although they look impossible; each is fed to the predictors once, however often
    /// this is said.
    #[command(
        after_help = "Examples:\n  augur measurement quarantine release 0190b5a0-0000-7000-8000-000000000001\n  augur measurement quarantine release --run RUN --dry-run"
    )]
    Release(ReleaseArguments),
}

#[derive(Debug, Args)]
#[group(id = "which", required = true, multiple = false)]
struct Which {
    /// The jobs that measured.
    #[arg(value_name = "JOB")]
    jobs: Vec<JobId>,
    /// All measurements of this run that are in quarantine.
    #[arg(long)]
    run: Option<RunId>,
    /// All measurements in quarantine.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseArguments {
    #[command(flatten)]
    which: Which,
    /// Says what it would do and does nothing.
    #[arg(long)]
    dry_run: bool,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What `release` did.
#[derive(Serialize)]
struct Answer {
    dry_run: bool,
    released: Vec<HeldBackRow>,
    /// Jobs asked for that had been released before.
    released_before: Vec<String>,
}

pub(crate) async fn run(command: QuarantineCommand, context: &Context) -> anyhow::Result<Exit> {
    let api = context.api()?;
    match command {
        QuarantineCommand::List { run, format } => {
            let rows = quarantined(&api, run).await?;
            output::answer(format, &rows, |rows| table(rows))?;
        }
        QuarantineCommand::Release(arguments) => release(&api, &arguments, context).await?,
    }
    Ok(Exit::Done)
}

async fn quarantined(api: &Api, run: Option<RunId>) -> anyhow::Result<Vec<HeldBackRow>> {
    let of_run = run.map_or_else(String::new, |run| format!("?run={run}"));
    Ok(api.get(&format!("/api/quarantine{of_run}")).await?)
}

async fn release(api: &Api, arguments: &ReleaseArguments, context: &Context) -> anyhow::Result<()> {
    let Which { jobs, run, .. } = &arguments.which;
    let mut rows = quarantined(api, *run).await?;
    let mut released_before = Vec::new();
    if !jobs.is_empty() {
        rows.retain(|row| jobs.iter().any(|job| job.to_string() == row.job_id));
        for job in jobs.iter().map(ToString::to_string) {
            if !rows.iter().any(|row| row.job_id == job) {
                expect_released(api, &job).await?;
                released_before.push(job);
            }
        }
    }
    if !arguments.dry_run && !rows.is_empty() {
        let url = context.amqp_url()?;
        let stop = CancellationToken::new();
        let publisher = Publisher::start(&url, "augur quarantine", Context::command_patience(), stop).await?;
        for row in &rows {
            pipeline::lift_quarantine(&publisher, row.job_id.parse()?).await?;
        }
    }
    let answer = Answer { dry_run: arguments.dry_run, released: rows, released_before };
    output::answer(arguments.format, &answer, |answer| table(&answer.released))?;
    if arguments.format == Format::Table {
        let (done, before) = (answer.released.len(), answer.released_before.len());
        let word = if answer.dry_run { "would be released" } else { "released" };
        eprintln!("{done} measurements {word}; {before} had been released before");
    }
    Ok(())
}

/// Refuses a job that is not in quarantine, unless it is there no more.
async fn expect_released(api: &Api, job: &str) -> anyhow::Result<()> {
    let row: ResultRow = api.get(&format!("/api/jobs/{job}")).await?;
    match row.standing.as_deref() {
        Some("released") => Ok(()),
        Some(standing) => bail!("the measurement of job {job} is not in quarantine, it is {standing}"),
        None => bail!("job {job} measured nothing"),
    }
}

/// Measurements that do not count, for people.
pub(crate) fn table(rows: &[HeldBackRow]) -> Table {
    let mut table = output::table(["job", "case", "model", "device", "p50 ms", "standing", "why"]);
    for row in rows {
        table.add_row([
            row.job_id.clone(),
            row.case.clone(),
            output::text(row.model.as_ref()),
            output::text(row.device.as_ref()),
            output::number(row.latency_p50_ms),
            row.standing.clone(),
            row.reason.clone(),
        ]);
    }
    table
}
