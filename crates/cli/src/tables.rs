//! Measurement tables as commands are given them: files, read and checked.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use features::{BadRow, DeviceTable, MeasuredRow, MeasuredTable, OperatorTable, read_devices, read_operators};

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
