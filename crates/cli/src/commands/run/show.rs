//! `augur run show`: how far a run is, what of it runs, what waits and why, what died.

use comfy_table::Table;
use dashboard::{RunState, RunningOn, WaitingJobs};
use serde::Serialize;
use store::{AttemptCounts, AttemptRow, HeldBackRow, JudgementRow, RegressionRow, RunSummary};

use super::compare::change;
use crate::{
    commands::{measurement, worker},
    output,
};

/// The state as scripts get it: the run's counts at the top level, where they were before there was more to say.
///
/// The dead jobs are `dead_letters` here, because `dead` is their count.
#[derive(Serialize)]
pub(crate) struct Flat<'a> {
    #[serde(flatten)]
    run: &'a RunSummary,
    running: &'a [RunningOn],
    waiting: &'a [WaitingJobs],
    dead_letters: &'a [AttemptRow],
    attempts: AttemptCounts,
    held_back: &'a [HeldBackRow],
    judgement: Option<&'a JudgementRow>,
}

impl<'a> Flat<'a> {
    pub(crate) fn new(state: &'a RunState) -> Self {
        let RunState { run, running, waiting, dead, attempts, held_back, judgement } = state;
        Self {
            run,
            running,
            waiting,
            dead_letters: dead,
            attempts: *attempts,
            held_back,
            judgement: judgement.as_ref(),
        }
    }
}

/// The state for people: the counts, then a paragraph for each thing that there is to say.
pub(crate) fn text(state: &RunState) -> String {
    let run = &state.run;
    let mut parts = vec![super::summaries(std::slice::from_ref(run)).to_string()];
    parts.extend(run.due_at.as_ref().map(|at| format!("not to begin before {at}")));
    parts.extend(run.cancelled_at.as_ref().map(|at| format!("cancelled at {at}")));
    let tables = [
        ("running", state.running.len(), running(&state.running)),
        // Which of a platform's jobs have ended is known, not what they asked for: so running ones are among these.
        ("not ended, running ones included", state.waiting.len(), waiting(&state.waiting)),
        ("dead letters", state.dead.len(), dead(&state.dead)),
        ("not learned from", state.held_back.len(), measurement::held_back(&state.held_back)),
    ];
    parts.extend(
        tables.into_iter().filter(|(_, rows, _)| *rows > 0).map(|(name, _, table)| format!("{name}:\n{table}")),
    );
    parts.extend(state.judgement.as_ref().filter(|of| of.compared > 0).map(compared));
    parts.join("\n\n")
}

/// What came of holding the run against what was measured before.
fn compared(of: &JudgementRow) -> String {
    let JudgementRow { compared, undecided, improvements, threshold_pct, false_alarms, regressions, .. } = of;
    let summary = format!(
        "{compared} configurations were measured before: {} regressions, {improvements} faster, {undecided} have too few \
         repeats to tell (differences above {threshold_pct} %, any false alarm with a chance of {false_alarms} at most)",
        regressions.len()
    );
    if regressions.is_empty() { summary } else { format!("regressions:\n{}\n{summary}", slower(regressions)) }
}

fn slower(regressions: &[RegressionRow]) -> Table {
    let mut table =
        output::table(["configuration", "before ms", "now ms", "difference", "95 % interval", "p, corrected"]);
    for row in regressions {
        let [difference, interval] = change(row.difference_pct, row.lower_pct, row.upper_pct);
        table.add_row([
            row.configuration.clone(),
            output::number(Some(row.baseline_ms)),
            output::number(Some(row.run_ms)),
            difference,
            interval,
            format!("{:.2e}", row.p_corrected),
        ]);
    }
    table
}

fn running(jobs: &[RunningOn]) -> Table {
    let mut table = output::table(["worker", "job", "case", "done", "attempt", "since"]);
    for RunningOn { worker_id, job } in jobs {
        table.add_row([
            worker_id.clone(),
            job.job_id.clone(),
            if job.leased { format!("{} (leased)", job.case) } else { job.case.clone() },
            output::text(worker::progress(job)),
            job.attempt.to_string(),
            job.started_at.clone(),
        ]);
    }
    table
}

fn waiting(needs: &[WaitingJobs]) -> Table {
    let mut table = output::table(["jobs", "platform", "requirements", "why it waits"]);
    for need in needs {
        table.add_row([
            need.jobs.to_string(),
            need.platform.clone(),
            need.requirements.clone(),
            need.reason.clone().unwrap_or_else(|| "for its turn: live workers can take it".to_owned()),
        ]);
    }
    table
}

fn dead(attempts: &[AttemptRow]) -> Table {
    let mut table = output::table(["job", "case", "attempts", "reason", "message"]);
    for last in attempts {
        table.add_row([
            last.job_id.clone(),
            output::text(last.case.as_ref()),
            last.attempt.to_string(),
            output::text(last.failure_type.as_ref()),
            output::text(last.failure_message.as_ref()),
        ]);
    }
    table
}
