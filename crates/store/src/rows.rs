//! What queries answer: plain rows, ready for JSON.
//!
//! Ids are UUIDs as text, moments are RFC 3339 in UTC, and what is unknown is null.

mod anomalies;
mod delivery;
mod judgement;
mod withheld;

use std::collections::BTreeMap;

use messages::{Backend, Configuration, ModelRef, Platform, Precision};
use serde::{Deserialize, Serialize};

pub use anomalies::{ConditionsRow, HeldBackRow, MachineStateRow};
pub use delivery::{AttemptCounts, AttemptRow, NeedRow, OpenClaim, RunningRow, StoredPosition, WorkerRow};
pub use judgement::{ComparableRow, JudgementRow, RegressionRow};
pub use withheld::{IncompatibleRow, WithheldRows};

use crate::StoreError;

/// One run and how far it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// The run.
    pub run_id: String,
    /// Name of the suite.
    pub suite: String,
    /// Who asked for it: `client` or `learner`.
    pub origin: String,
    /// When it was submitted.
    pub submitted_at: String,
    /// No job of it starts before.
    pub due_at: Option<String>,
    /// When its last job ended or died; null while jobs are out.
    pub completed_at: Option<String>,
    /// From submission to the end of the last job, in seconds; null while jobs are out.
    pub duration_s: Option<f64>,
    /// When somebody first asked to cancel all of it.
    pub cancelled_at: Option<String>,
    /// Jobs in it.
    pub jobs_total: u32,
    /// Jobs that have a result.
    pub done: u32,
    /// Of these: measured, or every test passed.
    pub passed: u32,
    /// Of these: tests failed.
    pub failed: u32,
    /// Of these: broken.
    pub error: u32,
    /// Of these: cancelled.
    pub cancelled: u32,
    /// Jobs that lie with the dead letters; a result or a replay takes them out of this count.
    pub dead: u32,
    /// Attempts that failed and were followed by another.
    pub retried: u32,
    /// Commit of the work tree that it was submitted from.
    pub git_commit: Option<String>,
    /// Branch of that work tree.
    pub git_branch: Option<String>,
    /// Configurations that became slower than in earlier runs; 0 until somebody looked.
    #[serde(default)]
    pub regressions: u32,
}

impl RunSummary {
    /// Whether every job has a result or is dead.
    pub fn is_complete(&self) -> bool {
        self.ended() >= self.jobs_total
    }

    /// Jobs that have a result or are dead.
    pub fn ended(&self) -> u32 {
        self.done.saturating_add(self.dead)
    }
}

/// A prediction that travelled with a job, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictedRow {
    /// The release that said it.
    pub release_id: String,
    /// The metric, with its unit.
    pub metric: String,
    /// The most likely value.
    pub value: Option<f64>,
    /// Lower end of the 90 % interval.
    pub lower: Option<f64>,
    /// Upper end of the 90 % interval.
    pub upper: Option<f64>,
    /// What was measured, if it was.
    pub measured: Option<f64>,
    /// 100 (predicted − measured) / measured.
    pub error_pct: Option<f64>,
    /// Whether the interval held the truth.
    pub inside: Option<bool>,
}

