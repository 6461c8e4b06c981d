//! A published measurement table, read from where it lies.
//!
//! `AUGUR_SHARED_DATA` names the folder (default: `../shared/data` beside the work tree). Without the variable and
//! without the folder a test says so and checks nothing, since the data are no part of the project.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use features::{DeviceTable, MeasuredRow, MeasuredTable, OperatorTable, read_devices, read_operators};

pub(crate) struct Tables {
    pub(crate) rows: Vec<MeasuredRow>,
    pub(crate) devices: DeviceTable,
    pub(crate) operators: OperatorTable,
}

/// The rows of every so many models of the alphabet.
pub(crate) fn every(step: usize) -> Option<Tables> {
    let folder = match std::env::var_os("AUGUR_SHARED_DATA") {
        Some(folder) => PathBuf::from(folder).join("timm"),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/timm"),
    };
    if !folder.is_dir() {
        assert!(std::env::var_os("AUGUR_SHARED_DATA").is_none(), "no folder {}", folder.display());
        eprintln!("nothing checked: ../shared/data is not there and AUGUR_SHARED_DATA is not set");
        return None;
    }
    let table = MeasuredTable::read(&folder.join("measurements.csv.gz")).expect("a table");
    assert!(table.bad.is_empty(), "{:?}", table.bad);
    let mut models: Vec<String> = table.rows.iter().map(|row| row.model.clone()).collect();
    models.sort_unstable();
    models.dedup();
    let kept: HashSet<String> = models.into_iter().step_by(step).collect();
    Some(Tables {
        rows: table.rows.into_iter().filter(|row| kept.contains(&row.model)).collect(),
        devices: read_devices(&folder.join("devices.csv")).expect("a table"),
        operators: read_operators(&folder.join("operators.jsonl.gz")).expect("a table"),
    })
}
