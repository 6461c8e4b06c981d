//! Following a run on the result stream, without asking anyone.

use std::collections::HashMap;

use broker::{AmqpUrl, Patience, Settlement, Start, Subscription};
use messages::{
    AfterFailure, CancelTarget, DeadLetterReplayed, DeadLettered, FailedAttempt, JobId, JobResult, Outcome, RunId,
    RunSubmitted, Status,
};
use store::Record;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{PipelineError, replay::decode_record, worker::chain};

/// Results read ahead.
const PREFETCH: u16 = 500;

/// How far a run has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Jobs of the run.
    pub total: usize,
    /// Jobs that have ended: those with a result and those that are dead letters.
    pub done: usize,
    /// Of those, measured or passed.
    pub passed: usize,
    /// Of those, dead letters.
    pub dead: usize,
    /// Attempts that failed and were followed by another.
    pub retried: usize,
    /// Whether someone asked to cancel the run.
    pub cancelled: bool,
}

/// What is new of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum RunNews {
    /// A job ended, with its result; each job once, even if it had been a dead letter before.
    Ended(Box<JobResult>),
    /// A job became a dead letter.
    Dead(DeadJob),
    /// An attempt failed; another follows.
    Retried(Box<JobResult>),
    /// A dead letter was sent back and is waited for again.
    Replayed(JobId),
    /// Someone asked to cancel the run. Its jobs end as cancelled as soon as a worker meets them.
    Cancelled,
}

/// A job that became a dead letter, as its last attempt or the broker tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadJob {
    /// The job.
    pub job_id: JobId,
    /// Name of its case, if anybody could read the job.
    pub case: Option<String>,
    /// The attempt that was the last one.
    pub attempt: u32,
    /// Why, in one word: a kind of failure or what the broker says.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// What would help.
    pub suggestion: Option<String>,
}

impl DeadJob {
    /// The name of its case, or its id where that is not known.
    pub fn name(&self) -> String {
        self.case.clone().unwrap_or_else(|| self.job_id.to_string())
    }
}

impl From<JobResult> for DeadJob {
    fn from(JobResult { job, attempt, outcome, .. }: JobResult) -> Self {
        let (reason, message, suggestion) = match outcome {
            Outcome::Failed(failure) => (failure.kind.to_string(), failure.message, failure.suggestion),
            // No wire form of a failed attempt has one.
            Outcome::Benchmark(_) | Outcome::Web(_) | Outcome::Test(_) => Default::default(),
        };
        Self { job_id: job.job_id, case: Some(job.case), attempt, reason, message, suggestion }
    }
}

impl From<DeadLettered> for DeadJob {
    fn from(DeadLettered { job_id, case, attempt, reason, message, .. }: DeadLettered) -> Self {
        Self { job_id, case, attempt, reason, message, suggestion: None }
    }
}

/// Reads what happens to the jobs of one run, as it happens.
#[derive(Debug)]
pub struct RunFollower {
    subscription: Subscription,
    count: RunCount,
}

impl RunFollower {
    /// Subscribes to what comes from now on; call it before the run is submitted.
    ///
    /// # Errors
    ///
    /// [`PipelineError::Broker`] if no broker answers or it has no result stream.
    pub async fn start(
        url: &AmqpUrl,
        run: &RunSubmitted,
        patience: Patience,
        stop: &CancellationToken,
    ) -> Result<Self, PipelineError> {
        let subscription = Subscription::start(
            url,
            "augur run follower",
            topology::names::RESULTS,
            Start::StreamNext,
            PREFETCH,
            patience,
            stop,
        )
        .await
        .map_err(PipelineError::broker("run follower"))?;
        Ok(Self { subscription, count: RunCount::new(run) })
    }

    /// How far the run has come.
    pub fn progress(&self) -> Progress {
        self.count.progress
    }

    /// What is new of the run; `None` once all jobs have ended, or after the stop.
    ///
    /// A lost connection heals; a message that does not decode is passed over with a warning.
    pub async fn next(&mut self) -> Option<RunNews> {
        while self.count.progress.done < self.count.progress.total {
            let delivery = self.subscription.next().await?;
            let decoded = decode_record(&delivery);
            // A stream keeps what is acked; a failed ack only means that the subscription is being reopened.
            if let Err(error) = delivery.settle(Settlement::Done).await {
                warn!(%error, "result could not be acked");
            }
            match decoded {
                Ok(record) => {
                    if let Some(news) = self.count.take(record) {
                        return Some(news);
                    }
                }
                Err(error) => warn!(error = %chain(&error), "result does not decode"),
            }
        }
        None
    }
}

