//! A job's history for people: each attempt with who made it, how it ended, and the end of its output.

use std::fmt::Write as _;

use messages::PastAttempt;
use store::AttemptRow;

/// What is shown of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttemptText {
    attempt: u32,
    replays: u32,
    worker_id: String,
    started_at: String,
    finished_at: String,
    /// Status or kind of failure.
    ended_as: String,
    message: Option<String>,
    output_tail: Option<String>,
}

impl From<&AttemptRow> for AttemptText {
    fn from(row: &AttemptRow) -> Self {
        Self {
            attempt: row.attempt,
            replays: row.replays,
            worker_id: row.worker_id.clone(),
            started_at: row.started_at.clone(),
            finished_at: row.finished_at.clone(),
            ended_as: row.failure_type.clone().unwrap_or_else(|| row.status.clone()),
            message: row.failure_message.clone(),
            output_tail: row.output_tail.clone(),
        }
    }
}

impl From<&PastAttempt> for AttemptText {
    fn from(past: &PastAttempt) -> Self {
        Self {
            attempt: past.attempt,
            // A job's own history does not say in which of its lives an attempt was made; the numbers do.
            replays: 0,
            worker_id: past.worker_id.to_string(),
            started_at: past.started_at.to_string(),
            finished_at: past.finished_at.to_string(),
            ended_as: past.failure.kind.to_string(),
            message: Some(past.failure.message.clone()),
            output_tail: Some(past.failure.output_tail.clone()),
        }
    }
}

/// A paragraph per attempt, in the given order.
pub(crate) fn paragraphs(attempts: impl IntoIterator<Item = AttemptText>) -> String {
    attempts.into_iter().map(|attempt| paragraph(&attempt)).collect::<Vec<_>>().join("\n")
}

fn paragraph(attempt: &AttemptText) -> String {
    let AttemptText { attempt: number, replays, worker_id, started_at, finished_at, ended_as, .. } = attempt;
    let life = if *replays > 0 { format!(" after replay {replays}") } else { String::new() };
    let mut text = format!("attempt {number}{life} on {worker_id}, {started_at} to {finished_at}: {ended_as}");
    let indented = |text: &mut String, prefix: &str, lines: &Option<String>| {
        for line in lines.iter().flat_map(|lines| lines.trim_end().lines()) {
            // Writing into a text cannot fail.
            write!(text, "\n{prefix}{line}").unwrap_or_default();
        }
    };
    indented(&mut text, "  ", &attempt.message);
    indented(&mut text, "  | ", &attempt.output_tail);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attempt_is_told_with_its_output() {
        let attempt = |attempt, replays, ended_as: &str, output: Option<&str>| AttemptText {
            attempt,
            replays,
            worker_id: "w1".to_owned(),
            started_at: "10:00".to_owned(),
            finished_at: "10:01".to_owned(),
            ended_as: ended_as.to_owned(),
            message: Some("killed by SIGSEGV".to_owned()),
            output_tail: output.map(str::to_owned),
        };
        let history = [attempt(1, 0, "crashed", Some("loading\n\nFATAL\n")), attempt(1, 1, "timed-out", None)];
        insta::assert_snapshot!(paragraphs(history), @r"
        attempt 1 on w1, 10:00 to 10:01: crashed
          killed by SIGSEGV
          | loading
          | 
          | FATAL
        attempt 1 after replay 1 on w1, 10:00 to 10:01: timed-out
          killed by SIGSEGV
        ");
    }
}
