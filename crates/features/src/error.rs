//! Why no features or no table could be had.

use std::path::PathBuf;

use polars::error::PolarsError;
use thiserror::Error;

/// Why rows gave no features, or a table could not be read or written.
#[derive(Debug, Error)]
pub enum FeatureError {
    /// The plan from raw columns to features failed.
    #[error("failed to compute the feature frame")]
    Frame {
        /// What Polars says.
        source: PolarsError,
    },
    /// A file could not be opened, written, synced or renamed.
    #[error("failed to {action} `{}`", path.display())]
    File {
        /// What was attempted, e.g. `open`.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is not the Parquet that was expected.
    #[error("failed to {action} `{}` as Parquet", path.display())]
    Parquet {
        /// `read` or `write`.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What Polars says.
        source: PolarsError,
    },
    /// A cell of a training table does not hold what its column says.
    #[error("row {row} of training table `{}` has a wrong `{column}`: {reason}", path.display())]
    Cell {
        /// Which file.
        path: PathBuf,
        /// Row, counted from 0.
        row: usize,
        /// Column.
        column: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A table that someone brought is neither CSV nor Parquet as its name says.
    #[error("failed to read table `{}`", path.display())]
    Table {
        /// Which file.
        path: PathBuf,
        /// What Polars says.
        source: PolarsError,
    },
    /// A table has a column that nobody knows.
    #[error("table `{}` has an unknown column `{column}`; known are {known}", path.display())]
    UnknownColumn {
        /// Which file.
        path: PathBuf,
        /// The column.
        column: String,
        /// The columns that exist, comma-separated.
        known: String,
    },
    /// A table lacks a column that is needed.
    #[error("table `{}` has no column `{column}`, which is needed", path.display())]
    MissingColumn {
        /// Which file.
        path: PathBuf,
        /// The column.
        column: String,
    },
    /// A published result file says neither in its name nor in its columns what was measured.
    #[error("`{}` does not say what was measured: {reason}", path.display())]
    Unlabelled {
        /// Which file.
        path: PathBuf,
        /// What is missing, and what would help.
        reason: String,
    },
    /// A row of a table cannot be used.
    #[error("{}:{line}: {reason}", path.display())]
    BadRow {
        /// Which file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}
