//! What a worker knows of itself: the jobs it runs, the cancels it has heard of.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use messages::{CancelTarget, Heartbeat, Job, JobId, Platform, RunId, RunningJob, Timestamp, WorkerId};
use tokio_util::sync::CancellationToken;

use super::WorkerSettings;

/// Cancelled jobs and runs that a worker remembers; the oldest are forgotten past that.
const CANCELS_REMEMBERED_MAX: usize = 100_000;

pub(super) struct WorkerState {
    worker_id: WorkerId,
    host: String,
    version: String,
    platforms: Vec<Platform>,
    concurrency: u32,
    started_at: Timestamp,
    jobs: Mutex<Jobs>,
    jobs_done: AtomicU64,
    draining: AtomicBool,
    handing_back: AtomicBool,
}

#[derive(Default)]
struct Jobs {
    running: HashMap<JobId, (RunningJob, CancellationToken)>,
    cancelled: HashSet<Target>,
    cancelled_in_order: VecDeque<Target>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Target {
    Job(JobId),
    Run(RunId),
}

impl WorkerState {
    pub(super) fn new(settings: &WorkerSettings) -> Self {
        Self {
            worker_id: settings.worker_id.clone(),
            host: settings.host.clone(),
            version: settings.version.clone(),
            platforms: settings.platforms.clone(),
            concurrency: u32::from(settings.concurrency),
            started_at: Timestamp::now(),
            jobs: Mutex::default(),
            jobs_done: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            handing_back: AtomicBool::new(false),
        }
    }

    /// Notes a job as running; the token fires when it is to end early, at once if it was cancelled already.
    pub(super) fn claim(&self, job: &Job, started_at: Timestamp) -> CancellationToken {
        let cancel = CancellationToken::new();
        let mut jobs = self.lock();
        if jobs.cancelled.contains(&Target::Job(job.job_id)) || jobs.cancelled.contains(&Target::Run(job.run.run_id)) {
            cancel.cancel();
        }
        let running = RunningJob { job_id: job.job_id, run_id: job.run.run_id, case: job.case.clone(), started_at };
        jobs.running.insert(job.job_id, (running, cancel.clone()));
        cancel
    }

    pub(super) fn release(&self, job_id: JobId) {
        self.lock().running.remove(&job_id);
    }

    pub(super) fn count_done(&self) {
        self.jobs_done.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn cancel(&self, target: CancelTarget) {
        let target = match target {
            CancelTarget::Job(job_id) => Target::Job(job_id),
            CancelTarget::Run(run_id) => Target::Run(run_id),
        };
        let mut jobs = self.lock();
        if jobs.cancelled.insert(target) {
            jobs.cancelled_in_order.push_back(target);
        }
        if jobs.cancelled_in_order.len() > CANCELS_REMEMBERED_MAX
            && let Some(oldest) = jobs.cancelled_in_order.pop_front()
        {
            jobs.cancelled.remove(&oldest);
        }
        for (running, cancel) in jobs.running.values() {
            if target == Target::Job(running.job_id) || target == Target::Run(running.run_id) {
                cancel.cancel();
            }
        }
    }

    pub(super) fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Ends all running jobs; they go back to their queues instead of giving a result.
    pub(super) fn hand_back(&self) {
        self.handing_back.store(true, Ordering::SeqCst);
        for (_, cancel) in self.lock().running.values() {
            cancel.cancel();
        }
    }

    pub(super) fn is_handing_back(&self) -> bool {
        self.handing_back.load(Ordering::SeqCst)
    }

    pub(super) fn heartbeat(&self) -> Heartbeat {
        Heartbeat {
            worker_id: self.worker_id.clone(),
            host: self.host.clone(),
            pid: std::process::id(),
            version: self.version.clone(),
            started_at: self.started_at,
            sent_at: Timestamp::now(),
            platforms: self.platforms.clone(),
            concurrency: self.concurrency,
            draining: self.draining.load(Ordering::Relaxed),
            running: self.lock().running.values().map(|(running, _)| running.clone()).collect(),
            jobs_done: self.jobs_done.load(Ordering::Relaxed),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        // Nothing panics while holding it, and its content is valid after every statement.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
