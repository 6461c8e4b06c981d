//! The run and its results as the API gives them, in one document.

use anyhow::Context;
use serde::Serialize;
use store::{ResultRow, RunSummary};

#[derive(Serialize)]
struct Document<'a> {
    run: &'a RunSummary,
    results: &'a [ResultRow],
}

pub(super) fn render(run: &RunSummary, results: &[ResultRow]) -> anyhow::Result<String> {
    let mut text = serde_json::to_string_pretty(&Document { run, results }).context("failed to write a run as JSON")?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn reads_back_as_the_same_rows() {
        let text = render(&fixture::run(), &fixture::results()).expect("report");
        let mut document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let run: RunSummary = serde_json::from_value(document["run"].take()).expect("a run");
        let results: Vec<ResultRow> = serde_json::from_value(document["results"].take()).expect("results");
        assert_eq!((run, results), (fixture::run(), fixture::results()));
    }
}
