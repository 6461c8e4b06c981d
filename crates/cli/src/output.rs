//! Answers on stdout: tables for people, JSON for scripts.

use std::io::Write;

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, TableComponent, presets};
use serde::Serialize;

/// How to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub(crate) enum Format {
    /// A table, for people; its form may change.
    #[default]
    Table,
    /// JSON, for scripts; its form is stable.
    Json,
}

/// Prints a table or, for scripts, the rows behind it.
pub(crate) fn answer<T: Serialize + ?Sized>(
    format: Format,
    rows: &T,
    table: impl FnOnce(&T) -> Table,
) -> anyhow::Result<()> {
    match format {
        Format::Json => print(&serde_json::to_string_pretty(rows)?),
        Format::Table => print(&table(rows).to_string()),
    }
}

/// Prints a text and a line feed; a reader that has gone away is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Into::into),
    }
}

/// A table with our looks.
pub(crate) fn table<T: ToString, const N: usize>(headings: [T; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_style(TableComponent::HeaderLines, '─').set_style(TableComponent::MiddleHeaderIntersections, '─');
    table.set_header(headings);
    table
}

/// A number with about four significant digits, or a dash.
pub(crate) fn number(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value.abs() >= 1000.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 100.0 => format!("{value:.1}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.2}"),
        Some(value) => format!("{value:.3}"),
    }
}

/// Text or a dash.
pub(crate) fn text<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_about_four_digits() {
        let shown = [Some(12345.6), Some(123.456), Some(12.3456), Some(0.12345), None].map(number);
        assert_eq!(shown, ["12346", "123.5", "12.35", "0.123", "–"]);
    }
}
