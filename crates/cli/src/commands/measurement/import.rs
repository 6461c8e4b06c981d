//! `augur measurement import`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use features::{BadRow, MeasuredRow, MeasuredTable};
use serde::Serialize;
use store::{ImportSummary, ImportedTable, Store};

use crate::{
    context::Context,
    exit::Exit,
    output::{self, Format},
    tables::name_bad_rows,
};

#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    /// Tables, benchmark databases, result files of timm.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Imports nothing if any file has a bad row, instead of leaving that row out.
    #[arg(long)]
    strict: bool,
    /// The database, which no other process may have open; made if it is not there. Not given: `augur.duckdb` in the
    /// state directory.
    #[arg(long, value_name = "DB")]
    db: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What became of one file.
#[derive(Serialize)]
struct ImportedFile {
    file: String,
    new: usize,
    known: usize,
    repeats: usize,
    bad: Vec<BadLine>,
}

#[derive(Serialize)]
struct BadLine {
    line: usize,
    reason: String,
}

pub(super) fn run(arguments: &ImportArguments, context: &Context) -> anyhow::Result<Exit> {
    let tables = arguments.files.iter().map(|path| read(path)).collect::<anyhow::Result<Vec<_>>>()?;
    for (path, table) in arguments.files.iter().zip(&tables) {
        name_bad_rows(path, &table.bad);
    }
    let bad: usize = tables.iter().map(|table| table.bad.len()).sum();
    if arguments.strict && bad > 0 {
        bail!("nothing is imported: the files have {bad} bad rows; without --strict they are left out");
    }
    let db = context.database(arguments.db.clone())?;
    let store = Store::open(&db).with_context(|| format!("failed to open database {}", db.display()))?;
    let names: Vec<String> = arguments.files.iter().map(|path| source(path)).collect();
    let imported: Vec<_> =
        names.iter().zip(&tables).map(|(source, table)| ImportedTable { source, rows: &table.rows }).collect();
    let summaries = store.import(&imported)?;
    let rows: Vec<ImportedFile> = arguments
        .files
        .iter()
        .zip(tables)
        .zip(summaries)
        .map(|((path, table), ImportSummary { new, known, repeats })| ImportedFile {
            file: path.display().to_string(),
            new,
            known,
            repeats,
            bad: table.bad.into_iter().map(|BadRow { line, reason }| BadLine { line, reason }).collect(),
        })
        .collect();
    output::answer(arguments.format, &rows, |rows| table(rows))?;
    Ok(Exit::Done)
}

/// Reads a file by what it is.
fn read(path: &Path) -> anyhow::Result<MeasuredTable> {
    let is_database = path.extension().is_some_and(|extension| extension == "duckdb" || extension == "db");
    if !is_database {
        return Ok(MeasuredTable::read_published(path)?);
    }
    let read = store::read_database(path)
        .with_context(|| format!("failed to read the measurements of database {}", path.display()))?;
    let bad = |(result_id, flaw): (i64, String)| BadRow {
        line: usize::try_from(result_id).unwrap_or_default(),
        reason: format!("of the result with this id, {flaw}"),
    };
    Ok(MeasuredTable {
        rows: read.rows.into_iter().map(with_family).collect(),
        bad: read.bad.into_iter().map(bad).collect(),
    })
}

/// A database of ours names the models of the zoo, whose families are known here.
fn with_family(row: MeasuredRow) -> MeasuredRow {
    let family = row.family.clone().or_else(|| Some(graphs::zoo_entry(&row.model)?.family.to_owned()));
    MeasuredRow { family, ..row }
}

/// How the database names a file.
fn source(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn table(rows: &[ImportedFile]) -> comfy_table::Table {
    let mut table = output::table(["file", "new rows", "there already", "of the new: repeats", "bad rows left out"]);
    for row in rows {
        let counts = [row.new, row.known, row.repeats, row.bad.len()].map(|count| count.to_string());
        table.add_row([row.file.clone()].into_iter().chain(counts));
    }
    table
}
