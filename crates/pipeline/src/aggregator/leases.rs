//! Leases of claimed jobs: renewed by heartbeats, closed by results, and ended here when their worker falls silent.
//!
//! A lapsed lease is a failed attempt that nobody was left to report: the job goes to its next attempt or, after the
//! last, to the dead letters, exactly as its worker would have sent it.

mod alarm;
mod keeper;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use broker::{Outgoing, Publisher, Subscription};
use futures_util::future::select_all;
use messages::{AfterFailure, EncodeError, Failure, FailureKind, Heartbeat, JobClaimed, JobResult, Outcome, Timestamp};
use store::{Record, Store};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

pub(super) use alarm::listen;

use super::blocking;
use crate::{
    PipelineError,
    delivery::{after_failure, next_delay, outgoing_dead_letter, outgoing_failed_attempt, outgoing_retry, retry},
    worker::chain,
};
use keeper::LeaseKeeper;

/// Wait before a lapsed lease is tried again whose job could not be sent on.
const LAPSED_REFUSED_WAIT: Duration = Duration::from_secs(5);

/// The leases, shared by what hears of them.
pub(super) struct Leases {
    keeper: Mutex<LeaseKeeper>,
    /// A deadline may be nearer than before.
    nearer: Notify,
    /// Whether what the result stream said is known up to now, so far as it is heard.
    is_current: watch::Sender<bool>,
    /// Whether the broker lets anybody publish a heartbeat.
    is_open: watch::Sender<bool>,
}

/// Whether a worker that holds a job would be heard. A lease lapses only then: its result or its heartbeat may be
/// waiting.
pub(super) struct Hearing {
    /// What must be true: the records up to now are known, the broker has no alarm, and each subscription stands.
    parts: Vec<watch::Receiver<bool>>,
}

impl Hearing {
    /// Follows what `leases` is told of the records and the broker, and these subscriptions.
    pub(super) fn new(leases: &Leases, subscriptions: [&Subscription; 2]) -> Self {
        let told = [leases.is_current.subscribe(), leases.is_open.subscribe()];
        Self { parts: told.into_iter().chain(subscriptions.map(Subscription::standing)).collect() }
    }

    fn is_whole(&self) -> bool {
        self.parts.iter().all(|part| *part.borrow())
    }

    /// Waits for a change of any part, also one that was undone since; for ever once they have ended. Cancel-safe.
    async fn changed(&mut self) {
        let changes = self.parts.iter_mut().map(|part| Box::pin(part.changed()));
        if select_all(changes).await.0.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Leases {
    /// Takes over the claims that are open in the database; their workers get a whole lease's time to speak.
    ///
    /// # Errors
    ///
    /// [`PipelineError::Store`] if they cannot be read.
    pub(super) async fn load(store: &Store) -> Result<Self, PipelineError> {
        let mut keeper = LeaseKeeper::default();
        let now = Instant::now();
        for claim in open_claims(store).await? {
            keeper.open(claim, now);
        }
        Ok(Self { keeper: Mutex::new(keeper), is_current: watch::Sender::new(false), ..Self::empty() })
    }

    fn empty() -> Self {
        let holds = || watch::Sender::new(true);
        Self { keeper: Mutex::default(), nearer: Notify::new(), is_current: holds(), is_open: holds() }
    }

    /// Follows records that are committed.
    pub(super) fn note(&self, records: &[Record]) {
        let (mut keeper, now) = (self.lock(), Instant::now());
        let mut is_nearer = false;
        for record in records {
            is_nearer |= keeper.take(record, now);
        }
        drop(keeper);
        if is_nearer {
            self.nearer.notify_one();
        }
    }

    /// Renews what a worker holds.
    pub(super) fn renew(&self, heartbeat: &Heartbeat) {
        self.lock().renew(heartbeat, Instant::now());
    }

    /// Says whether all records up to now are committed.
    pub(super) fn set_current(&self, is_current: bool) {
        self.is_current.send_if_modified(|known| std::mem::replace(known, is_current) != is_current);
    }

    /// Says whether the broker lets anybody publish; gives whether that is news.
    fn set_open(&self, is_open: bool) -> bool {
        self.is_open.send_if_modified(|known| std::mem::replace(known, is_open) != is_open)
    }

    /// Ends leases as they lapse, until `stop`.
    pub(super) async fn keep(
        self: Arc<Self>,
        mut hearing: Hearing,
        store: Store,
        publisher: Publisher,
        stop: CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.until_lapsed(&mut hearing) => self.end_lapsed(&store, &publisher).await,
            }
        }
    }

