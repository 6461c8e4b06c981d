//! Measurement tables as commands are given them: files, read and checked.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::bail;
use clap::Args;
use features::{
    BadRow, DeviceTable, MeasuredRow, MeasuredTable, OperatorTable, OwnTables, read_devices, read_operators,
};
use messages::JobId;
use store::Store;

/// Bad rows that are named one by one.
const NAMED_BAD_ROWS_MAX: usize = 20;

/// Names bad rows on stderr, by file and line.
pub(crate) fn name_bad_rows(path: &Path, bad: &[BadRow]) {
    for BadRow { line, reason } in bad.iter().take(NAMED_BAD_ROWS_MAX) {
        eprintln!("{}:{line}: left out: {reason}", path.display());
    }
    if bad.len() > NAMED_BAD_ROWS_MAX {
        eprintln!("{}: {} more bad rows left out", path.display(), bad.len() - NAMED_BAD_ROWS_MAX);
    }
}

/// Tables that say more of devices and models than a measurement table does.
#[derive(Debug, Args)]
pub(crate) struct Beside {
    /// Published properties of the devices.
    #[arg(long, value_name = "FILE")]
    devices: Option<PathBuf>,
    /// Operators of the models, as JSON lines.
    #[arg(long, value_name = "FILE")]
    operators: Option<PathBuf>,
    /// Refuses a table with a bad row, instead of leaving that row out.
    #[arg(long)]
    strict: bool,
}

impl Beside {
    /// Reads the device table; without one all devices count as one.
    pub(crate) fn devices(&self) -> anyhow::Result<DeviceTable> {
        Ok(self.devices.as_deref().map(read_devices).transpose()?.unwrap_or_default())
    }

    /// Reads the operator table.
    pub(crate) fn operators(&self) -> anyhow::Result<OperatorTable> {
        Ok(self.operators.as_deref().map(read_operators).transpose()?.unwrap_or_default())
    }

    /// Reads measurement tables one after the other; bad rows are named on stderr.
    pub(crate) fn rows(&self, paths: &[PathBuf]) -> anyhow::Result<Vec<MeasuredRow>> {
        let mut rows = Vec::new();
        for path in paths {
            let table = MeasuredTable::read(path)?;
            name_bad_rows(path, &table.bad);
            if self.strict && !table.bad.is_empty() {
                bail!("`{}` has {} bad rows; without --strict they are left out", path.display(), table.bad.len());
            }
            rows.extend(table.rows);
        }
        if rows.is_empty() {
            bail!("the tables have no usable row");
        }
        Ok(rows)
    }
}

/// Measurements to learn from or to describe: tables, our own jobs, or both.
#[derive(Debug, Args)]
pub(crate) struct Learnable {
    /// Measurement tables.
    #[arg(long, value_name = "FILE", num_args = 1.., required_unless_present = "db")]
    pub(crate) input: Vec<PathBuf>,
    /// A database of our own jobs' measurements, alone or beside tables; no aggregator may have it open.
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    #[command(flatten)]
    beside: Beside,
}

impl Learnable {
    /// The tables that were named, and the database's measurements as such with the jobs that made them.
    pub(crate) fn read(&self) -> anyhow::Result<(OwnTables, BTreeSet<JobId>)> {
        let (mut tables, jobs) = self.db.as_deref().map(own).transpose()?.unwrap_or_default();
        if !self.input.is_empty() {
            tables.rows.extend(self.beside.rows(&self.input)?);
        }
        // What a file says of a device or a model counts more than what is worked out from jobs.
        tables.devices.extend(self.beside.devices()?);
        tables.operators.extend(self.beside.operators()?);
        Ok((tables, jobs))
    }
}

fn own(path: &Path) -> anyhow::Result<(OwnTables, BTreeSet<JobId>)> {
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
    Ok((tables, measurements.iter().map(|measurement| measurement.job_id).collect()))
}
