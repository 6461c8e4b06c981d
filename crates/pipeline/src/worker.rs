//! The worker: takes jobs from their lanes, runs them, publishes results.
//!
//! One job's way: decode, claim, execute, publish, settle. A job is settled only after its result is confirmed,
//! so a worker that dies at any point loses nothing: the broker delivers the job again, and a result that was
//! already published counts once, by its job id.

mod lanes;
mod state;

use std::{sync::Arc, time::Duration};

use broker::{AmqpUrl, Delivery, Outgoing, Patience, Publisher, Settlement, Start, Subscription};
use messages::{Cancel, Encoded, Failure, FailureKind, Job, JobResult, Outcome, Platform, Timestamp, WorkerId, encode};
use runner::{Execution, Runner};
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;
use topology::names;
use tracing::{debug, info, warn};

use crate::PipelineError;
use lanes::Lanes;
use state::WorkerState;

/// Time between heartbeats.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);
/// Wait before a job goes back to its queue because its result could not be published.
const RESULT_REFUSED_WAIT: Duration = Duration::from_secs(5);
/// Cancel orders read ahead.
const CONTROL_PREFETCH: u16 = 100;

/// What a worker is.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// Its name.
    pub worker_id: WorkerId,
    /// Its machine's name.
    pub host: String,
    /// Augur's version.
    pub version: String,
    /// What it takes jobs for.
    pub platforms: Vec<Platform>,
    /// Jobs that it runs at once.
    pub concurrency: u16,
    /// Deliveries per lane that it holds at once, at least `concurrency`. Equal to `concurrency`, every running job
    /// has its lane's channel to itself, as long jobs need; more lets short jobs share a channel and flow faster.
    pub prefetch: u16,
    /// How long running jobs may go on after the stop before they are handed back.
    pub grace: Duration,
    /// How long the broker may take to appear.
    pub patience: Patience,
}

/// Runs a worker until `stop`, then lets running jobs finish for the grace period and hands back the rest.
///
/// # Errors
///
/// [`PipelineError::Broker`] if no broker answers in time or it lacks the queues.
#[expect(clippy::missing_panics_doc, reason = "the semaphore is never closed")]
pub async fn work(
    url: &AmqpUrl,
    settings: WorkerSettings,
    runner: Runner,
    stop: CancellationToken,
) -> Result<(), PipelineError> {
    // Publishing, heartbeats and subscriptions go on while running jobs drain.
    let links = CancellationToken::new();
    let _links_end_with_us = links.clone().drop_guard();
    let name = |purpose: &str| format!("augur worker {} {purpose}", settings.worker_id);
    let publisher = Publisher::start(url, &name("publish"), settings.patience, links.clone())
        .await
        .map_err(PipelineError::broker("worker"))?;
    let state = Arc::new(WorkerState::new(&settings));
    let mut lanes = Lanes::subscribe(url, &settings, &links).await.map_err(PipelineError::broker("worker"))?;
    let control = Subscription::start(
        url,
        &name("control"),
        names::CONTROL,
        Start::StreamFirst,
        CONTROL_PREFETCH,
        settings.patience,
        &links,
    )
    .await
    .map_err(PipelineError::broker("worker"))?;
    tokio::spawn(obey(control, Arc::clone(&state)));
    tokio::spawn(beat(publisher.clone(), Arc::clone(&state), links.clone()));
    info!(worker_id = %settings.worker_id, platforms = ?settings.platforms, concurrency = settings.concurrency, "worker ready");

    let worker = Arc::new(Worker { runner, publisher, state, settings });
    let slots = Arc::new(Semaphore::new(usize::from(worker.settings.concurrency)));
    let mut running = JoinSet::new();
    loop {
        let slot = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            slot = Arc::clone(&slots).acquire_owned() => slot.expect("the semaphore is never closed"),
        };
        let delivery = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            delivery = lanes.next() => match delivery {
                Some(delivery) => delivery,
                None => break,
            },
        };
        let worker = Arc::clone(&worker);
        running.spawn(async move {
            worker.handle(delivery).await;
            drop(slot);
        });
        while running.try_join_next().is_some() {}
    }
    worker.drain(lanes, running).await;
    Ok(())
}

struct Worker {
    runner: Runner,
    publisher: Publisher,
    state: Arc<WorkerState>,
    settings: WorkerSettings,
}