    /// Waits until a lease has lapsed in a silence that was listened to.
    async fn until_lapsed(&self, hearing: &mut Hearing) {
        loop {
            let deadline = self.lock().next_deadline().filter(|_| hearing.is_whole());
            tokio::select! {
                // Whoever was not heard for a while gets a whole lease's time to speak, even if it is over just now.
                biased;
                () = hearing.changed() => {
                    if hearing.is_whole() {
                        self.lock().renew_all(Instant::now());
                    }
                }
                () = self.nearer.notified() => {}
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => return,
            }
        }
    }

    async fn end_lapsed(&self, store: &Store, publisher: &Publisher) {
        let lapsed = self.lock().lapsed(Instant::now());
        if lapsed.is_empty() {
            return;
        }
        // The database decides: it knows records in whatever order they came.
        let open = match open_claims(store).await {
            Ok(open) => open,
            Err(error) => {
                warn!(error = %chain(&error), "open claims cannot be read; lapsed leases wait");
                return self.postpone(&lapsed);
            }
        };
        for claim in &lapsed {
            if !open.contains(claim) {
                self.lock().forget(claim);
                continue;
            }
            let JobClaimed { job, attempt, worker_id, .. } = claim;
            warn!(job_id = %job.job_id, attempt, %worker_id, lease_ms = claim.lease_ms, "lease lapsed");
            match end(publisher, claim).await {
                Ok(()) => self.lock().forget(claim),
                Err(error) => {
                    error!(job_id = %job.job_id, error = %chain(&error), "job of a lapsed lease was not sent on");
                    self.postpone(std::slice::from_ref(claim));
                }
            }
        }
        // Nobody would notice the end of a claim that the database has instead of a forgotten one.
        let (mut keeper, now) = (self.lock(), Instant::now());
        for claim in open.into_iter().filter(|claim| !lapsed.contains(claim)) {
            keeper.open(claim, now);
        }
    }

