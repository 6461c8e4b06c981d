//! The `augur` command line: reads settings, sets up tracing, runs one command, turns its end into an exit code.

mod api;
mod commands;
mod context;
mod doctor;
mod exit;
mod moments;
mod output;
mod plots;
mod report;
mod settings;
mod shutdown;
mod tables;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use commands::{Cli, Command};
use context::Context;
use exit::Exit;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The benchmark's own process: no settings, no runtime, nothing that would show in its measurements.
    if matches!(cli.command, Command::InternalBenchmark) {
        return runner::benchmark_child();
    }
    start_tracing(&cli);
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(cli)));
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) => exit::report(&error).into(),
    }
}

async fn run(cli: Cli) -> anyhow::Result<Exit> {
    let settings = settings::load(cli.settings.as_deref())?;
    commands::run(cli.command, &Context::new(settings)).await
}

/// Logs go to stderr: text for people, JSON on request; daemons say more than commands.
fn start_tracing(cli: &Cli) {
    let level = if cli.command.is_daemon() { "info" } else { "warn" };
    let filter = EnvFilter::try_from_env("AUGUR_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("{level},lapin=off,xgboost_rs=warn")));
    // A log that nobody reads any more is no reason to die: told of each line that cannot be written, it panics.
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    match cli.log_format {
        commands::LogFormat::Json => builder.json().init(),
        commands::LogFormat::Text => {
            let colours =
                std::env::var_os("NO_COLOR").is_none() && std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(colours).with_target(false).init();
        }
    }
}
