//! Dead letters as rows: for scripts, and for people.

use comfy_table::Table;
use pipeline::dead_letters::{DeadLetter, Fate};
use serde::Serialize;

use crate::{
    commands::attempts::{AttemptText, paragraphs},
    output,
};

/// One letter; what only a job that decodes has is null for the others, whose ids their properties may tell.
#[derive(Debug, Serialize)]
pub(super) struct LetterRow {
    job_id: Option<String>,
    run_id: Option<String>,
    suite: Option<String>,
    case: Option<String>,
    platform: Option<String>,
    priority: Option<String>,
    reason: String,
    attempts: u32,
    replays: Option<u32>,
    dead_at: Option<String>,
    /// What the last attempt said, or why the job cannot be sent back.
    message: Option<String>,
    worker_id: Option<String>,
    /// The queue that the broker took it from, if the broker moved it.
    queue: Option<String>,
    message_id: Option<String>,
    message_type: Option<String>,
    schema_version: Option<u16>,
    body_bytes: usize,
    /// What became of it; absent where it was only looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    fate: Option<&'static str>,
}

impl LetterRow {
    pub(super) fn new(letter: &DeadLetter, fate: Fate) -> Self {
        let job = letter.job.as_ref().ok();
        let last = job.and_then(|job| job.dispatch.history.last());
        Self {
            job_id: letter.job_id.map(|id| id.to_string()),
            run_id: letter.run_id.map(|id| id.to_string()),
            suite: job.map(|job| job.run.suite.clone()),
            case: job.map(|job| job.case.clone()),
            platform: job.map(|job| job.platform.to_string()),
            priority: job.map(|job| job.priority.to_string()),
            reason: letter.reason.clone(),
            attempts: letter.attempt,
            replays: job.map(|job| job.dispatch.replays),
            dead_at: letter.dead_at.map(|at| at.to_string()),
            message: letter.refusal().or_else(|| last.map(|past| past.failure.message.clone())),
            worker_id: last.map(|past| past.worker_id.to_string()),
            queue: letter.death.as_ref().map(|death| death.queue.clone()),
            message_id: letter.message_id.clone(),
            message_type: letter.message_type.clone(),
            schema_version: letter.schema_version,
            body_bytes: letter.body_bytes,
            fate: word(fate),
        }
    }
}

/// What became of a letter, in a word for scripts.
fn word(fate: Fate) -> Option<&'static str> {
    match fate {
        Fate::Listed => None,
        Fate::Replayed => Some("replayed"),
        Fate::Duplicate => Some("duplicate"),
        Fate::Undecodable => Some("undecodable"),
        Fate::Purged => Some("purged"),
    }
}

/// Letters, a line each.
pub(super) fn table(rows: &[LetterRow]) -> Table {
    let has_fates = rows.iter().any(|row| row.fate.is_some());
    let mut table = output::table(["job", "case", "reason", "attempts", "replays", "since", "message"]);
    if has_fates {
        table.set_header(["job", "case", "reason", "attempts", "replays", "since", "message", "became"]);
    }
    for row in rows {
        let case = row.case.clone().or_else(|| row.queue.as_ref().map(|queue| format!("(from {queue})")));
        let mut cells = vec![
            output::text(row.job_id.as_ref().or(row.message_id.as_ref())),
            output::text(case),
            row.reason.clone(),
            row.attempts.to_string(),
            output::text(row.replays),
            output::text(row.dead_at.as_ref()),
            output::text(row.message.as_ref()),
        ];
        cells.extend(row.fate.map(str::to_owned));
        table.add_row(cells);
    }
    table
}

/// A letter with its job's whole history.
#[derive(Debug, Serialize)]
pub(super) struct LetterDetails {
    #[serde(flatten)]
    row: LetterRow,
    history: Vec<AttemptDetails>,
    #[serde(skip)]
    text: String,
}

#[derive(Debug, Serialize)]
struct AttemptDetails {
    attempt: u32,
    worker_id: String,
    started_at: String,
    finished_at: String,
    failure_type: &'static str,
    failure_message: String,
    suggestion: Option<String>,
    output_tail: String,
}

impl LetterDetails {
    pub(super) fn new(letter: &DeadLetter) -> Self {
        let past = letter.job.as_ref().map(|job| job.dispatch.history.as_slice()).unwrap_or_default();
        let details = past.iter().map(|past| AttemptDetails {
            attempt: past.attempt,
            worker_id: past.worker_id.to_string(),
            started_at: past.started_at.to_string(),
            finished_at: past.finished_at.to_string(),
            failure_type: past.failure.kind.as_str(),
            failure_message: past.failure.message.clone(),
            suggestion: past.failure.suggestion.clone(),
            output_tail: past.failure.output_tail.clone(),
        });
        let row = LetterRow::new(letter, Fate::Listed);
        Self { history: details.collect(), text: paragraphs(past.iter().map(AttemptText::from)), row }
    }

    /// The letter for people.
    pub(super) fn text(&self) -> String {
        let LetterRow { job_id, run_id, suite, case, platform, priority, reason, attempts, .. } = &self.row;
        let or_dash = |text: &Option<String>| output::text(text.as_ref());
        let replays = self.row.replays.unwrap_or_default();
        format!(
            "{}: {reason} after {attempts} attempts, dead since {}\n\
             job {} of run {} (suite {}), {} {}, sent back {replays} times so far\n\n{}",
            or_dash(case),
            or_dash(&self.row.dead_at),
            or_dash(job_id),
            or_dash(run_id),
            or_dash(suite),
            or_dash(platform),
            or_dash(priority),
            self.text
        )
    }
}
