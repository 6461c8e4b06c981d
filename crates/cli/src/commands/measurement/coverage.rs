//! `augur measurement coverage`: what is measured and what is not.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use features::MeasuredTable;
use serde::Serialize;
use store::{CoverageCell, ImportedTable, Store, StoreError};

use super::existing;
use crate::{
    context::Context,
    exit::Exit,
    output::{self, Format},
    plots::{Cell, Heatmap, Plot, Shading},
    tables::name_bad_rows,
};

/// More models than this are shown by family, unless asked otherwise.
const MODELS_MAX: usize = 60;

#[derive(Debug, Args)]
pub(crate) struct CoverageArguments {
    /// The database. Not given: `augur.duckdb` in the state directory, or the aggregator that holds it.
    #[arg(long, value_name = "DB", conflicts_with = "input")]
    db: Option<PathBuf>,
    /// Measurement tables, instead of a database.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    input: Vec<PathBuf>,
    /// What a row is. Not given: a model, or a family where there are more than 60 models.
    #[arg(long, value_enum)]
    by: Option<By>,
    /// Also shows models of the zoo and imported devices of which nothing was measured.
    #[arg(long)]
    all: bool,
    /// Draws a heatmap, as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum By {
    Model,
    Family,
}

/// Device and precision: what a column is.
type Column = (String, Option<String>);

/// Counts by row and column.
#[derive(Debug, Default, PartialEq, Eq)]
struct Coverage {
    columns: BTreeSet<Column>,
    rows: BTreeMap<String, BTreeMap<Column, Count>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    models: u32,
    configurations: u32,
    measurements: u32,
}

/// One cell as JSON; a cell of which nothing was measured has zeros.
#[derive(Serialize)]
struct CellRow<'a> {
    by: By,
    name: &'a str,
    device: &'a str,
    precision: Option<&'a str>,
    models: u32,
    configurations: u32,
    measurements: u32,
}

pub(super) async fn run(arguments: &CoverageArguments, context: &Context) -> anyhow::Result<Exit> {
    let cells = cells(arguments, context).await?;
    let models: BTreeSet<&str> = cells.iter().map(|cell| cell.model.as_str()).collect();
    let by = arguments.by.unwrap_or(if models.len() > MODELS_MAX { By::Family } else { By::Model });
    let mut coverage = Coverage::new(&cells, by);
    if arguments.all {
        coverage.add_unmeasured(by, context)?;
    }
    if let Some(path) = &arguments.plot {
        coverage.heatmap(by).write(path)?;
    }
    output::answer(arguments.format, &coverage.cells(by), |_| coverage.table(by))?;
    eprintln!("{}", coverage.summary());
    Ok(Exit::Done)
}

async fn cells(arguments: &CoverageArguments, context: &Context) -> anyhow::Result<Vec<CoverageCell>> {
    if !arguments.input.is_empty() {
        return tokio::task::block_in_place(|| of_tables(&arguments.input));
    }
    let db = context.database(arguments.db.clone())?;
    let opened = tokio::task::block_in_place(|| existing(&db).and_then(|store| Ok(store.coverage()?)));
    match opened {
        Err(error) if arguments.db.is_none() && matches!(error.downcast_ref(), Some(StoreError::Locked { .. })) => {
            // Its aggregator answers instead.
            Ok(context.api()?.get("/api/coverage").await?)
        }
        opened => opened,
    }
}

fn of_tables(paths: &[PathBuf]) -> anyhow::Result<Vec<CoverageCell>> {
    let store = Store::in_memory()?;
    for path in paths {
        let table = MeasuredTable::read_published(path)?;
        name_bad_rows(path, &table.bad);
        store
            .import(&[ImportedTable { source: &path.display().to_string(), rows: &table.rows }])
            .with_context(|| format!("failed to count the rows of {}", path.display()))?;
    }
    Ok(store.coverage()?)
}

impl Coverage {
    fn new(cells: &[CoverageCell], by: By) -> Self {
        let mut coverage = Self::default();
        for cell in cells {
            let column = (cell.device.clone(), cell.precision.clone());
            let row = match by {
                By::Model => cell.model.clone(),
                By::Family => family(&cell.model, cell.family.as_deref()),
            };
            coverage.columns.insert(column.clone());
            let count = coverage.rows.entry(row).or_default().entry(column).or_default();
            count.models += 1;
            count.configurations += cell.configurations;
            count.measurements += cell.measurements;
        }
        coverage
    }

