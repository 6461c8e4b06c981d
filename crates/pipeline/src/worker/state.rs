//! What a worker knows of itself: the jobs it runs and has run, the cancels it has heard of.

mod recent;

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use broker::Delivery;
use messages::{
    CancelTarget, Device, Heartbeat, Job, JobId, Offer, Platform, Progress, RunId, RunningJob, Timestamp, WorkerId,
};
use tokio_util::sync::CancellationToken;

use super::WorkerSettings;
use recent::Recent;

/// Cancelled jobs and runs that a worker remembers.
const CANCELS_REMEMBERED_MAX: usize = 100_000;
/// Ended attempts that a worker remembers, to know one that the broker delivers again for want of the ack.
const ENDED_REMEMBERED_MAX: usize = 10_000;

pub(super) struct WorkerState {
    worker_id: WorkerId,
    host: String,
    version: String,
    platforms: Vec<Platform>,
    offer: Offer,
    concurrency: u32,
    started_at: Timestamp,
    jobs: Mutex<Jobs>,
    jobs_done: AtomicU64,
    draining: AtomicBool,
    handing_back: AtomicBool,
}

struct Jobs {
    running: HashMap<JobId, Running>,
    cancelled: Recent<Target>,
    ended: Recent<AttemptKey>,
}

struct Running {
    key: AttemptKey,
    job: RunningJob,
    cancel: CancellationToken,
    /// A claim of it may be on the result stream, and is known to be once the job is leased.
    claiming: bool,
    fenced: bool,
    /// Deliveries of the same attempt that came while it ran.
    spares: Vec<Delivery>,
}

/// An attempt: of which job, for which run, after how many replays of dead letters, which number.
pub(super) type AttemptKey = (JobId, RunId, u32, u32);

