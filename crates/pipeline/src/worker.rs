//! The worker: takes jobs from their lanes, runs them, publishes results.
//!
//! One job's way: decode, check that it is due and fits, run, publish what came of it, settle. A job is settled only
//! after that is confirmed, so a worker that dies at any point loses nothing: the broker delivers the job again, and
//! a result that was already published counts once, by its job id. A job that takes long is claimed: it lies in the
//! result stream instead of unacked, under a lease that the aggregator keeps. One that may have killed its worker is
//! claimed before it begins, and runs alone.

mod execution;
mod lanes;
mod news;
mod pace;
mod state;
mod turn;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use broker::{AmqpUrl, Delivery, Link, Patience, Publisher, Settlement, Start, Subscription};
use messages::{Platform, WorkerId};
use runner::Execute;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use topology::names;
use tracing::{error, info, warn};

use crate::PipelineError;
use execution::Worker;
use lanes::Lanes;
use news::{beat, obey};
use pace::Pace;
use state::WorkerState;
use turn::{Turn, is_suspect};

/// Cancel orders read ahead.
const CONTROL_PREFETCH: u16 = 100;

/// How long handing jobs back may take before the broker is left to return them: it does once we are gone.
const HAND_BACK_MAX: Duration = Duration::from_secs(10);

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
    /// Words that jobs may ask for.
    pub tags: Vec<String>,
    /// Jobs that it runs at once.
    pub concurrency: u16,
    /// Deliveries per lane that it holds at once, at least `concurrency`; more lets short jobs flow faster.
    pub prefetch: u16,
    /// Jobs that it starts per second, by platform; any number where there is none.
    pub rate_limits: BTreeMap<Platform, f64>,
    /// How long jobs may wait here for a free slot before they are handed back.
    pub hold_max: Duration,
    /// How long a job may run before it is claimed; well below RabbitMQ's acknowledgement timeout.
    pub claim_after: Duration,
    /// How long a claim holds after the last heartbeat.
    pub lease: Duration,
    /// How long running jobs may go on after the stop before they are handed back.
    pub grace: Duration,
    /// How long the broker may take to appear.
    pub patience: Patience,
}

/// Runs a worker until `stop`, then lets running jobs finish for the grace period and hands back the rest.
///
/// `executor` executes its jobs, natively or in browsers; the worker knows nothing of either.
///
/// # Errors
///
/// [`PipelineError::Broker`] if no broker answers in time or it lacks the queues.
pub async fn work<E: Execute>(
    url: &AmqpUrl,
    settings: WorkerSettings,
    executor: E,
    stop: CancellationToken,
) -> Result<(), PipelineError> {
    // Publishing, heartbeats and subscriptions go on while running jobs drain.
    let links = CancellationToken::new();
    let _links_end_with_us = links.clone().drop_guard();
    let failed = || PipelineError::broker("worker");
    let name = |purpose: &str| format!("augur worker {} {purpose}", settings.worker_id);
    let publisher =
        Publisher::start(url, &name("publish"), settings.patience, links.clone()).await.map_err(failed())?.patient();
    let state = Arc::new(WorkerState::new(&settings, executor.devices(), executor.browsers()));
    let link = Link::new(url, &name("read"), settings.patience, &links);
    // Subscribed before the lanes: orders that are there already are mostly read before the first job comes.
    let control = Subscription::on(&link, names::CONTROL, Start::StreamFirst, CONTROL_PREFETCH).await;
    let control = control.map_err(failed())?;
    tokio::spawn(obey(control, Arc::clone(&state)));
    tokio::spawn(beat(publisher.clone(), Arc::clone(&state), settings.lease, links.clone()));
    let lanes = Lanes::subscribe(&link, &settings).await.map_err(failed())?;
    info!(worker_id = %settings.worker_id, platforms = ?settings.platforms, concurrency = settings.concurrency, "worker ready");

    let pace = Pace::new(&settings.rate_limits);
    let slots = Arc::new(Semaphore::new(usize::from(settings.concurrency)));
    let worker = Arc::new(Worker { executor, publisher, state, pace, settings });
    let mut intake = Intake { worker, lanes, slots, running: JoinSet::new() };
    intake.take_until(&stop).await;
    intake.drain().await;
    links.cancel();
    // What was settled last must not come back because we are gone too soon.
    link.close().await;
    Ok(())
}

/// Takes jobs from the lanes and starts them.
struct Intake<E> {
    worker: Arc<Worker<E>>,
    lanes: Lanes,
    slots: Arc<Semaphore>,
    running: JoinSet<()>,
}