/// One ended job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResultRow {
    /// The job.
    pub job_id: String,
    /// Its run.
    pub run_id: String,
    /// Name of its case.
    pub case: String,
    /// `test`, `benchmark` or `web`.
    pub kind: String,
    /// `passed`, `failed`, `error` or `cancelled`.
    pub status: String,
    /// The kind of execution target.
    pub platform: String,
    /// The lane.
    pub priority: String,
    /// Which attempt ended it.
    pub attempt: u32,
    /// Who ran it.
    pub worker_id: String,
    /// Name of the device.
    pub device: Option<String>,
    /// When it was published.
    pub submitted_at: String,
    /// When the attempt began.
    pub started_at: String,
    /// When it ended.
    pub finished_at: String,
    /// From publishing to the start, in seconds; negative if clocks disagree.
    pub queue_wait_s: f64,
    /// From start to end, in seconds.
    pub duration_s: f64,
    /// The model of a benchmark.
    pub model: Option<String>,
    /// SHA-256 of its file.
    pub model_sha256: Option<String>,
    /// The runtime.
    pub backend: Option<String>,
    /// Number format.
    pub precision: Option<String>,
    /// Items per batch.
    pub batch_size: Option<u32>,
    /// Tokens per item.
    pub sequence_length: Option<u32>,
    /// Pixels per edge.
    pub image_size: Option<u32>,
    /// Threads of the session.
    pub threads: Option<u32>,
    /// The browser that ran it, or the only one that might have.
    pub browser: Option<String>,
    /// Mean time of a batch, in milliseconds.
    pub latency_mean_ms: Option<f64>,
    /// Median of it.
    pub latency_p50_ms: Option<f64>,
    /// 90th percentile of it.
    pub latency_p90_ms: Option<f64>,
    /// 99th percentile of it.
    pub latency_p99_ms: Option<f64>,
    /// Items per second.
    pub throughput_items_per_second: Option<f64>,
    /// Peak memory, in MB.
    pub memory_peak_mb: Option<f64>,
    /// Mean power, in watts.
    pub power_w: Option<f64>,
    /// Time to load, in milliseconds.
    pub load_ms: Option<f64>,
    /// Timed iterations.
    pub iterations: Option<u32>,
    /// Why they stopped.
    pub stop_reason: Option<String>,
    /// Version of the backend.
    pub backend_version: Option<String>,
    /// Whether predictors may learn from it.
    pub accepted: Option<bool>,
    /// Why not; still there where that was overruled.
    pub rejection: Option<String>,
    /// What the measurement counts for: `accepted`, `released`, `quarantined`, `throttled`, `disturbed`, `rejected`.
    pub standing: Option<String>,
    /// What the machine was doing meanwhile, if somebody looked.
    pub conditions: Option<ConditionsRow>,
    /// Exit code of a test's process.
    pub exit_code: Option<i32>,
    /// Cases of a test.
    pub tests_total: Option<u32>,
    /// Of these, failed or broken.
    pub tests_failed: Option<u32>,
    /// Kind of failure.
    pub failure_type: Option<String>,
    /// What happened.
    pub failure_message: Option<String>,
    /// What would help.
    pub suggestion: Option<String>,
    /// The end of what the process printed.
    pub output_tail: Option<String>,
    /// What the browser did, if one measured.
    pub web: Option<WebRow>,
    /// What was predicted before.
    pub predictions: Vec<PredictedRow>,
}

/// What a browser did to measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WebRow {
    /// The browser's version.
    pub browser_version: String,
    /// The GPU adapter that it used.
    pub adapter: Option<String>,
    /// Whether that computes on the processor.
    pub is_fallback: Option<bool>,
    /// What was there already: `cold-browser`, `warm-session`, `warm-page` or `warm-model`.
    pub warmth: String,
    /// Time to fetch the model, in milliseconds.
    pub fetch_ms: Option<f64>,
    /// Time to create its session.
    pub session_ms: Option<f64>,
    /// Time of the first run, in which shaders are compiled.
    pub first_run_ms: Option<f64>,
    /// Time of the attempt in the browser.
    pub total_ms: Option<f64>,
    /// Nodes of the model that each execution provider ran; empty if that was not looked at.
    pub nodes: BTreeMap<String, u32>,
    /// What had to be mended on the way.
    pub recoveries: Vec<String>,
}

/// One configuration on one device with the medians of its accepted measurements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeasuredRow {
    /// Name of the model.
    pub model: String,
    /// SHA-256 of its file.
    pub model_sha256: String,
    /// The kind of execution target.
    pub platform: String,
    /// The runtime.
    pub backend: String,
    /// Number format.
    pub precision: String,
    /// Items per batch.
    pub batch_size: u32,
    /// Tokens per item.
    pub sequence_length: Option<u32>,
    /// Pixels per edge.
    pub image_size: Option<u32>,
    /// Threads of the session.
    pub threads: u32,
    /// The browser, if it ran in one.
    pub browser: Option<String>,
    /// Name of the device.
    pub device: String,
    /// How often it was measured.
    pub measurements: u32,
    /// Median over measurements of the median time of a batch, in milliseconds.
    pub latency_ms: f64,
    /// Median of items per second.
    pub throughput_items_per_second: f64,
    /// Median of peak memory, in MB.
    pub memory_peak_mb: Option<f64>,
    /// Median of power, in watts.
    pub power_w: Option<f64>,
    /// Median time to load, in milliseconds; null if it never was, because browsers had it already.
    pub load_ms: Option<f64>,
    /// When it was last measured.
    pub last_measured_at: String,
}

