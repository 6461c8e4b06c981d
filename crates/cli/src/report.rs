//! Reports of one run: the same rows for a reader (HTML, Markdown) and for a program (JSON, CSV, `JUnit`).
//!
//! A report is made from what the aggregator answers and nothing else, so it can be made again at any time.

mod accuracy;
mod charts;
mod csv;
mod figures;
#[cfg(test)]
pub(crate) mod fixture;
mod html;
mod json;
mod junit;
mod markdown;
mod scale;
mod sections;

pub(crate) use figures::platform;
use store::{AttemptRow, ResultRow, RunSummary};

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

/// Writes the report of `run`, whose ended jobs are `results` and whose dead jobs had these last attempts, as text
/// that ends with a newline.
///
/// # Errors
///
/// Only if a serialiser fails, which none does on rows that hold finite numbers.
pub(crate) fn render(
    format: ReportFormat,
    run: &RunSummary,
    results: &[ResultRow],
    dead: &[AttemptRow],
) -> anyhow::Result<String> {
    match format {
        ReportFormat::Html => Ok(html::render(run, results, dead)?),
        ReportFormat::Json => json::render(run, results, dead),
        ReportFormat::Md => Ok(markdown::render(run, results, dead)?),
        ReportFormat::Csv => Ok(csv::render(results)),
        ReportFormat::Junit => junit::render(run, results, dead),
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
                let text = render(*format, &fixture::run(), &results, &fixture::dead()).expect("report");
                assert!(text.ends_with('\n'), "{format:?} ends with {:?}", text.chars().next_back());
            }
        }
    }
}
