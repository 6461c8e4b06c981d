//! Results on stdout, each a line as it is read: of a table, or of JSON.

use std::{
    fmt::Display,
    io::{self, BufWriter, ErrorKind, StdoutLock, Write},
};

use messages::{JobId, JobResult, Outcome, RunId, Timestamp, WorkerId};
use serde::{Serialize, Serializer};

use crate::output::{self, Format};

/// Bytes of lines that are written at once; a write for each line would cost more than reading it did.
const BUFFER_BYTES: usize = 256 * 1024;

/// Headings of the table.
const HEADINGS: [&str; 7] = ["offset", "finished", "p50 ms", "items/s", "memory MB", "case", "status"];
/// Characters of its columns. They are fixed because a row is written before the next one is known; a longer text
/// moves what follows in its line, which is why those that may be long come last.
const WIDTHS: [usize; 7] = [10, 24, 10, 10, 10, 48, 0];

/// One result as a line.
#[derive(Serialize)]
struct Line<'a> {
    offset: u64,
    #[serde(serialize_with = "as_text")]
    job_id: JobId,
    #[serde(serialize_with = "as_text")]
    run_id: RunId,
    suite: &'a str,
    case: &'a str,
    status: &'static str,
    attempt: u32,
    /// The browser that ran it, or the only one that might have.
    #[serde(skip_serializing_if = "Option::is_none")]
    browser: Option<String>,
    #[serde(serialize_with = "as_text")]
    worker_id: &'a WorkerId,
    #[serde(serialize_with = "as_text")]
    started_at: Timestamp,
    #[serde(serialize_with = "as_text")]
    finished_at: Timestamp,
    latency_p50_ms: Option<f64>,
    throughput_items_per_second: Option<f64>,
    memory_peak_mb: Option<f64>,
    failure: Option<String>,
}

fn as_text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

impl<'a> Line<'a> {
    fn new(offset: u64, result: &'a JobResult) -> Self {
        let benchmark = result.outcome.benchmark();
        Self {
            offset,
            job_id: result.job.job_id,
            run_id: result.job.run.run_id,
            suite: &result.job.run.suite,
            case: &result.job.case,
            status: result.status().as_str(),
            attempt: result.attempt,
            browser: result.configuration().and_then(|configuration| configuration.browser.clone()),
            worker_id: &result.worker_id,
            started_at: result.started_at,
            finished_at: result.finished_at,
            latency_p50_ms: benchmark.map(|benchmark| benchmark.latency_ms.p50),
            throughput_items_per_second: benchmark.map(|benchmark| benchmark.throughput_items_per_second),
            memory_peak_mb: benchmark.and_then(|benchmark| benchmark.memory_peak_mb),
            failure: match &result.outcome {
                Outcome::Failed(failure) => Some(format!("{}: {}", failure.kind, failure.message)),
                _ => None,
            },
        }
    }

    fn row(self) -> [String; 7] {
        [
            self.offset.to_string(),
            self.finished_at.to_string(),
            output::number(self.latency_p50_ms),
            output::number(self.throughput_items_per_second),
            output::number(self.memory_peak_mb),
            self.case.to_owned(),
            self.failure.unwrap_or_else(|| self.status.to_owned()),
        ]
    }
}

/// Where results go. None is kept, so that a long stream takes no more memory than a short one.
pub(super) struct Lines {
    out: BufWriter<StdoutLock<'static>>,
    format: Format,
    /// Whether someone waits for each line.
    is_live: bool,
    /// Whether the table has its headings.
    is_headed: bool,
}

impl Lines {
    pub(super) fn new(format: Format, is_live: bool) -> Self {
        let out = BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock());
        Self { out, format, is_live, is_headed: false }
    }

    /// Takes one result.
    ///
    /// # Errors
    ///
    /// If stdout cannot be written to; a broken pipe means that the reader has seen enough.
    pub(super) fn take(&mut self, offset: u64, result: &JobResult) -> io::Result<()> {
        let line = Line::new(offset, result);
        match self.format {
            Format::Table => {
                self.head()?;
                writeln!(self.out, "{}", padded(line.row()))?;
            }
            Format::Json => {
                serde_json::to_writer(&mut self.out, &line)?;
                self.out.write_all(b"\n")?;
            }
        }
        if self.is_live { self.out.flush() } else { Ok(()) }
    }

    /// Writes what is not written yet; a table without rows has its headings.
    pub(super) fn finish(mut self) -> io::Result<()> {
        if self.format == Format::Table {
            self.head()?;
        }
        self.out.flush()
    }

    /// Writes the headings, once.
    fn head(&mut self) -> io::Result<()> {
        if self.is_headed {
            return Ok(());
        }
        self.is_headed = true;
        writeln!(self.out, "{}", padded(HEADINGS))
    }
}

/// A line of the table. What would break it, as the line feeds of an error do, is a blank.
fn padded<T: AsRef<str>>(cells: [T; 7]) -> String {
    let cells = cells.into_iter().zip(WIDTHS);
    let cells = cells.map(|(cell, width)| format!("{:<width$}", cell.as_ref().replace(char::is_control, " ")));
    cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

/// A reader that has gone away is no error.
pub(super) fn unless_gone(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_below_their_headings_and_are_one_line_each() {
        let row = padded(["7", "2026-11-22T08:00:00.000Z", "1.250", "800.0", "–", "nothing", "crashed: one\ntwo"]);
        let place = |line: &str, word: &str| line.find(word).map(|at| line[..at].chars().count());
        let headings = padded(HEADINGS);
        for (heading, cell) in [("offset", "7"), ("finished", "2026"), ("memory", "–"), ("case", "nothing")] {
            assert_eq!(place(&headings, heading), place(&row, cell), "{headings}\n{row}");
        }
        assert!(row.ends_with("  crashed: one two"), "{row}");
    }
}