impl MeasuredRow {
    /// The configuration.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unreadable`] if the row holds a word that Augur does not know.
    pub fn configuration(&self) -> Result<Configuration, StoreError> {
        Ok(Configuration {
            model: ModelRef { name: self.model.clone(), sha256: word("a SHA-256", &self.model_sha256)? },
            platform: word::<Platform>("a platform", &self.platform)?,
            backend: word::<Backend>("a backend", &self.backend)?,
            precision: word::<Precision>("a precision", &self.precision)?,
            batch_size: self.batch_size,
            sequence_length: self.sequence_length,
            image_size: self.image_size,
            threads: self.threads,
            browser: self.browser.clone(),
        })
    }
}

fn word<T: std::str::FromStr>(what: &'static str, found: &str) -> Result<T, StoreError> {
    found.parse().map_err(|_| StoreError::Unreadable { what, found: found.to_owned() })
}

/// What was measured of one model on one device in one precision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoverageCell {
    /// Name of the model.
    pub model: String,
    /// The family that it belongs to.
    pub family: Option<String>,
    /// Name of the device.
    pub device: String,
    /// The kind of execution target.
    pub platform: Option<String>,
    /// Number format.
    pub precision: Option<String>,
    /// Distinct configurations measured.
    pub configurations: u32,
    /// Measurements of them, repeats counted.
    pub measurements: u32,
}

/// One metric's error on rows that its predictor did not train on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRow {
    /// The metric, with its unit.
    pub metric: String,
    /// Rows.
    pub rows: u32,
    /// Mean absolute percentage error, out of fold.
    pub mape_pct: Option<f64>,
    /// Share of truths inside the 90 % interval, out of fold, in percent.
    pub interval_90_coverage_pct: Option<f64>,
}

/// One release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseRow {
    /// Its name.
    pub release_id: String,
    /// The release before it.
    pub parent: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// Measurements it was trained on.
    pub training_rows: u32,
    /// Its evaluation, per metric.
    pub evaluation: Vec<EvaluationRow>,
}

/// A prediction held against the measurement of the job that carried it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictionErrorRow {
    /// The job.
    pub job_id: String,
    /// Its run.
    pub run_id: String,
    /// Name of its case.
    pub case: String,
    /// The kind of execution target.
    pub platform: String,
    /// The model.
    pub model: Option<String>,
    /// The release that predicted.
    pub release_id: String,
    /// The metric, with its unit.
    pub metric: String,
    /// What was predicted.
    pub predicted: Option<f64>,
    /// Lower end of the 90 % interval.
    pub lower: Option<f64>,
    /// Upper end of the 90 % interval.
    pub upper: Option<f64>,
    /// What was measured.
    pub measured: Option<f64>,
    /// 100 (predicted − measured) / measured.
    pub error_pct: Option<f64>,
    /// Whether the interval held the truth.
    pub inside: bool,
    /// When it was measured.
    pub measured_at: String,
}

/// Where a stream is read on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetRow {
    /// Name of the stream.
    pub stream: String,
    /// Offset of the first message that is not stored.
    pub next_offset: u64,
}

/// A table's content in short; equal if and only if the content is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDigest {
    /// The table.
    pub table: String,
    /// Its rows.
    pub rows: u64,
    /// Hash of its rows, whatever their order and their surrogate keys.
    pub digest: String,
}

/// An accepted measurement that still has to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Names the row; later rows have larger ids.
    pub id: i64,
    /// AMQP `type`.
    pub message_type: String,
    /// Header `schema-version`.
    pub schema_version: u16,
    /// MessagePack.
    pub body: Vec<u8>,
}
