//! The DuckDB file: its schema, its migrations, what is written to it and what is asked of it.
//!
//! DuckDB lets one process write, so one process (the aggregator) owns the file and every other asks its HTTP API.
//! Within that process [`Store`] is cheap to clone; writes take turns on one connection, reads run beside them on
//! connections of their own and see only what is committed. All calls block.
//!
//! Replaying records changes nothing that is already there: a result is keyed by its job id and the first one counts.

mod accept;
pub mod archive;
mod digest;
mod error;
mod imports;
mod json;
mod migrations;
mod open;
mod plausible;
mod query;
mod record;
mod rows;
mod write;

#[cfg(test)]
mod tests;

pub use accept::{Rejection, Standing, accept};
pub use error::StoreError;
pub use imports::{ImportSummary, ImportedTable, ReadTable, read_database};
pub use open::Store;
pub use plausible::Implausible;
pub use record::Record;
pub use rows::{
    AttemptCounts, AttemptRow, ComparableRow, ConditionsRow, CoverageCell, EvaluationRow, HeldBackRow, IncompatibleRow,
    JudgementRow, MachineStateRow, MeasuredRow, NeedRow, OffsetRow, OpenClaim, OutboxRow, PredictedRow,
    PredictionErrorRow, RegressionRow, ReleaseRow, ResultRow, RunSummary, RunningRow, StoredPosition, TableDigest,
    WebRow, WithheldRows, WorkerRow,
};
pub use write::{CommitSummary, OutboxMode, Refused, Salvaged, StreamPosition};