pub(super) fn key(job: &Job, attempt: u32) -> AttemptKey {
    (job.job_id, job.run.run_id, job.dispatch.replays, attempt)
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Target {
    Job(JobId),
    Run(RunId),
}

/// What to do with a delivered job.
pub(super) enum Begin {
    /// Run it; the token fires when it is to end early, at once if it was cancelled already.
    Run(CancellationToken, Delivery),
    /// Nothing: it runs here already, and the delivery is settled with it.
    Attached,
    /// Settle it: this attempt has ended here, or is held under a lease.
    Ended(Delivery),
    /// Try it later: another attempt of it runs here, or one for another run.
    Busy(Delivery),
}

impl WorkerState {
    pub(super) fn new(settings: &WorkerSettings, devices: &[Device], browsers: Vec<String>) -> Self {
        Self {
            worker_id: settings.worker_id.clone(),
            host: settings.host.clone(),
            version: settings.version.clone(),
            platforms: settings.platforms.clone(),
            offer: offer(settings, devices, browsers),
            concurrency: u32::from(settings.concurrency),
            started_at: Timestamp::now(),
            jobs: Mutex::new(Jobs {
                running: HashMap::new(),
                cancelled: Recent::new(CANCELS_REMEMBERED_MAX),
                ended: Recent::new(ENDED_REMEMBERED_MAX),
            }),
            jobs_done: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            handing_back: AtomicBool::new(false),
        }
    }

    /// What the worker has beyond its platforms.
    pub(super) fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Notes a job as running, unless it is or has been.
    pub(super) fn begin(&self, job: &Job, attempt: u32, delivery: Delivery) -> Begin {
        let mut jobs = self.lock();
        if jobs.ended.contains(&key(job, attempt)) {
            return Begin::Ended(delivery);
        }
        if let Some(running) = jobs.running.get_mut(&job.job_id) {
            if running.key != key(job, attempt) {
                return Begin::Busy(delivery);
            }
            if running.job.leased {
                return Begin::Ended(delivery);
            }
            running.spares.push(delivery);
            return Begin::Attached;
        }
        let cancel = CancellationToken::new();
        if jobs.is_cancelled(job) || self.is_handing_back() {
            cancel.cancel();
        }
        let running = RunningJob {
            job_id: job.job_id,
            run_id: job.run.run_id,
            case: job.case.clone(),
            attempt,
            started_at: Timestamp::now(),
            progress: None,
            leased: false,
        };
        let key = key(job, attempt);
        let cancelling = cancel.clone();
        let running =
            Running { key, job: running, cancel: cancelling, claiming: false, fenced: false, spares: Vec::new() };
        jobs.running.insert(job.job_id, running);
        Begin::Run(cancel, delivery)
    }

    /// Notes when the attempt began, after its waits.
    pub(super) fn start(&self, job_id: JobId, started_at: Timestamp) {
        self.with_running(job_id, |running| running.job.started_at = started_at);
    }

    /// Notes how far an attempt is.
    pub(super) fn report(&self, job_id: JobId, progress: Progress) {
        self.with_running(job_id, |running| running.job.progress = Some(progress));
    }

    /// Notes that a claim of the job is being published.
    pub(super) fn note_claiming(&self, job_id: JobId) {
        self.with_running(job_id, |running| running.claiming = true);
    }

    /// Whether the result stream may hold a claim of the job.
    pub(super) fn may_be_claimed(&self, job_id: JobId) -> bool {
        self.lock().running.get(&job_id).is_some_and(|running| running.claiming)
    }

    /// Notes that heartbeats hold the job from now on, and gives further deliveries of it: nobody needs them.
    pub(super) fn note_lease(&self, job_id: JobId) -> Vec<Delivery> {
        let mut jobs = self.lock();
        let Some(running) = jobs.running.get_mut(&job_id) else { return Vec::new() };
        running.job.leased = true;
        std::mem::take(&mut running.spares)
    }

    /// Forgets a job as running, and gives further deliveries of it; `replaced` says that the broker may forget it.
    fn end(&self, key: AttemptKey, replaced: bool) -> Vec<Delivery> {
        let mut jobs = self.lock();
        if replaced {
            jobs.ended.insert(key);
        }
        jobs.running.remove(&key.0).map_or_else(Vec::new, |running| running.spares)
    }

    pub(super) fn count_done(&self) {
        self.jobs_done.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a job was cancelled before it came.
    pub(super) fn is_cancelled(&self, job: &Job) -> bool {
        self.lock().is_cancelled(job)
    }

    pub(super) fn cancel(&self, target: CancelTarget) {
        let target = match target {
            CancelTarget::Job(job_id) => Target::Job(job_id),
            CancelTarget::Run(run_id) => Target::Run(run_id),
        };
        let mut jobs = self.lock();
        jobs.cancelled.insert(target);
        for Running { job, cancel, .. } in jobs.running.values() {
            if target == Target::Job(job.job_id) || target == Target::Run(job.run_id) {
                cancel.cancel();
            }
        }
    }

    /// Ends all leased jobs, without a result; says how many.
    pub(super) fn fence(&self) -> usize {
        let mut jobs = self.lock();
        let leased = jobs.running.values_mut().filter(|running| running.job.leased);
        leased
            .map(|running| {
                running.fenced = true;
                running.cancel.cancel();
            })
            .count()
    }

    /// Whether the job was ended because its lease could not be renewed.
    pub(super) fn is_fenced(&self, job_id: JobId) -> bool {
        self.lock().running.get(&job_id).is_some_and(|running| running.fenced)
    }

    pub(super) fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Ends all running jobs; they go back to their queues instead of giving a result.
    pub(super) fn hand_back(&self) {
        self.handing_back.store(true, Ordering::SeqCst);
        for running in self.lock().running.values() {
            running.cancel.cancel();
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
            offer: self.offer.clone(),
            concurrency: self.concurrency,
            draining: self.draining.load(Ordering::Relaxed),
            running: self.lock().running.values().map(|running| running.job.clone()).collect(),
            jobs_done: self.jobs_done.load(Ordering::Relaxed),
        }
    }

    fn with_running(&self, job_id: JobId, change: impl FnOnce(&mut Running)) {
        if let Some(running) = self.lock().running.get_mut(&job_id) {
            change(running);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        // Nothing panics while holding it, and its content is valid after every statement.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// That an attempt is noted as running; forgotten when dropped, also by a panic: heartbeats would hold it for ever.
pub(super) struct Registered<'a> {
    state: &'a WorkerState,
    key: Option<AttemptKey>,
}

impl<'a> Registered<'a> {
    pub(super) fn new(state: &'a WorkerState, key: AttemptKey) -> Self {
        Self { state, key: Some(key) }
    }

    /// Forgets the job as running, and gives further deliveries of it; `replaced` says that the broker may forget it.
    pub(super) fn end(mut self, replaced: bool) -> Vec<Delivery> {
        self.key.take().map_or_else(Vec::new, |key| self.state.end(key, replaced))
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            drop(self.state.end(key, false));
        }
    }
}

impl Jobs {
    fn is_cancelled(&self, job: &Job) -> bool {
        self.cancelled.contains(&Target::Job(job.job_id)) || self.cancelled.contains(&Target::Run(job.run.run_id))
    }
}

/// What the machine's devices and the settings give.
fn offer(settings: &WorkerSettings, devices: &[Device], browsers: Vec<String>) -> Offer {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size in MB is small and positive")]
    let megabytes = |device: &Device| device.memory_mb.map(|mb| mb as u64);
    let machine = devices.iter().find(|device| device.platform == Platform::Cpu);
    let usable = devices.iter().filter(|device| settings.platforms.contains(&device.platform));
    Offer {
        memory_mb: machine.and_then(megabytes),
        device_memory_mb: usable.filter_map(megabytes).max(),
        browsers,
        tags: settings.tags.clone(),
    }
}
