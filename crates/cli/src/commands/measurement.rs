//! `augur measurement import|export|coverage|quarantine`: measurement tables into the database and out of it, what is
//! covered, and what is kept from the predictors.

mod coverage;
mod import;
mod quarantine;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use store::Store;

pub(crate) use quarantine::table as held_back;

use crate::{context::Context, exit::Exit, output};

#[derive(Debug, Subcommand)]
pub(crate) enum MeasurementCommand {
    /// Stores measurements that were made elsewhere: tables (CSV, gzipped CSV, Parquet), a benchmark database
    /// (.duckdb), or result files of timm as they are published. A row that is there already counts once.
    #[command(
        after_help = "Examples:\n  augur measurement import measurements.csv.gz benchmark_db.duckdb\n  augur measurement import --strict benchmark-infer-amp-nhwc-pt210-cu121-rtx3090.csv"
    )]
    Import(import::ImportArguments),
    /// Writes every measurement that may be learned from as a measurement table.
    #[command(after_help = "Example: augur measurement export --output measurements.parquet")]
    Export {
        /// Where to write; its name ends in .csv, .csv.gz or .parquet.
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
        /// The database. Not given: `augur.duckdb` in the state directory.
        #[arg(long, value_name = "DB")]
        db: Option<PathBuf>,
    },
    /// Shows what is measured and what is not: model by device and precision.
    #[command(
        after_help = "Examples:\n  augur measurement coverage --plot coverage.svg\n  augur measurement coverage --input measurements.csv.gz --by family"
    )]
    Coverage(coverage::CoverageArguments),
    /// Measurements that cannot be: what they are, and letting them count all the same.
    #[command(subcommand)]
    Quarantine(quarantine::QuarantineCommand),
}

pub(crate) async fn run(command: MeasurementCommand, context: &Context) -> anyhow::Result<Exit> {
    match command {
        MeasurementCommand::Import(arguments) => tokio::task::block_in_place(|| import::run(&arguments, context)),
        MeasurementCommand::Export { output, db } => tokio::task::block_in_place(|| export(&output, db, context)),
        MeasurementCommand::Coverage(arguments) => coverage::run(&arguments, context).await,
        MeasurementCommand::Quarantine(command) => quarantine::run(command, context).await,
    }
}

fn export(output: &Path, db: Option<PathBuf>, context: &Context) -> anyhow::Result<Exit> {
    let db = context.database(db)?;
    let rows = existing(&db)?.export(output)?;
    output::print(&format!("{rows} measurements of {} written to {}", db.display(), output.display()))?;
    Ok(Exit::Done)
}

/// Opens a database that must be there.
fn existing(db: &Path) -> anyhow::Result<Store> {
    if !db.try_exists().with_context(|| format!("failed to look for database {}", db.display()))? {
        bail!(
            "there is no database {}; `augur measurement import` makes one, and so does `augur aggregator start`",
            db.display()
        );
    }
    Store::open(db).with_context(|| format!("failed to open database {}", db.display()))
}
