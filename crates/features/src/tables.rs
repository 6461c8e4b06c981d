//! Tables that people bring: CSV (also gzipped) and Parquet, read as they are and checked cell by cell.

use std::path::Path;

use polars::prelude::{
    Column, CsvReadOptions, DataFrame, DataType, Float64Chunked, ParquetReader, SerReader, StringChunked,
};

use crate::FeatureError;

/// The first line of a CSV file's rows: the header is line 1.
const FIRST_LINE: usize = 2;

/// A row that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// Line of a CSV file, counted from 1 with the header; for Parquet the row's number plus 1.
    pub line: usize,
    /// What is wrong, with the column's name.
    pub reason: String,
}

/// A table in memory: texts and numbers by column.
#[derive(Debug)]
pub(crate) struct Table {
    frame: DataFrame,
}

impl Table {
    /// Reads `path` and refuses columns that are not among `known`.
    ///
    /// # Errors
    ///
    /// As [`Self::open`] and [`Self::refuse_unknown`].
    pub(crate) fn read(path: &Path, known: &[&str]) -> Result<Self, FeatureError> {
        let table = Self::open(path)?;
        table.refuse_unknown(path, known)?;
        Ok(table)
    }

    /// Reads `path`: Parquet where its name ends so, else CSV, gzipped or not.
    ///
    /// # Errors
    ///
    /// [`FeatureError::File`] or [`FeatureError::Table`].
    pub(crate) fn open(path: &Path) -> Result<Self, FeatureError> {
        let unreadable = |source| FeatureError::Table { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(|source| FeatureError::File {
            action: "open table",
            path: path.to_owned(),
            source,
        })?;
        let frame = if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet")) {
            ParquetReader::new(file).finish()
        } else {
            // Every cell is text at first, so that a wrong one can be named.
            CsvReadOptions::default()
                .with_infer_schema_length(Some(0))
                .with_n_threads(Some(1))
                .try_into_reader_with_file_path(Some(path.to_owned()))
                .and_then(SerReader::finish)
        }
        .map_err(unreadable)?;
        Ok(Self { frame })
    }

    /// Refuses a column that is not among `known`.
    ///
    /// # Errors
    ///
    /// [`FeatureError::UnknownColumn`] names the first.
    pub(crate) fn refuse_unknown(&self, path: &Path, known: &[&str]) -> Result<(), FeatureError> {
        let unknown = self.frame.get_column_names().into_iter().find(|name| !known.contains(&name.as_str()));
        match unknown {
            Some(column) => Err(FeatureError::UnknownColumn {
                path: path.to_owned(),
                column: column.to_string(),
                known: known.join(", "),
            }),
            None => Ok(()),
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.frame.height()
    }

    /// Names the line of a row.
    pub(crate) const fn line(row: usize) -> usize {
        row + FIRST_LINE
    }

    /// The texts of a column, `None` where a cell or the whole column is empty.
    pub(crate) fn texts(&self, path: &Path, name: &str) -> Result<Vec<Option<String>>, FeatureError> {
        let Some(column) = self.column(name) else { return Ok(vec![None; self.rows()]) };
        let column = cast(path, column, &DataType::String)?;
        let texts: &StringChunked = column.str().expect("cast to text");
        Ok(texts.iter().map(|text| text.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)).collect())
    }

    /// The numbers of a column; `Err` holds a text that is no finite number.
    pub(crate) fn numbers(&self, path: &Path, name: &str) -> Result<Vec<Result<Option<f64>, String>>, FeatureError> {
        let Some(column) = self.column(name) else { return Ok(vec![Ok(None); self.rows()]) };
        let texts = self.texts(path, name)?;
        let column = cast(path, column, &DataType::Float64)?;
        let numbers: &Float64Chunked = column.f64().expect("cast to numbers");
        let cell = |(text, number): (Option<String>, Option<f64>)| match (text, number) {
            (None, _) => Ok(None),
            (Some(_), Some(number)) if number.is_finite() => Ok(Some(number)),
            (Some(text), _) => Err(text),
        };
        Ok(texts.into_iter().zip(numbers.iter()).map(cell).collect())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.column(name).is_some()
    }

    fn column(&self, name: &str) -> Option<&Column> {
        self.frame.column(name).ok()
    }
}

fn cast(path: &Path, column: &Column, to: &DataType) -> Result<Column, FeatureError> {
    column.cast(to).map_err(|source| FeatureError::Table { path: path.to_owned(), source })
}
