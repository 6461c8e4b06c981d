//! `augur predictor train`: a release from measurement tables.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use features::OwnTables;
use messages::{Metric, Timestamp};
use predictors::{Learner, Predictors, Source, TrainSettings};
use store::Store;

use super::releases::{evaluation_table, line, open};
use crate::{
    context::Context,
    output::{self, Format},
    tables::Beside,
};

#[derive(Debug, Args)]
pub(crate) struct TrainArguments {
    /// Measurement tables.
    #[arg(long, value_name = "FILE", num_args = 1.., required_unless_present = "db")]
    input: Vec<PathBuf>,
    /// A database of our own jobs' measurements, alone or beside tables; no aggregator may have it open.
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    #[command(flatten)]
    beside: Beside,
    /// Metrics to train. Not given: all that enough rows have.
    #[arg(long, value_delimiter = ',')]
    metrics: Vec<Metric>,
    /// Where releases are kept. Not given: `releases` in the state directory.
    #[arg(long)]
    releases: Option<PathBuf>,
    /// What learns: gradient-boosting, neural-network, or both: their mean, and trees alone for new devices.
    #[arg(long, default_value = "both")]
    learner: Learner,
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
    let OwnTables { rows, devices, operators } = tables(arguments)?;
    let metrics = if arguments.metrics.is_empty() { Predictors::trainable(&rows) } else { arguments.metrics.clone() };
    if metrics.is_empty() {
        bail!("{} rows are too few to train on; {} are needed", rows.len(), predictors::ROWS_NEEDED);
    }
    let cores = || std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
    let settings = TrainSettings {
        learner: arguments.learner,
        threads: arguments.threads.unwrap_or_else(cores),
        seed: arguments.seed,
        ..TrainSettings::default()
    };
    let source = if arguments.input.is_empty() { Source::Jobs } else { Source::Tables };
    let predictors = Predictors::train(rows, &devices, &operators, &metrics, &settings, |step| eprintln!("{step}"))?;
    let manifest = releases.publish(&predictors, source, Timestamp::now(), env!("CARGO_PKG_VERSION"))?;
    let line = line(&manifest, Some(&manifest.release_id));
    output::answer(arguments.format, &line, evaluation_table)
}

/// The tables that were named, and the database's measurements as such.
fn tables(arguments: &TrainArguments) -> anyhow::Result<OwnTables> {
    let mut tables = match &arguments.db {
        None => OwnTables::default(),
        Some(path) => own(path)?,
    };
    if !arguments.input.is_empty() {
        tables.rows.extend(arguments.beside.rows(&arguments.input)?);
    }
    // What a file says of a device or a model counts more than what is worked out from jobs.
    tables.devices.extend(arguments.beside.devices()?);
    tables.operators.extend(arguments.beside.operators()?);
    Ok(tables)
}

fn own(path: &Path) -> anyhow::Result<OwnTables> {
    if !path.is_file() {
        bail!("there is no database `{}`", path.display());
    }
    let store = Store::open(path)?;
    let (measurements, brought) = (store.accepted_measurements()?, store.brought_rows()?);
    eprintln!(
        "{}: {} accepted measurements, {} from elsewhere",
        path.display(),
        measurements.len(),
        brought.rows.len()
    );
    for (result_id, flaw) in brought.bad {
        eprintln!("{}: left out: of the result {result_id}, {flaw}", path.display());
    }
    let mut tables = OwnTables::of(&measurements, pipeline::model_family);
    tables.rows.extend(brought.rows);
    Ok(tables)
}