/// What the records of a run add up to, however often each comes; which jobs ended, and how, whatever their order.
#[derive(Debug)]
struct RunCount {
    run_id: RunId,
    only_job: Option<JobId>,
    jobs: HashMap<JobId, JobState>,
    progress: Progress,
}

/// What is known of a job.
#[derive(Debug, Default, Clone, Copy)]
struct JobState {
    has_result: bool,
    /// The latest of its lives (counted by replays) that ended as a dead letter.
    dead_in: Option<u32>,
    /// How often it was sent back from the dead letters.
    replays: u32,
    /// Its latest attempt that was followed by another: life and number.
    retried: (u32, u32),
}

impl JobState {
    fn is_dead(self) -> bool {
        !self.has_result && self.dead_in.is_some_and(|life| life >= self.replays)
    }
}

impl RunCount {
    fn new(run: &RunSubmitted) -> Self {
        let total = usize::try_from(run.jobs_total).unwrap_or(usize::MAX);
        let progress = Progress { total, ..Progress::default() };
        Self { run_id: run.run_id, only_job: run.only_job, jobs: HashMap::new(), progress }
    }

    /// Whether all of the run is to be cancelled.
    fn is_target(&self, target: CancelTarget) -> bool {
        match target {
            CancelTarget::Run(run) => run == self.run_id,
            CancelTarget::Job(job) => self.only_job == Some(job),
        }
    }

    fn take(&mut self, record: Record) -> Option<RunNews> {
        match record {
            Record::Result(result) if result.job.run.run_id == self.run_id => self.take_result(result),
            Record::Attempt(attempt) if attempt.result.job.run.run_id == self.run_id => self.take_attempt(*attempt),
            Record::DeadLettered(dead) if dead.run_id == self.run_id => {
                self.take_death(dead.job_id, dead.replays).then(|| RunNews::Dead(dead.into()))
            }
            Record::Replayed(replayed) if replayed.run_id == self.run_id => self.take_replayed(replayed),
            Record::Cancel(cancel) if self.is_target(cancel.target) => {
                let is_news = !self.progress.cancelled;
                self.progress.cancelled = true;
                is_news.then_some(RunNews::Cancelled)
            }
            _ => None,
        }
    }

    fn take_result(&mut self, result: Box<JobResult>) -> Option<RunNews> {
        let is_new = self.change(result.job.job_id, |job| !std::mem::replace(&mut job.has_result, true));
        self.progress.passed += usize::from(is_new && result.status() == Status::Passed);
        is_new.then_some(RunNews::Ended(result))
    }

    fn take_attempt(&mut self, FailedAttempt { result, next }: FailedAttempt) -> Option<RunNews> {
        let (job_id, life, attempt) = (result.job.job_id, result.job.dispatch.replays, result.attempt);
        match next {
            AfterFailure::DeadLetter => self.take_death(job_id, life).then(|| RunNews::Dead(result.into())),
            AfterFailure::Retry => {
                let is_new = self.change(job_id, |job| {
                    let is_new = (life, attempt) > job.retried;
                    job.retried = job.retried.max((life, attempt));
                    is_new
                });
                self.progress.retried += usize::from(is_new);
                is_new.then(|| RunNews::Retried(Box::new(result)))
            }
        }
    }

    /// Notes that a job died in this of its lives; whether that is news.
    fn take_death(&mut self, job_id: JobId, life: u32) -> bool {
        self.change(job_id, |job| {
            let was_dead = job.is_dead();
            job.dead_in = job.dead_in.max(Some(life));
            !was_dead && job.is_dead()
        })
    }

    fn take_replayed(&mut self, replayed: DeadLetterReplayed) -> Option<RunNews> {
        let revived = self.change(replayed.job_id, |job| {
            let was_dead = job.is_dead();
            job.replays = job.replays.max(replayed.replays);
            was_dead && !job.is_dead()
        });
        revived.then_some(RunNews::Replayed(replayed.job_id))
    }

    /// Changes what is known of a job and counts it anew.
    fn change(&mut self, job_id: JobId, change: impl FnOnce(&mut JobState) -> bool) -> bool {
        let job = self.jobs.entry(job_id).or_default();
        let before = *job;
        let answer = change(job);
        let count = |job: JobState| (usize::from(job.has_result || job.is_dead()), usize::from(job.is_dead()));
        let ((done_before, dead_before), (done, dead)) = (count(before), count(*job));
        self.progress.done = self.progress.done + done - done_before;
        self.progress.dead = self.progress.dead + dead - dead_before;
        answer
    }
}

#[cfg(test)]
mod tests;
