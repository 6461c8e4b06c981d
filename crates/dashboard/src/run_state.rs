//! What a run is doing: what runs, what waits and why, what died.

use std::collections::HashMap;

use axum::extract::{Path, State};
use messages::{RunId, Timestamp};
use serde::{Deserialize, Serialize};
use store::{
    AttemptCounts, AttemptRow, HeldBackRow, JudgementRow, NeedRow, RunSummary, RunningRow, Store, StoreError, WorkerRow,
};

use crate::{
    ApiError,
    api::{Answer, Answered, parse},
    state::Shared,
};

mod reason;

/// A worker that was not heard of for this long, in seconds, is taken for gone; heartbeats come every 5.
const SILENT_S_MAX: i64 = 30;

/// Dead jobs that are told one by one; the run's summary counts all of them.
const DEAD_MAX: usize = 1_000;

/// Measurements that are told one by one though nobody learns from them.
const HELD_BACK_MAX: usize = 1_000;

/// Answer of `/api/runs/{id}/state`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// The run.
    pub run: RunSummary,
    /// Its jobs that live workers run now.
    pub running: Vec<RunningOn>,
    /// What its jobs without an end ask for, as far as its announcement told; running ones are among them.
    pub waiting: Vec<WaitingJobs>,
    /// The last attempt of each dead job, the latest first, at most 1,000.
    pub dead: Vec<AttemptRow>,
    /// What came of all attempts.
    pub attempts: AttemptCounts,
    /// Its measurements that predictors do not learn from, in the order of their ends, at most 1,000.
    #[serde(default)]
    pub held_back: Vec<HeldBackRow>,
    /// What came of holding it against earlier measurements, which happens a second or two after its end.
    #[serde(default)]
    pub judgement: Option<JudgementRow>,
}

/// A job and who runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningOn {
    /// The worker.
    pub worker_id: String,
    /// The job.
    #[serde(flatten)]
    pub job: RunningRow,
}

/// Jobs that ask for the same of their worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingJobs {
    /// The kind of execution target.
    pub platform: String,
    /// What else they ask for, for people; empty if nothing.
    pub requirements: String,
    /// How many of them have no end yet, at most: which of a platform's jobs ended is known, not what they asked for.
    pub jobs: u32,
    /// Why no live worker can take them; null if one can.
    pub reason: Option<String>,
}

pub(crate) async fn run_state(State(shared): State<Shared>, Path(id): Path<String>) -> Answered<RunState> {
    let run: RunId = parse(&id)?;
    let now = Timestamp::now();
    shared.read(move |store| read(store, run, now)).await?.map(Answer).ok_or(ApiError::NoSuchRun { id })
}

fn read(store: &Store, id: RunId, now: Timestamp) -> Result<Option<RunState>, StoreError> {
    let Some(run) = store.run(id)? else { return Ok(None) };
    let mut workers = store.workers()?;
    // All moments are written alike, so that texts compare as moments do.
    let since = Timestamp::from_micros(now.as_micros() - SILENT_S_MAX * 1_000_000).to_string();
    workers.retain(|worker| worker.last_seen_at >= since);
    let waiting = if run.is_complete() {
        Vec::new()
    } else {
        waiting(&store.run_needs(id)?, &store.ended_by_platform(id)?, &workers)
    };
    Ok(Some(RunState {
        running: running(&run.run_id, &workers),
        waiting,
        dead: if run.dead == 0 { Vec::new() } else { store.dead_letters(id, DEAD_MAX)? },
        attempts: store.attempt_counts(id)?,
        held_back: store.held_back(id, HELD_BACK_MAX)?,
        judgement: store.judgement(id)?,
        run,
    }))
}

fn running(run_id: &str, live: &[WorkerRow]) -> Vec<RunningOn> {
    let of_worker = |worker: &WorkerRow| -> Vec<RunningOn> {
        let jobs = worker.running.iter().filter(|job| job.run_id == run_id);
        jobs.map(|job| RunningOn { worker_id: worker.worker_id.clone(), job: job.clone() }).collect()
    };
    live.iter().flat_map(of_worker).collect()
}

fn waiting(needs: &[NeedRow], ended: &HashMap<String, u32>, live: &[WorkerRow]) -> Vec<WaitingJobs> {
    let mut waiting = Vec::new();
    for need in needs {
        let on_platform =
            needs.iter().filter(|other| other.platform == need.platform).map(|other| other.jobs).sum::<u32>();
        let left = on_platform.saturating_sub(ended.get(&need.platform).copied().unwrap_or_default());
        if left > 0 {
            let wanted = need.requirements();
            waiting.push(WaitingJobs {
                platform: need.platform.clone(),
                requirements: reason::in_words(&wanted),
                jobs: need.jobs.min(left),
                reason: reason::why_none_takes(&need.platform, &wanted, live),
            });
        }
    }
    waiting
}
