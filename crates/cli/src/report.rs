//! Reports of one run: the same rows for a reader (HTML, Markdown) and for a program (JSON, CSV, `JUnit`).
//!
//! A report is made from what the aggregator answers and nothing else, so it can be made again at any time.

mod accuracy;
mod charts;
mod csv;
mod figures;
#[cfg(test)]
mod fixture;
mod html;
mod json;
mod junit;
mod markdown;
mod scale;
mod sections;

use store::{ResultRow, RunSummary};

/// What a report is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ReportFormat {
    /// One self-contained page with tables and charts.
    Html,
    /// The run and its results as the API gives them.
    Json,
    /// A summary and tables in Markdown.
    Md,
    /// A measurement table of the benchmarks that passed.
    Csv,
    /// `JUnit` XML, which build servers read.
    Junit,
}

/// Writes the report of `run`, whose ended jobs are `results`, as text that ends with a newline.
///
/// # Errors
///
/// Only if a serialiser fails, which none does on rows that hold finite numbers.
pub(crate) fn render(format: ReportFormat, run: &RunSummary, results: &[ResultRow]) -> anyhow::Result<String> {
    match format {
        ReportFormat::Html => Ok(html::render(run, results)?),
        ReportFormat::Json => json::render(run, results),
        ReportFormat::Md => Ok(markdown::render(run, results)?),
        ReportFormat::Csv => Ok(csv::render(results)),
        ReportFormat::Junit => junit::render(run, results),
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_format_renders_a_run_with_results_and_one_without() {
        for format in ReportFormat::value_variants() {
            for results in [fixture::results(), Vec::new()] {
                let text = render(*format, &fixture::run(), &results).expect("report");
                assert!(text.ends_with('\n'), "{format:?} ends with {:?}", text.chars().next_back());
            }
        }
    }
}
