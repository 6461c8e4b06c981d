//! The commands: one file each, noun then verb.

mod aggregator;
mod attempts;
mod browsers;
mod dead_letter;
mod device;
mod dispatching;
mod feature;
mod job;
mod learner;
mod measurement;
mod model;
mod plan;
mod predictor;
mod recommend;
mod result;
mod roster;
mod run;
mod suite;
mod topology;
mod up;
mod updater;
mod waiting;
mod worker;

use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

use crate::{
    context::Context,
    doctor,
    exit::Exit,
    output::{self, Format},
};

/// Measures how fast AI models run, learns from it, and predicts what nobody has measured.
#[derive(Debug, Parser)]
#[command(
    name = "augur",
    version,
    propagate_version = true,
    after_help = "Example: augur up --suite deploy/suites/demo.yaml --once"
)]
pub(crate) struct Cli {
    /// Settings file, instead of ./augur.toml or ~/.config/augur/augur.toml.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) settings: Option<PathBuf>,
    /// How logs are written to stderr.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Forms of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs everything on this machine: broker, aggregator, updater, workers.
    Up(up::UpArguments),
    /// Says what works on this machine and what does not, with the remedy.
    #[command(after_help = "Example: augur doctor --format json")]
    Doctor {
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Compares `queues.yaml` with the broker, and declares it there.
    #[command(subcommand)]
    Topology(topology::TopologyCommand),
    /// Submits and checks suites.
    #[command(subcommand)]
    Suite(suite::SuiteCommand),
    /// Single jobs.
    #[command(subcommand)]
    Job(job::JobCommand),
    /// Runs: one submission of a suite each.
    #[command(subcommand)]
    Run(run::RunCommand),
    /// Workers, which run jobs.
    #[command(subcommand)]
    Worker(worker::WorkerCommand),
    /// The browser pool, which runs jobs for browsers.
    #[command(subcommand)]
    Browsers(browsers::BrowsersCommand),
    /// The result aggregator, which owns the database.
    #[command(subcommand)]
    Aggregator(aggregator::AggregatorCommand),
    /// The model-update stage, which trains predictors.
    #[command(subcommand)]
    Updater(updater::UpdaterCommand),
    /// The active learner, which proposes benchmarks and submits them.
    #[command(subcommand)]
    Learner(learner::LearnerCommand),
    /// The result stream.
    #[command(subcommand)]
    Result(result::ResultCommand),
    /// Dead letters: jobs that used up their attempts.
    #[command(subcommand)]
    DeadLetter(dead_letter::DeadLetterCommand),
    /// The model zoo.
    #[command(subcommand)]
    Model(model::ModelCommand),
    /// Devices: this machine's and published ones.
    #[command(subcommand)]
    Device(device::DeviceCommand),
    /// Measurements that were made elsewhere, and all measurements as a table.
    #[command(subcommand)]
    Measurement(measurement::MeasurementCommand),
    /// The numbers that predictors learn from.
    #[command(subcommand)]
    Feature(feature::FeatureCommand),
    /// Predictors and their releases.
    #[command(subcommand)]
    Predictor(predictor::PredictorCommand),
    /// Which hardware suits a model.
    #[command(subcommand)]
    Recommend(recommend::RecommendCommand),
    /// What to benchmark next.
    #[command(subcommand)]
    Plan(plan::PlanCommand),
    /// Settings and where each value comes from.
    #[command(subcommand)]
    Settings(SettingsCommand),
    /// Prints shell completions.
    #[command(after_help = "Example: augur completions bash > /etc/bash_completion.d/augur")]
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// The process of one benchmark; started by a worker.
    #[command(hide = true)]
    InternalBenchmark,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SettingsCommand {
    /// Shows every setting, its value and its origin; secrets are hidden.
    #[command(after_help = "Example: AUGUR_WORKER__GRACE_S=5 augur settings show")]
    Show {
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

impl Command {
    /// Whether this command runs until it is told to stop.
    pub(crate) const fn is_daemon(&self) -> bool {
        matches!(
            self,
            Self::Up(_)
                | Self::Worker(worker::WorkerCommand::Start(_))
                | Self::Browsers(browsers::BrowsersCommand::Start(_))
                | Self::Aggregator(_)
                | Self::Updater(_)
                | Self::Learner(_)
        )
    }
}

/// Runs one command to its end.
pub(crate) async fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    match command {
        Command::Up(arguments) => up::run(arguments, context).await,
        Command::Doctor { format } => doctor(format, context).await,
        Command::Topology(command) => topology::run(command, context).await,
        Command::Suite(command) => suite::run(command, context).await,
        Command::Job(command) => job::run(command, context).await,
        Command::Run(command) => run::run(command, context).await,
        Command::Worker(command) => worker::run(command, context).await,
        Command::Browsers(command) => browsers::run(command, context).await,
        Command::Aggregator(command) => aggregator::run(command, context).await,
        Command::Updater(command) => updater::run(command, context).await,
        Command::Learner(command) => learner::run(command, context).await,
        Command::Result(command) => result::run(command, context).await,
        Command::DeadLetter(command) => dead_letter::run(command, context).await,
        Command::Model(command) => model::run(command, context),
        Command::Device(command) => device::run(command, context),
        Command::Measurement(command) => measurement::run(command, context).await,
        Command::Feature(command) => feature::run(command),
        Command::Predictor(command) => predictor::run(command, context).await,
        Command::Recommend(command) => recommend::run(&command, context),
        Command::Plan(command) => plan::run(command, context).await,
        Command::Settings(SettingsCommand::Show { format }) => show_settings(format, context),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "augur", &mut std::io::stdout());
            Ok(Exit::Done)
        }
        Command::InternalBenchmark => unreachable!("main runs it before anything else"),
    }
}

fn show_settings(format: Format, context: &Context) -> anyhow::Result<Exit> {
    output::answer(format, &context.loaded.shown, |rows| {
        let mut table = output::table(["setting", "value", "origin"]);
        for row in rows {
            table.add_row([&row.key, &row.value, &row.origin]);
        }
        table
    })?;
    Ok(Exit::Done)
}

async fn doctor(format: Format, context: &Context) -> anyhow::Result<Exit> {
    let inputs = doctor::DoctorInputs {
        amqp_url: context.amqp_url_if_set()?,
        aggregator_url: context.loaded.settings.aggregator_url.clone(),
        executable: std::env::current_exe()?,
        onnxruntime_library: context.onnxruntime_library()?,
        cache_directory: context.cache_directory()?,
        state_directory: context.state_directory()?,
        profiles: worker::profiles(context)?,
        ort_web_directory: context.ort_web_directory()?,
    };
    let findings = doctor::examine(&inputs).await;
    output::answer(format, &findings, |findings| doctor::table(findings))?;
    Ok(Exit::Done)
}
