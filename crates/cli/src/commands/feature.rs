//! `augur feature extract`.

use std::path::PathBuf;

use clap::Subcommand;
use features::FeatureFrame;

use crate::{exit::Exit, tables::Beside};

#[derive(Debug, Subcommand)]
pub(crate) enum FeatureCommand {
    /// Computes the feature frame of measurement tables and writes it as Parquet, one row per usable row.
    #[command(
        after_help = "Example: augur feature extract --input measurements.csv.gz --devices devices.csv --operators operators.jsonl.gz --output features.parquet"
    )]
    Extract {
        /// Measurement tables.
        #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
        input: Vec<PathBuf>,
        #[command(flatten)]
        beside: Beside,
        /// Where to write; unit and meaning of each column are in the file's metadata.
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
}

pub(crate) fn run(command: FeatureCommand) -> anyhow::Result<Exit> {
    let FeatureCommand::Extract { input, beside, output } = command;
    let rows = beside.rows(&input)?;
    let features = FeatureFrame::build(&rows, &beside.devices()?, &beside.operators()?)?;
    features.write_parquet(&output)?;
    eprintln!("{} rows of {} features written to {}", features.rows(), features.frame().width(), output.display());
    Ok(Exit::Done)
}