impl Worker {
    /// One job from delivery to settlement.
    async fn handle(&self, delivery: Delivery) {
        let job = match delivery.decode::<Job>() {
            Ok(job) => job,
            Err(error) => {
                warn!(message_id = delivery.message_id(), error = %chain(&error), "job does not decode; it becomes a dead letter");
                return settle(delivery, Settlement::DeadLetter).await;
            }
        };
        let attempt = delivery.attempt();
        let started_at = Timestamp::now();
        let cancel = self.state.claim(&job, started_at);
        let execution = self.execute(&job, &cancel).await;
        let handed_back = cancel.is_cancelled() && self.state.is_handing_back();
        self.state.release(job.job_id);
        if handed_back {
            debug!(job_id = %job.job_id, "job handed back");
            return settle(delivery, Settlement::Return).await;
        }
        let (job_id, case) = (job.job_id, job.case.clone());
        let result = JobResult {
            job,
            attempt,
            worker_id: self.settings.worker_id.clone(),
            device: execution.device,
            started_at,
            finished_at: Timestamp::now(),
            outcome: execution.outcome,
        };
        if let Outcome::Failed(failure) = &result.outcome {
            warn!(%job_id, case, attempt, kind = %failure.kind, message = failure.message, "attempt failed");
        } else {
            debug!(%job_id, case, attempt, status = %result.status(), "job done");
        }
        if self.publish(result).await {
            self.state.count_done();
            settle(delivery, Settlement::Done).await;
        } else {
            tokio::time::sleep(RESULT_REFUSED_WAIT).await;
            settle(delivery, Settlement::Return).await;
        }
    }

    async fn execute(&self, job: &Job, cancel: &CancellationToken) -> Execution {
        if cancel.is_cancelled() {
            let failure = Failure {
                kind: FailureKind::Cancelled,
                message: "the job was cancelled before it started".to_owned(),
                output_tail: String::new(),
                suggestion: None,
            };
            return Execution { outcome: Outcome::Failed(failure), device: None };
        }
        self.runner.run(job, cancel).await
    }

    /// Publishes a result until the broker has it; `false` if it cannot be stored anywhere.
    async fn publish(&self, result: JobResult) -> bool {
        let (job_id, attempt) = (result.job.job_id, result.attempt);
        let Some(message) = encode_result(result) else { return false };
        loop {
            let outgoing = Outgoing {
                exchange: names::RESULTS.to_owned(),
                routing_key: String::new(),
                message_id: job_id.to_string(),
                attempt: Some(attempt),
                message: message.clone(),
            };
            match self.publisher.publish(outgoing).await {
                Ok(()) => return true,
                Err(error) if error.is_transient() => {
                    warn!(%job_id, %error, "result was not stored; publishing it again");
                    tokio::time::sleep(RESULT_REFUSED_WAIT).await;
                }
                Err(error) => {
                    warn!(%job_id, %error, "result cannot be stored; the job goes back to its queue");
                    return false;
                }
            }
        }
    }

    /// Waits for running jobs, then hands back what is left.
    async fn drain(&self, mut lanes: Lanes, mut running: JoinSet<()>) {
        self.state.set_draining();
        for waiting in lanes.waiting() {
            settle(waiting, Settlement::Return).await;
        }
        while running.try_join_next().is_some() {}
        info!(running = running.len(), grace_s = self.settings.grace.as_secs(), "worker drains");
        let finish = async { while running.join_next().await.is_some() {} };
        if tokio::time::timeout(self.settings.grace, finish).await.is_err() {
            info!(running = running.len(), "grace period is over; running jobs are handed back");
            self.state.hand_back();
            while running.join_next().await.is_some() {}
        }
        info!(jobs_done = self.state.heartbeat().jobs_done, "worker stopped");
    }
}

/// Encodes a result; one that is too large is replaced by a failure that says so.
fn encode_result(mut result: JobResult) -> Option<Encoded> {
    match encode(&result) {
        Ok(encoded) => Some(encoded),
        Err(error) => {
            result.outcome = Outcome::Failed(Failure {
                kind: FailureKind::InvalidJob,
                message: format!("the result cannot be sent: {error}"),
                output_tail: String::new(),
                suggestion: Some("ask for fewer iterations, or make the test print less".to_owned()),
            });
            encode(&result).inspect_err(|error| warn!(%error, "not even the failure can be sent")).ok()
        }
    }
}

async fn settle(delivery: Delivery, settlement: Settlement) {
    let message_id = delivery.message_id().unwrap_or_default().to_owned();
    if let Err(error) = delivery.settle(settlement).await {
        // Nothing is lost: the broker delivers again, and results count once.
        warn!(message_id, ?settlement, %error, "delivery could not be settled");
    }
}

/// Follows cancel orders.
async fn obey(mut control: Subscription, state: Arc<WorkerState>) {
    while let Some(delivery) = control.next().await {
        match delivery.decode::<Cancel>() {
            Ok(cancel) => state.cancel(cancel.target),
            Err(error) => warn!(error = %chain(&error), "control message does not decode"),
        }
        settle(delivery, Settlement::Done).await;
    }
}

/// Publishes signs of life.
async fn beat(publisher: Publisher, state: Arc<WorkerState>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(HEARTBEAT_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let heartbeat = state.heartbeat();
        let message = match encode(&heartbeat) {
            Ok(message) => message,
            Err(error) => {
                warn!(%error, "heartbeat cannot be sent");
                continue;
            }
        };
        let outgoing = Outgoing {
            exchange: names::HEARTBEATS.to_owned(),
            routing_key: String::new(),
            message_id: heartbeat.worker_id.to_string(),
            attempt: None,
            message,
        };
        if let Err(error) = publisher.publish(outgoing).await {
            warn!(%error, "heartbeat was not sent");
        }
    }
}

/// An error with its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