impl<E: Execute> Intake<E> {
    async fn take_until(&mut self, stop: &CancellationToken) {
        while let Some(slot) = self.free_slots(1, stop).await {
            let delivery = tokio::select! {
                biased;
                // A broker that is away must not keep us from stopping.
                () = stop.cancelled() => return,
                delivery = self.next() => match delivery {
                    Some(delivery) => delivery,
                    None => return,
                },
            };
            if is_suspect(&delivery) {
                self.begin_alone(delivery, slot, stop).await;
            } else {
                self.begin(delivery, Turn::Now, slot);
            }
            while let Some(ended) = self.running.try_join_next() {
                ended.unwrap_or_else(
                    |panic| error!(%panic, "a job's task panicked; the broker or the lease returns the job"),
                );
            }
        }
    }

    async fn next(&mut self) -> Option<Delivery> {
        self.lanes.resume().await;
        self.lanes.next().await
    }

    /// Starts a job; what it keeps is let go at its end.
    fn begin(&mut self, delivery: Delivery, turn: Turn, keeps: impl Send + 'static) {
        let worker = Arc::clone(&self.worker);
        self.running.spawn(async move {
            worker.handle(delivery, turn).await;
            drop(keeps);
        });
    }

    /// Starts a job that gets all other slots as soon as they are free, unless it has ended without them by then.
    async fn begin_alone(&mut self, delivery: Delivery, slot: OwnedSemaphorePermit, stop: &CancellationToken) {
        let ended = stop.child_token();
        let (turn, comes) = oneshot::channel();
        self.begin(delivery, Turn::Alone(comes), (slot, ended.clone().drop_guard()));
        let others = u32::from(self.worker.settings.concurrency).saturating_sub(1);
        if let Some(others) = self.free_slots(others, &ended).await {
            // A job that has ended meanwhile gives them back.
            turn.send(others).unwrap_or_else(drop);
        }
    }

    /// Waits for slots, unless there is no need any more; jobs that wait here meanwhile go back, so that idle workers may
    /// have them.
    async fn free_slots(&mut self, count: u32, no_need: &CancellationToken) -> Option<OwnedSemaphorePermit> {
        let slots = Arc::clone(&self.slots);
        let free = slots.acquire_many_owned(count);
        tokio::pin!(free);
        let held = tokio::time::sleep(self.worker.settings.hold_max);
        tokio::pin!(held);
        loop {
            tokio::select! {
                biased;
                () = no_need.cancelled() => return None,
                slots = &mut free => return slots.ok(),
                () = &mut held, if !self.lanes.is_paused() => {
                    let handing = async {
                        self.lanes.pause().await;
                        self.worker.hand_back_all(self.lanes.waiting()).await;
                    };
                    tokio::pin!(handing);
                    tokio::select! {
                        () = &mut handing => {}
                        () = no_need.cancelled() => {
                            // A job that is handed back by half runs twice; the drain goes on with what is left.
                            tokio::time::timeout(HAND_BACK_MAX, handing).await.unwrap_or_default();
                            return None;
                        }
                    }
                }
            }
        }
    }

    /// Waits for running jobs, then hands back what is left.
    async fn drain(mut self) {
        let (state, grace) = (&self.worker.state, self.worker.settings.grace);
        state.set_draining();
        let handing = async {
            self.lanes.pause().await;
            self.worker.hand_back_all(self.lanes.waiting()).await;
        };
        if tokio::time::timeout(HAND_BACK_MAX, handing).await.is_err() {
            warn!("waiting jobs could not be handed back in time; the broker returns them");
        }
        while self.running.try_join_next().is_some() {}
        info!(running = self.running.len(), grace_s = grace.as_secs(), "worker drains");
        let finish = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, finish).await.is_err() {
            info!(running = self.running.len(), "grace period is over; running jobs are handed back");
            state.hand_back();
            let handed_back = async { while self.running.join_next().await.is_some() {} };
            if tokio::time::timeout(HAND_BACK_MAX, handed_back).await.is_err() {
                warn!(running = self.running.len(), "running jobs could not be handed back in time");
                self.running.shutdown().await;
            }
        }
        info!(jobs_done = state.heartbeat().jobs_done, "worker stopped");
    }
}

async fn settle(delivery: Delivery, settlement: Settlement) {
    let message_id = delivery.message_id().unwrap_or_default().to_owned();
    if let Err(error) = delivery.settle(settlement).await {
        // Nothing is lost: the broker delivers again, and results count once.
        warn!(message_id, ?settlement, %error, "delivery could not be settled");
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
