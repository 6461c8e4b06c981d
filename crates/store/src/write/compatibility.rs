//! Rows of `hardware_compatibility`: whether a model ran on a device at all.

use duckdb::{Connection, Result, params};
use messages::{FailureKind, JobKind, JobResult, Outcome};

use super::{appender, entries::Entry, moment, offset, take_keys};
use crate::json;

/// What a benchmark's end says about its model on its device.
pub(super) struct Verdict<'e> {
    is_compatible: bool,
    detection_success: bool,
    /// `None` where nobody can tell.
    initialization_success: Option<bool>,
    error_message: Option<&'e str>,
    error_type: Option<&'static str>,
    suggested_fix: Option<&'e str>,
}

/// Appends one row per benchmark whose end, as a result or as a dead letter, says something about its hardware.
pub(super) fn append<'e>(connection: &Connection, entries: impl Iterator<Item = &'e Entry<'e>>) -> Result<()> {
    let told: Vec<_> = entries.filter_map(|entry| Some((entry, verdict(entry.result)?))).collect();
    if told.is_empty() {
        return Ok(());
    }
    let first = take_keys(connection, "compatibility_id_seq", told.len())?;
    let mut rows = appender(
        connection,
        "hardware_compatibility",
        &[
            "compatibility_id",
            "run_id",
            "model_id",
            "hardware_id",
            "is_compatible",
            "detection_success",
            "initialization_success",
            "error_message",
            "error_type",
            "suggested_fix",
            "created_at",
            "metadata",
        ],
    )?;
    for (index, (entry, verdict)) in told.iter().enumerate() {
        rows.append_row(params![
            first + offset(index),
            entry.run_id,
            entry.model_id,
            entry.hardware_id,
            verdict.is_compatible,
            verdict.detection_success,
            verdict.initialization_success,
            verdict.error_message,
            verdict.error_type,
            verdict.suggested_fix,
            moment(entry.result.finished_at),
            json::job_reference(&entry.job_id),
        ])?;
    }
    rows.flush()
}

/// What an end says about the hardware, if anything.
pub(super) fn verdict(result: &JobResult) -> Option<Verdict<'_>> {
    if result.job.kind() == JobKind::Test {
        return None;
    }
    let failure = match &result.outcome {
        Outcome::Benchmark(_) | Outcome::Web(_) => {
            return Some(Verdict {
                is_compatible: true,
                detection_success: true,
                initialization_success: Some(true),
                error_message: None,
                error_type: None,
                suggested_fix: None,
            });
        }
        Outcome::Test(_) => return None,
        Outcome::Failed(failure) => failure,
    };
    let (detection_success, initialization_success) = match failure.kind {
        FailureKind::Unavailable => (false, Some(false)),
        FailureKind::BackendError => (true, Some(false)),
        FailureKind::Crashed | FailureKind::OutOfMemory => (true, None),
        // These say something about the job, its file, its patience or the machine's state.
        FailureKind::InvalidJob
        | FailureKind::ModelMissing
        | FailureKind::ModelCorrupt
        | FailureKind::TimedOut
        | FailureKind::Cancelled
        | FailureKind::Machine
        | FailureKind::WorkerLost => return None,
    };
    Some(Verdict {
        is_compatible: false,
        detection_success,
        initialization_success,
        error_message: Some(&failure.message),
        error_type: Some(failure.kind.as_str()),
        suggested_fix: failure.suggestion.as_deref(),
    })
}