    fn postpone(&self, claims: &[JobClaimed]) {
        let (mut keeper, now) = (self.lock(), Instant::now());
        for claim in claims {
            keeper.postpone(claim, LAPSED_REFUSED_WAIT, now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, LeaseKeeper> {
        // Nothing panics while holding it, and its content is valid after every statement.
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn open_claims(store: &Store) -> Result<Vec<JobClaimed>, PipelineError> {
    let store = store.clone();
    let open = blocking(move || store.open_claims()).await?;
    Ok(open.into_iter().map(|open| open.claim).collect())
}

/// Sends a job on whose worker is lost: first the job, then the news, each confirmed. Dying in between sends the job
/// twice, which counts once; the other way round it would be lost.
async fn end(publisher: &Publisher, claim: &JobClaimed) -> Result<(), PipelineError> {
    for outgoing in farewell(claim, Timestamp::now())? {
        publisher.publish(outgoing).await.map_err(PipelineError::broker("aggregator"))?;
    }
    Ok(())
}

/// The job on its way to its next attempt or to the dead letters, and what the result stream is told.
fn farewell(claim: &JobClaimed, now: Timestamp) -> Result<[Outgoing; 2], EncodeError> {
    let JobClaimed { job, attempt, worker_id, claimed_at, lease_ms } = claim;
    let failure = Failure {
        kind: FailureKind::WorkerLost,
        message: format!("worker {worker_id} held the job and was not heard of for {lease_ms} ms"),
        output_tail: String::new(),
        suggestion: None,
    };
    let next = after_failure(job, *attempt);
    let sent = retry(job.clone(), *attempt, worker_id, *claimed_at, now, &failure);
    let sent = match next {
        AfterFailure::Retry => outgoing_retry(&sent, attempt + 1, next_delay(1, &mut fastrand::Rng::new()))?,
        AfterFailure::DeadLetter => outgoing_dead_letter(&sent, *attempt, failure.kind.as_str())?,
    };
    let result = JobResult {
        job: job.clone(),
        attempt: *attempt,
        worker_id: worker_id.clone(),
        device: None,
        started_at: *claimed_at,
        finished_at: now,
        outcome: Outcome::Failed(failure),
    };
    Ok([sent, outgoing_failed_attempt(result, next)?])
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use messages::{FailedAttempt, Job, decode};
    use testkit::builders;

    use super::*;

    /// What must be heard: records, the broker's alarm, two subscriptions.
    const PARTS: usize = 4;

    fn farewell_of(attempt: u32) -> (Outgoing, Job, FailedAttempt) {
        let claim = JobClaimed {
            job: builders::benchmark_job(),
            attempt,
            worker_id: builders::worker_id(),
            claimed_at: builders::time(10),
            lease_ms: 60_000,
        };
        let [sent, told] = farewell(&claim, builders::time(85)).expect("small");
        let job = decode(Some(sent.message.message_type), Some(1), &sent.message.body).expect("a job");
        let told = decode(Some(told.message.message_type), Some(1), &told.message.body).expect("an attempt");
        (sent, job, told)
    }

    /// Everything heard, and a claim that was not renewed for longer than its lease, which lasts a minute here.
    fn silent() -> (Leases, Vec<watch::Sender<bool>>, Hearing) {
        let leases = Leases::empty();
        let parts: Vec<_> = (0..PARTS).map(|_| watch::Sender::new(true)).collect();
        let hearing = Hearing { parts: parts.iter().map(watch::Sender::subscribe).collect() };
        let (job, worker_id) = (builders::benchmark_job(), builders::worker_id());
        let claim = JobClaimed { job, attempt: 1, worker_id, claimed_at: builders::time(10), lease_ms: 48_000 };
        let long_ago = Instant::now().checked_sub(Duration::from_secs(61)).expect("the clock is older");
        leases.lock().open(claim, long_ago);
        (leases, parts, hearing)
    }

    fn has_lapsed(leases: &Leases, hearing: &mut Hearing) -> bool {
        leases.until_lapsed(hearing).now_or_never().is_some()
    }

    #[tokio::test]
    async fn no_lease_lapses_while_any_part_is_not_heard() {
        let (leases, _parts, mut hearing) = silent();
        assert!(has_lapsed(&leases, &mut hearing));
        for part in 0..PARTS {
            let (leases, parts, mut hearing) = silent();
            parts[part].send_replace(false);
            assert!(!has_lapsed(&leases, &mut hearing), "part {part} was not heard");
            parts[part].send_replace(true);
            assert!(!has_lapsed(&leases, &mut hearing), "who was not heard has a whole lease's time to speak");
            let left = leases.lock().next_deadline().expect("a lease").duration_since(Instant::now());
            assert!(left > Duration::from_secs(30), "{left:?}");
        }
    }

    #[tokio::test]
    async fn a_loss_that_is_over_counts_too() {
        let (leases, parts, mut hearing) = silent();
        parts[1].send_replace(false);
        parts[1].send_replace(true);
        assert!(!has_lapsed(&leases, &mut hearing));
    }

    #[test]
    fn a_lost_worker_costs_an_attempt() {
        let (sent, job, told) = farewell_of(2);
        assert_eq!((sent.exchange.as_str(), sent.routing_key.as_str()), ("retries.1s", "cpu.normal"));
        assert_eq!(sent.attempt, Some(3));
        assert_eq!(job.dispatch.history[0].failure.kind, FailureKind::WorkerLost);
        assert_eq!((told.next, told.result.attempt), (AfterFailure::Retry, 2));
        assert!(told.result.job.dispatch.history.is_empty());
    }

    #[test]
    fn after_the_last_attempt_the_job_is_a_dead_letter() {
        let (sent, job, told) = farewell_of(3);
        assert_eq!((sent.exchange.as_str(), sent.attempt), ("dead-letters", Some(3)));
        assert_eq!(sent.reason.as_deref(), Some("worker-lost"));
        assert_eq!(job.dispatch.history[0].attempt, 3);
        assert_eq!(told.next, AfterFailure::DeadLetter);
    }
}
