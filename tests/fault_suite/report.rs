//! The table that people read, and what was lost.

use std::time::Duration;

use comfy_table::{Table as Cells, presets};

use crate::{
    limits::NAMED_MAX,
    row::{Finished, Outcome, Row},
    rows,
    verdict::Verdict,
};

/// The rows so far.
#[derive(Debug, Default)]
pub(crate) struct Table {
    finished: Vec<Finished>,
}

impl Table {
    /// Adds a row and says at once what is wrong with it.
    pub(crate) fn add(&mut self, finished: Finished) {
        let (name, logs) = (finished.row.name, finished.logs.display());
        match &finished.outcome {
            Err(error) => println!("FAILED {name}: {error:#}\n  logs: {logs}"),
            Ok(outcome) if !outcome.verdict.is_clean() => {
                println!("FAILED {name}; logs: {logs}");
                print_crimes(&outcome.verdict);
            }
            Ok(_) => eprintln!("{name}: clean after {}", seconds(finished.wall)),
        }
        self.finished.push(finished);
    }

    /// Whether every row ran to its end and all gates are zero.
    pub(crate) fn is_clean(&self) -> bool {
        self.finished.iter().all(|row| row.outcome.as_ref().is_ok_and(|outcome| outcome.verdict.is_clean()))
    }

    pub(crate) fn print(&self) {
        let mut table = plain();
        table.set_header([
            "row",
            "submitted",
            "confirmed",
            "faults",
            "lost",
            "counted twice",
            "unexpected",
            "redeliveries",
            "recovery p50",
            "recovery max",
            "wall time",
        ]);
        let mut finished: Vec<_> = self.finished.iter().collect();
        finished.sort_by_key(|finished| rows::ALL.iter().position(|row| row.name == finished.row.name));
        for row in finished {
            let mut cells = vec![row.row.name.to_owned()];
            match &row.outcome {
                Ok(outcome) => cells.extend(figures(outcome)),
                Err(_) => cells.extend(std::iter::once("did not finish".to_owned()).chain(vec![String::new(); 8])),
            }
            cells.push(seconds(row.wall));
            table.add_row(cells);
        }
        println!("{table}");
        let verdict = if self.is_clean() { "nothing lost, nothing counted twice" } else { "FAILED" };
        println!("{verdict}");
    }
}

/// Names what was lost, counted twice or unexpected, the first of each.
pub(crate) fn print_crimes(verdict: &Verdict) {
    let gates =
        [("lost", &verdict.lost), ("counted twice", &verdict.counted_twice), ("unexpected", &verdict.unexpected)];
    for (gate, ids) in gates {
        for id in ids.iter().take(NAMED_MAX) {
            println!("  {gate}: {id}");
        }
        if ids.len() > NAMED_MAX {
            println!("  {gate}: and {} more", ids.len() - NAMED_MAX);
        }
    }
}

/// Shows what there is, with the sizes.
pub(crate) fn print_rows(rows: &[Row]) {
    let mut table = plain();
    table.set_header(["row", "fault", "jobs", "faults", "quick jobs", "quick faults"]);
    for row in rows {
        let sizes = [row.full.jobs, row.full.faults, row.quick.jobs, row.quick.faults].map(|size| size.to_string());
        table.add_row([row.name.to_owned(), row.fault.to_owned()].into_iter().chain(sizes));
    }
    println!("{table}");
}

fn figures(outcome: &Outcome) -> [String; 9] {
    let verdict = &outcome.verdict;
    let mut recoveries = outcome.recoveries.clone();
    recoveries.sort();
    let of = |recovery: Option<&Duration>| recovery.map_or_else(|| "–".to_owned(), |time| seconds(*time));
    [
        verdict.submitted.to_string(),
        verdict.confirmed.to_string(),
        outcome.faults.to_string(),
        verdict.lost.len().to_string(),
        verdict.counted_twice.len().to_string(),
        verdict.unexpected.len().to_string(),
        verdict.redeliveries.to_string(),
        of(recoveries.get(recoveries.len() / 2)),
        of(recoveries.last()),
    ]
}

pub(crate) fn plain() -> Cells {
    let mut table = Cells::new();
    table.load_preset(presets::NOTHING);
    table
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}
