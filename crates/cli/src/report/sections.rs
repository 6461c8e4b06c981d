//! A run's results in the groups and the order in which people look for them.

use store::ResultRow;

/// The results of one run.
pub(super) struct Sections<'a> {
    /// Benchmarks that passed, by model, series and batch size.
    pub(super) measured: Vec<&'a ResultRow>,
    /// Tests that ran to an end, in the order of their cases.
    pub(super) tests: Vec<&'a ResultRow>,
    /// What failed or broke, in the order of its cases.
    pub(super) failures: Vec<&'a ResultRow>,
    /// What was cancelled.
    pub(super) cancelled: Vec<&'a ResultRow>,
}

impl<'a> Sections<'a> {
    pub(super) fn new(results: &'a [ResultRow]) -> Self {
        let pick = |keep: fn(&ResultRow) -> bool| {
            let mut rows: Vec<&ResultRow> = results.iter().filter(|row| keep(row)).collect();
            rows.sort_by(|a, b| (&a.case, &a.job_id).cmp(&(&b.case, &b.job_id)));
            rows
        };
        let mut measured = pick(is_measured);
        measured.sort_by_key(|row| {
            let shape = (row.sequence_length, row.image_size);
            (&row.model, &row.platform, &row.browser, &row.device, &row.precision, shape, row.threads, row.batch_size)
        });
        Self {
            measured,
            tests: pick(|row| row.kind == "test" && matches!(row.status.as_str(), "passed" | "failed")),
            failures: pick(|row| !matches!(row.status.as_str(), "passed" | "cancelled")),
            cancelled: pick(|row| row.status == "cancelled"),
        }
    }
}

/// Whether a result carries measurements.
pub(super) fn is_measured(row: &ResultRow) -> bool {
    matches!(row.kind.as_str(), "benchmark" | "web") && row.status == "passed"
}

/// Distinct texts in their order of first appearance.
pub(super) fn distinct<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for text in texts {
        if !seen.contains(&text) {
            seen.push(text);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn every_result_is_in_one_place_but_a_failed_test_is_in_two() {
        let results = fixture::results();
        let sections = Sections::new(&results);
        let cases = |rows: &[&ResultRow]| rows.iter().map(|row| row.case.clone()).collect::<Vec<_>>();
        assert_eq!(cases(&sections.measured), ["bert-b1", "bert-b4", "resnet-b1"]);
        assert_eq!(cases(&sections.tests), ["checks", "unit"]);
        assert_eq!(cases(&sections.failures), ["broken-model", "unit"]);
        assert_eq!(cases(&sections.cancelled), ["late"]);
    }

    #[test]
    fn distinct_keeps_the_order_of_first_appearance() {
        assert_eq!(distinct(["b", "a", "b"]), ["b", "a"]);
    }
}