    /// Adds what is known and was never measured.
    fn add_unmeasured(&mut self, by: By, context: &Context) -> anyhow::Result<()> {
        for entry in graphs::zoo() {
            let row = if by == By::Model { entry.name } else { entry.family };
            self.rows.entry(row.to_owned()).or_default();
        }
        for device in context.published_devices()?.into_keys() {
            if !self.columns.iter().any(|(name, _)| *name == device) {
                self.columns.insert((device, None));
            }
        }
        Ok(())
    }

    fn count(&self, row: &str, column: &Column) -> Count {
        self.rows.get(row).and_then(|row| row.get(column)).copied().unwrap_or_default()
    }

    fn cells(&self, by: By) -> Vec<CellRow<'_>> {
        let cell = |name, column| {
            let (device, precision): &Column = column;
            let Count { models, configurations, measurements } = self.count(name, column);
            CellRow { by, name, device, precision: precision.as_deref(), models, configurations, measurements }
        };
        self.rows.keys().flat_map(|name| self.columns.iter().map(move |column| cell(name, column))).collect()
    }

    fn summary(&self) -> String {
        let counts = || self.rows.values().flat_map(BTreeMap::values);
        format!(
            "{} of {} cells have measurements: {} configurations, {} measurements",
            counts().filter(|count| count.measurements > 0).count(),
            self.rows.len() * self.columns.len(),
            counts().map(|count| count.configurations).sum::<u32>(),
            counts().map(|count| count.measurements).sum::<u32>(),
        )
    }

    fn table(&self, by: By) -> comfy_table::Table {
        let name = if by == By::Model { "model" } else { "family" };
        let mut table = output::table([name]);
        table.set_header([name.to_owned()].into_iter().chain(self.columns.iter().map(label)));
        for row in self.rows.keys() {
            let cells = self.columns.iter().map(|column| match self.count(row, column).configurations {
                0 => "–".to_owned(),
                configurations => configurations.to_string(),
            });
            table.add_row([row.clone()].into_iter().chain(cells));
        }
        table
    }

    fn heatmap(&self, by: By) -> Heatmap {
        let cell = |row: &String, column| match self.count(row, column).configurations {
            0 => Cell::Empty,
            configurations => Cell::Number(f64::from(configurations)),
        };
        Heatmap {
            title: format!("What is measured, by {}", if by == By::Model { "model" } else { "family" }),
            unit: "configurations measured".to_owned(),
            empty: "nothing measured".to_owned(),
            shading: Shading::Automatic,
            columns: self.columns.iter().map(label).collect(),
            rows: self
                .rows
                .keys()
                .map(|row| (row.clone(), self.columns.iter().map(|column| cell(row, column)).collect()))
                .collect(),
        }
    }
}

fn family(model: &str, family: Option<&str>) -> String {
    let of_zoo = || graphs::zoo_entry(model).map(|entry| entry.family);
    family.or_else(of_zoo).unwrap_or(model).to_owned()
}

fn label((device, precision): &Column) -> String {
    match precision {
        Some(precision) => format!("{device}, {precision}"),
        None => device.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(model: &str, device: &str, precision: &str, measurements: u32) -> CoverageCell {
        CoverageCell {
            model: model.to_owned(),
            family: Some(model[..1].to_owned()),
            device: device.to_owned(),
            platform: None,
            precision: Some(precision.to_owned()),
            configurations: measurements.div_ceil(2),
            measurements,
        }
    }

    #[test]
    fn cells_without_measurements_are_counted_as_missing() {
        let cells = [cell("a1", "X", "fp32", 4), cell("a2", "X", "fp32", 1), cell("b1", "Y", "fp16", 3)];
        let coverage = Coverage::new(&cells, By::Model);
        assert_eq!(coverage.summary(), "3 of 6 cells have measurements: 5 configurations, 8 measurements");
        let coverage = Coverage::new(&cells, By::Family);
        assert_eq!(coverage.summary(), "2 of 4 cells have measurements: 5 configurations, 8 measurements");
        let counts: Vec<_> = coverage.cells(By::Family).iter().map(|cell| (cell.name, cell.models)).collect();
        assert_eq!(counts, [("a", 2), ("a", 0), ("b", 0), ("b", 1)]);
        assert_eq!(coverage.heatmap(By::Family).rows[0].1, [Cell::Number(3.0), Cell::Empty]);
    }
}
