//! `augur predictor train`: a release from measurement tables.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use features::OwnTables;
use messages::{Metric, Timestamp};
use predictors::{KnownJobs, Learner, Predictors, Provenance, Source, TrainSettings};

use super::releases::{evaluation_table, line, open};
use crate::{
    context::Context,
    output::{self, Format},
    tables::Learnable,
};

#[derive(Debug, Args)]
pub(crate) struct TrainArguments {
    #[command(flatten)]
    tables: Learnable,
    /// Metrics to train. Not given: all that enough rows have.
    #[arg(long, value_delimiter = ',')]
    metrics: Vec<Metric>,
    /// Where releases are kept. Not given: `releases` in the state directory.
    #[arg(long)]
    releases: Option<PathBuf>,
    /// What learns: gradient-boosting, neural-network, or both: their mean, and trees alone for new devices.
    #[arg(long, default_value = "both")]
    learner: Learner,
    /// Devices of which fewer configurations were measured are predicted as if they were new, corrected by what was
    /// measured; 0 for none.
    #[arg(long, value_name = "N", default_value_t = TrainSettings::default().few_shot_below)]
    few_shot_below: u32,
    /// Boosters that train at once. Not given: the cores of this machine.
    #[arg(long)]
    threads: Option<u32>,
    /// Seed of folds and boosters.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(arguments: &TrainArguments, context: &Context) -> anyhow::Result<()> {
    if arguments.metrics.contains(&Metric::LoadMs) {
        bail!("load_ms is in no measurement table, so there is nothing to learn it from");
    }
    let releases = open(context, arguments.releases.as_deref())?;
    let (OwnTables { rows, devices, operators }, learned) = arguments.tables.read()?;
    let metrics = if arguments.metrics.is_empty() { Predictors::trainable(&rows) } else { arguments.metrics.clone() };
    if metrics.is_empty() {
        bail!("{} rows are too few to train on; {} are needed", rows.len(), predictors::ROWS_NEEDED);
    }
    let cores = || std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
    let settings = TrainSettings {
        learner: arguments.learner,
        few_shot_below: arguments.few_shot_below,
        threads: arguments.threads.unwrap_or_else(cores),
        seed: arguments.seed,
        ..TrainSettings::default()
    };
    // A database may hold rows from elsewhere too.
    let source = if rows.len() > learned.len() { Source::Tables } else { Source::Jobs };
    let predictors = Predictors::train(rows, &devices, &operators, &metrics, &settings, |step| eprintln!("{step}"))?;
    let jobs = KnownJobs { learned, ..KnownJobs::default() };
    let provenance = Provenance { source, jobs, update: None };
    let manifest = releases.publish(&predictors, provenance, Timestamp::now(), env!("CARGO_PKG_VERSION"))?;
    let line = line(&manifest, Some(&manifest.release_id));
    output::answer(arguments.format, &line, evaluation_table)
}
