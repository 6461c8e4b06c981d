//! `augur feature extract`.

use std::path::PathBuf;

use clap::Subcommand;
use features::{FeatureFrame, OwnTables};

use crate::{exit::Exit, tables::Learnable};

#[derive(Debug, Subcommand)]
pub(crate) enum FeatureCommand {
    /// Computes the feature frame of measurements and writes it as Parquet, one row per usable row.
    #[command(
        after_help = "Examples: augur feature extract --input measurements.csv.gz --devices devices.csv --operators operators.jsonl.gz --output features.parquet\n          \
                      augur feature extract --db augur.duckdb --output features.parquet"
    )]
    Extract {
        #[command(flatten)]
        tables: Learnable,
        /// Where to write; unit and meaning of each column are in the file's metadata.
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
}

pub(crate) fn run(command: FeatureCommand) -> anyhow::Result<Exit> {
    let FeatureCommand::Extract { tables, output } = command;
    let (OwnTables { rows, devices, operators }, _) = tables.read()?;
    let features = FeatureFrame::build(&rows, &devices, &operators)?;
    features.write_parquet(&output)?;
    eprintln!("{} rows of {} features written to {}", features.rows(), features.frame().width(), output.display());
    Ok(Exit::Done)
}
