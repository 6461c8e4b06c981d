//! `augur run wait`: long polls until every job of a run has ended, or until nothing more will end.

use std::time::Duration;

use anyhow::Context as _;
use dashboard::RunState;
use indicatif::ProgressBar;
use messages::RunId;
use store::RunSummary;

use crate::{commands::waiting, context::Context};

/// How long one long poll may take, in seconds.
const POLL_S: u64 = 30;
/// The same for a run that is cancelled, in seconds; one in which nothing moved for that long is looked at.
const POLL_CANCELLED_S: u64 = 2;

/// How waiting for a run ended.
#[derive(Debug)]
pub(crate) enum Waited {
    /// Every job has a result or is a dead letter.
    Ended(RunSummary),
    /// The run is cancelled, and no live worker can take what is left of it.
    Abandoned {
        run: RunSummary,
        /// Jobs that nobody reached.
        jobs: u32,
        /// Why no worker takes them, each reason once.
        reasons: Vec<String>,
    },
}

impl Waited {
    /// The run's counts in the end.
    pub(crate) fn run(&self) -> &RunSummary {
        match self {
            Self::Ended(run) | Self::Abandoned { run, .. } => run,
        }
    }

    /// Jobs that nobody is left to end.
    pub(crate) fn unreached(&self) -> u32 {
        match self {
            Self::Ended(_) => 0,
            Self::Abandoned { jobs, .. } => *jobs,
        }
    }

    /// Says on stderr why waiting ended, if it was not the run's end.
    pub(crate) fn explain(&self) {
        if let Self::Abandoned { jobs, reasons, .. } = self {
            eprintln!("the run is cancelled; queued jobs that no worker reached: {jobs} ({})", reasons.join("; "));
            eprintln!("hint: a worker that can take them answers them `cancelled`; nothing of them runs");
        }
    }
}

/// Waits for a run's end in the database, also for one that has not reached it yet.
///
/// # Errors
///
/// If the aggregator does not answer, or `limit` is over.
pub(crate) async fn wait(context: &Context, run: RunId, limit: Option<Duration>) -> anyhow::Result<Waited> {
    let bar = waiting::bar(0);
    let polling = wait_showing(context, run, &bar);
    match limit {
        None => polling.await,
        Some(limit) => tokio::time::timeout(limit, polling)
            .await
            .with_context(|| format!("run {run} is not complete after {} s", limit.as_secs()))?,
    }
}

/// The same without a limit, on a progress bar that is there already.
pub(crate) async fn wait_showing(context: &Context, run: RunId, bar: &ProgressBar) -> anyhow::Result<Waited> {
    let api = context.api()?;
    // Differs from any count, so that the first answer comes as soon as the run is known.
    let (mut seen, mut cancelled) = (u32::MAX, false);
    loop {
        let timeout_s = if cancelled { POLL_CANCELLED_S } else { POLL_S };
        let news = format!("/api/runs/{run}/wait?timeout_s={timeout_s}&seen={seen}&seen_cancelled={cancelled}");
        let summary: RunSummary = api.get(&news).await?;
        let ended = summary.ended();
        bar.set_length(u64::from(summary.jobs_total));
        bar.set_position(u64::from(ended));
        if summary.is_complete() {
            bar.finish_and_clear();
            return Ok(Waited::Ended(summary));
        }
        if cancelled && ended == seen {
            let state: RunState = api.get(&format!("/api/runs/{run}/state")).await?;
            if let Some((jobs, reasons)) = out_of_reach(&state) {
                bar.finish_and_clear();
                return Ok(Waited::Abandoned { run: state.run, jobs, reasons });
            }
        }
        (seen, cancelled) = (ended, summary.cancelled_at.is_some());
    }
}

/// What is left of a run if no live worker can take any of it: how many jobs, and why.
fn out_of_reach(state: &RunState) -> Option<(u32, Vec<String>)> {
    if !state.running.is_empty() || state.waiting.is_empty() {
        return None;
    }
    let mut reasons = Vec::new();
    for waiting in &state.waiting {
        let reason = waiting.reason.clone()?;
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    Some((state.run.jobs_total.saturating_sub(state.run.ended()), reasons))
}

#[cfg(test)]
mod tests {
    use dashboard::{RunningOn, WaitingJobs};
    use store::{AttemptCounts, RunningRow};

    use super::*;

    fn waiting(reason: Option<&str>) -> WaitingJobs {
        WaitingJobs {
            platform: "cuda".to_owned(),
            requirements: String::new(),
            jobs: 2,
            reason: reason.map(str::to_owned),
        }
    }

    fn state(waiting: Vec<WaitingJobs>) -> RunState {
        let run = RunSummary {
            run_id: "run".to_owned(),
            suite: "nightly".to_owned(),
            origin: "client".to_owned(),
            submitted_at: "2026-11-22T09:00:00Z".to_owned(),
            due_at: None,
            completed_at: None,
            duration_s: None,
            cancelled_at: Some("2026-11-22T09:01:00Z".to_owned()),
            jobs_total: 7,
            done: 3,
            passed: 1,
            failed: 0,
            error: 0,
            cancelled: 2,
            dead: 1,
            retried: 0,
            git_commit: None,
            git_branch: None,
            regressions: 0,
        };
        RunState {
            run,
            running: Vec::new(),
            waiting,
            dead: Vec::new(),
            attempts: AttemptCounts::default(),
            held_back: Vec::new(),
            judgement: None,
        }
    }

    #[test]
    fn a_run_is_out_of_reach_if_no_live_worker_takes_any_of_it() {
        let none = Some("no live worker takes cuda");
        let expected = (3, vec!["no live worker takes cuda".to_owned()]);
        assert_eq!(out_of_reach(&state(vec![waiting(none), waiting(none)])), Some(expected));
        assert_eq!(out_of_reach(&state(vec![waiting(none), waiting(None)])), None, "one of them can be taken");
        assert_eq!(out_of_reach(&state(Vec::new())), None, "nothing is known of what it asks for");
        let job = RunningRow {
            job_id: "job".to_owned(),
            run_id: "run".to_owned(),
            case: "case".to_owned(),
            attempt: 1,
            started_at: "2026-11-22T09:00:00Z".to_owned(),
            progress_done: None,
            progress_total: None,
            leased: false,
        };
        let running = vec![RunningOn { worker_id: "w1".to_owned(), job }];
        assert_eq!(out_of_reach(&RunState { running, ..state(vec![waiting(none)]) }), None, "something runs");
    }
}
