//! Results on stdout: JSON lines as they are read, or a table in the end.

use std::{
    fmt::Display,
    io::{self, BufWriter, ErrorKind, StdoutLock, Write},
};

use comfy_table::Table;
use messages::{JobId, JobResult, Outcome, RunId, Timestamp, WorkerId};
use serde::{Serialize, Serializer};

use crate::output::{self, Format};

/// Bytes of JSON lines that are written at once; a write for each line would cost more than reading it did.
const BUFFER_BYTES: usize = 256 * 1024;

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
            self.case.to_owned(),
            self.failure.unwrap_or_else(|| self.status.to_owned()),
            output::number(self.latency_p50_ms),
            output::number(self.throughput_items_per_second),
            output::number(self.memory_peak_mb),
            self.finished_at.to_string(),
        ]
    }
}

/// Where results go.
pub(super) enum Lines {
    Json {
        out: BufWriter<StdoutLock<'static>>,
        /// Whether someone waits for each line.
        is_live: bool,
    },
    Table(Table),
}

impl Lines {
    pub(super) fn new(format: Format, is_live: bool) -> Self {
        match format {
            Format::Json => Self::Json { out: BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock()), is_live },
            Format::Table => {
                Self::Table(output::table(["offset", "case", "status", "p50 ms", "items/s", "memory MB", "finished"]))
            }
        }
    }

    /// Takes one result.
    ///
    /// # Errors
    ///
    /// If stdout cannot be written to; a broken pipe means that the reader has seen enough.
    pub(super) fn take(&mut self, offset: u64, result: &JobResult) -> io::Result<()> {
        let line = Line::new(offset, result);
        match self {
            Self::Table(table) => drop(table.add_row(line.row())),
            Self::Json { out, is_live } => {
                serde_json::to_writer(&mut *out, &line)?;
                out.write_all(b"\n")?;
                if *is_live {
                    out.flush()?;
                }
            }
        }
        Ok(())
    }

    /// Writes what is not written yet.
    pub(super) fn finish(self) -> io::Result<()> {
        match self {
            Self::Table(table) => writeln!(io::stdout(), "{table}"),
            Self::Json { mut out, .. } => out.flush(),
        }
    }
}

/// A reader that has gone away is no error.
pub(super) fn unless_gone(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
