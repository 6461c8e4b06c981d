//! The run and its results as the API gives them, in one document.

use anyhow::Context;
use serde::Serialize;
use store::{AttemptRow, ResultRow, RunSummary};

#[derive(Serialize)]
struct Document<'a> {
    run: &'a RunSummary,
    results: &'a [ResultRow],
    dead_letters: &'a [AttemptRow],
}

pub(super) fn render(run: &RunSummary, results: &[ResultRow], dead_letters: &[AttemptRow]) -> anyhow::Result<String> {
    let document = Document { run, results, dead_letters };
    let mut text = serde_json::to_string_pretty(&document).context("failed to write a run as JSON")?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn reads_back_as_the_same_rows() {
        let text = render(&fixture::run(), &fixture::results(), &fixture::dead()).expect("report");
        let mut document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let run: RunSummary = serde_json::from_value(document["run"].take()).expect("a run");
        let results: Vec<ResultRow> = serde_json::from_value(document["results"].take()).expect("results");
        let dead: Vec<AttemptRow> = serde_json::from_value(document["dead_letters"].take()).expect("dead letters");
        assert_eq!((run, results, dead), (fixture::run(), fixture::results(), fixture::dead()));
    }
}
