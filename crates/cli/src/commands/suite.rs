//! `augur suite submit|check`.

use std::path::PathBuf;

use clap::Subcommand;
use messages::{Origin, Priority, Status};
use pipeline::{Case, CaseSpec, Submission, Suite};
use serde::Serialize;

use super::waiting;
use crate::{
    context::Context,
    exit::Exit,
    output::{self, Format},
};

#[derive(Debug, Subcommand)]
pub(crate) enum SuiteCommand {
    /// Publishes a suite and prints the run id.
    #[command(after_help = "Example: augur suite submit deploy/suites/demo.yaml --wait")]
    Submit {
        /// The suite.
        file: PathBuf,
        /// Puts every case into this lane.
        #[arg(long)]
        priority: Option<Priority>,
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
}

#[derive(Serialize)]
struct CaseRow {
    case: String,
    kind: &'static str,
    platform: String,
    priority: String,
    timeout_s: f64,
}

pub(crate) async fn run(command: SuiteCommand, context: &Context) -> anyhow::Result<Exit> {
    match command {
        SuiteCommand::Check { file, format } => check(&file, format, context),
        SuiteCommand::Submit { file, priority, wait, format } => {
            let url = context.amqp_url()?;
            let mut suite = Suite::read(&file)?;
            if let Some(priority) = priority {
                suite.cases.iter_mut().for_each(|case| case.priority = priority);
            }
            let models = context.models()?;
            suite = tokio::task::spawn_blocking(move || suite.resolve_models(&models).map(|()| suite)).await??;
            let command_line = format!("augur suite submit {}", file.display());
            let submission = Submission::new(suite, Origin::Client, waiting::run_context(command_line));
            let results = waiting::submit(&url, &submission, wait, Context::command_patience()).await?;
            let passed = results.iter().filter(|result| result.status() == Status::Passed).count();
            let submitted = Submitted {
                run_id: submission.run.run_id.to_string(),
                suite: submission.run.suite.clone(),
                jobs: submission.jobs.len(),
                passed: wait.then_some(passed),
            };
            match format {
                Format::Json => output::print(&serde_json::to_string_pretty(&submitted)?)?,
                Format::Table => {
                    waiting::print_failures(&results)?;
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

fn check(file: &std::path::Path, format: Format, context: &Context) -> anyhow::Result<Exit> {
    let suite = Suite::read(file)?;
    suite.check_models(&context.models()?)?;
    let rows: Vec<CaseRow> = suite.cases.iter().map(row).collect();
    output::answer(format, &rows, |rows| {
        let mut table = output::table(["case", "kind", "platform", "priority", "timeout"]);
        for row in rows {
            let timeout = format!("{} s", row.timeout_s);
            table.add_row([row.case.as_str(), row.kind, &row.platform, &row.priority, &timeout]);
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
        },
        platform: case.platform().to_string(),
        priority: case.priority.to_string(),
        timeout_s: case.timeout.as_secs_f64(),
    }
}
