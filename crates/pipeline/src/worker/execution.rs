//! One job, from its delivery to its settlement.

use std::time::Duration;

use broker::{Delivery, Outgoing, Publisher, Settlement};
use futures_util::{StreamExt, stream};
use messages::{
    AfterFailure, ClaimReturned, EncodeError, Failure, FailureKind, Job, JobClaimed, JobResult, Outcome, Timestamp,
};
use runner::{Charge, Execute, Execution};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    WorkerSettings, chain,
    pace::Pace,
    settle,
    state::{Begin, Registered, WorkerState, key},
    turn::{Others, Turn},
};
use crate::{
    delivery::{
        Delay, charged, delay_until, ensure_fits, next_delay, outgoing_claim, outgoing_dead_letter,
        outgoing_failed_attempt, outgoing_hand_back, outgoing_record, outgoing_retry, retry, shorten,
    },
    failpoint,
};

/// Wait before something is published again that the broker could not store.
const REFUSED_WAIT: Duration = Duration::from_secs(5);
/// Waiting jobs that are handed back at once: half of what a channel lets be under way to a quorum queue (32) before it
/// keeps acks back, and what may run twice if there is no time for the rest.
const HANDED_BACK_AT_ONCE: usize = 16;
/// Returns by the broker after which a job is claimed before it starts: it may have killed its workers, and the lapse of
/// its lease then charges it, and makes it run alone.
const RETURNS_TRUSTED_MAX: u32 = 1;
/// Why a job is a dead letter that brings down whatever runs it.
const POISON: &str = "poison";
/// How long a job that may not run here now stays in the delay lanes: as after this failed attempt.
const LATER_AS_ATTEMPT: u32 = 2;

/// What all jobs of a worker share.
pub(super) struct Worker<E> {
    pub(super) executor: E,
    pub(super) publisher: Publisher,
    pub(super) state: std::sync::Arc<WorkerState>,
    pub(super) pace: Pace,
    pub(super) settings: WorkerSettings,
}

/// How the worker holds a job that it runs.
enum Hold {
    /// Unacked: the broker delivers it again if this worker dies.
    Delivery(Box<Delivery>),
    /// Claimed and acked: the aggregator returns it if the lease lapses.
    Lease,
}

/// What becomes of the job's message in the end.
enum End {
    /// Something that replaces it is confirmed.
    Replaced,
    /// Nothing could be stored; the broker keeps it.
    Kept,
}

impl<E: Execute> Worker<E> {
    /// One job from delivery to settlement.
    pub(super) async fn handle(&self, delivery: Delivery, turn: Turn) {
        let job = match delivery.decode::<Job>() {
            Ok(job) => job,
            Err(error) => {
                warn!(message_id = delivery.message_id(), error = %chain(&error), "job does not decode; it becomes a dead letter");
                return settle(delivery, Settlement::DeadLetter).await;
            }
        };
        if let Err(error) = ensure_fits(&job, delivery.body().len()) {
            warn!(job_id = %job.job_id, error = %chain(&error), "job is too large; it becomes a dead letter");
            return settle(delivery, Settlement::DeadLetter).await;
        }
        let attempt = delivery.attempt();
        if let Some(delay) = self.not_now(&job) {
            return self.hand_back(&job, delivery, Some(delay)).await;
        }
        let (cancel, delivery) = match self.state.begin(&job, attempt, delivery) {
            Begin::Run(cancel, delivery) => (cancel, delivery),
            // The broker lost sight of us and delivered again what runs here; it is settled with it.
            Begin::Attached => return,
            Begin::Ended(delivery) => return settle(delivery, Settlement::Done).await,
            Begin::Busy(delivery) => return self.hand_back(&job, delivery, Some(later())).await,
        };
        let job_id = job.job_id;
        let registered = Registered::new(&self.state, key(&job, attempt));
        let mut hold = Hold::Delivery(Box::new(delivery));
        let executed = self.execute(&job, attempt, turn, &cancel, &mut hold).await;
        let end = if self.state.is_fenced(job_id) {
            warn!(%job_id, "the lease could not be renewed: the job was ended, and runs elsewhere");
            End::Replaced
        } else if let Some((started_at, execution)) = executed {
            self.conclude(job, attempt, started_at, execution).await
        } else {
            self.give_up(&job, attempt).await
        };
        let spares = registered.end(matches!(end, End::Replaced));
        let settlement = if matches!(end, End::Replaced) { Settlement::Done } else { Settlement::Return };
        if let Hold::Delivery(delivery) = hold {
            settle(*delivery, settlement).await;
        }
        for spare in spares {
            settle(spare, settlement).await;
        }
    }

    /// Why a job must not start here and now, as a stay in a delay lane.
    fn not_now(&self, job: &Job) -> Option<Delay> {
        if self.state.is_cancelled(job) {
            return None;
        }
        if let Some(delay) = job.dispatch.due_at.and_then(|due_at| delay_until(due_at, Timestamp::now())) {
            return Some(delay);
        }
        let unmet = job.dispatch.requirements.unmet_by(self.state.offer()).or_else(|| self.executor.unmet(job))?;
        debug!(job_id = %job.job_id, unmet, "this worker may not take the job; it is handed on");
        Some(later())
    }

    /// Waits for the job's turn and runs it; claims it if it is to run alone, or takes long. Says when it began and what
    /// came of it, or `None` if it is to be handed back.
    async fn execute(
        &self,
        job: &Job,
        attempt: u32,
        turn: Turn,
        cancel: &CancellationToken,
        hold: &mut Hold,
    ) -> Option<(Timestamp, Execution)> {
        let claim_at = Instant::now() + self.settings.claim_after;
        let is_alone = turn.is_alone();
        let turn = self.turn(job, turn, cancel);
        let _others = self.holding(job, attempt, claim_at, hold, turn).await?;
        let started_at = Timestamp::now();
        self.state.start(job.job_id, started_at);
        let execution = if cancel.is_cancelled() {
            cancelled_before()
        } else {
            let returns = if let Hold::Delivery(delivery) = &*hold { Some(delivery.returns()) } else { None };
            if returns.is_some_and(|returns| is_alone || returns > RETURNS_TRUSTED_MAX) {
                info!(job_id = %job.job_id, returns, is_alone, "the job may have killed its worker; it is claimed");
                self.claim(job, attempt, hold).await;
            }
            let report = |progress| self.state.report(job.job_id, progress);
            let run = self.executor.run_reporting(job, cancel, &report);
            self.holding(job, attempt, claim_at, hold, run).await
        };
        let was_cancelled =
            matches!(&execution.outcome, Outcome::Failed(failure) if failure.kind == FailureKind::Cancelled);
        let is_handed_back = was_cancelled && self.state.is_handing_back();
        (!is_handed_back).then_some((started_at, execution))
    }

    /// Waits until the job may begin or is cancelled; gives what it keeps to run alone, or `None` if the worker takes no
    /// more jobs.
    async fn turn(&self, job: &Job, turn: Turn, cancel: &CancellationToken) -> Option<Others> {
        let coming = async {
            let others = turn.come().await?;
            self.pace.wait(job.platform).await;
            Some(others)
        };
        tokio::select! {
            others = coming => others,
            () = cancel.cancelled() => Some(Others::default()),
        }
    }

    /// Does a job's work, and claims the job if that goes on past `claim_at`.
    async fn holding<T>(
        &self,
        job: &Job,
        attempt: u32,
        claim_at: Instant,
        hold: &mut Hold,
        work: impl Future<Output = T>,
    ) -> T {
        let claiming = async {
            tokio::time::sleep_until(claim_at).await;
            self.publish_claim(job, attempt).await
        };
        tokio::pin!(work, claiming);
        let mut tried = matches!(hold, Hold::Lease);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                claimed = &mut claiming, if !tried => {
                    tried = true;
                    if claimed {
                        self.leased(job, hold).await;
                    }
                }
            }
        }
    }

    async fn claim(&self, job: &Job, attempt: u32, hold: &mut Hold) {
        if self.publish_claim(job, attempt).await {
            self.leased(job, hold).await;
        }
    }

    async fn publish_claim(&self, job: &Job, attempt: u32) -> bool {
        debug!(job_id = %job.job_id, "claiming the job");
        self.state.note_claiming(job.job_id);
        let claim = JobClaimed {
            job: job.clone(),
            attempt,
            worker_id: self.settings.worker_id.clone(),
            claimed_at: Timestamp::now(),
            lease_ms: u64::try_from(self.settings.lease.as_millis()).unwrap_or(u64::MAX),
        };
        self.store(outgoing_claim(claim)).await
    }

    /// The claim is stored: from here on heartbeats hold the job, and the broker may forget it.
    async fn leased(&self, job: &Job, hold: &mut Hold) {
        info!(job_id = %job.job_id, lease_s = self.settings.lease.as_secs(), "job claimed");
        let spares = self.state.note_lease(job.job_id);
        if let Hold::Delivery(delivery) = std::mem::replace(hold, Hold::Lease) {
            settle(*delivery, Settlement::Done).await;
        }
        for spare in spares {
            settle(spare, Settlement::Done).await;
        }
    }

    /// Publishes what came of an attempt.
    async fn conclude(&self, job: Job, attempt: u32, started_at: Timestamp, execution: Execution) -> End {
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
            if execution.charge != Charge::Attempt || failure.kind.is_retryable() {
                return self.fail(result, execution.charge).await;
            }
        } else {
            debug!(%job_id, case, attempt, status = %result.status(), "job done");
        }
        if !self.store(outgoing_result(result)).await {
            return End::Kept;
        }
        failpoint::hit(failpoint::WORKER_AFTER_CONFIRM);
        self.state.count_done();
        End::Replaced
    }

    /// Sends a job whose attempt failed to its next one, or to the dead letters.
    async fn fail(&self, result: JobResult, charge: Charge) -> End {
        let JobResult { job, attempt, worker_id, started_at, finished_at, outcome, .. } = &result;
        let (job_id, attempt) = (job.job_id, *attempt);
        let Outcome::Failed(failure) = outcome else { return End::Kept };
        let mut again = retry(job.clone(), attempt, worker_id, *started_at, *finished_at, failure);
        let next = charged(&mut again, attempt, charge);
        let reason = if charge == Charge::Everything { POISON } else { failure.kind.as_str() };
        let record = outgoing_failed_attempt(result, next);
        let sent_on = match next {
            AfterFailure::Retry => outgoing_retry(&again, attempt + 1, next_delay(attempt, &mut fastrand::Rng::new())),
            AfterFailure::DeadLetter => {
                warn!(%job_id, attempt, reason, "the last attempt failed; the job becomes a dead letter");
                outgoing_dead_letter(&again, attempt, reason)
            }
        };
        // First the job: the record ends a claim, and dying in between would lose what is nowhere else.
        if self.store(sent_on).await && self.store(record).await {
            self.state.count_done();
            End::Replaced
        } else {
            End::Kept
        }
    }

    /// Puts back what runs here, without a charge. A claim whose confirm had not come yet may be on the stream all the
    /// same, and its lease would lapse; the return comes behind it, since one exchange's messages keep their order.
    async fn give_up(&self, job: &Job, attempt: u32) -> End {
        debug!(job_id = %job.job_id, "job handed back");
        let is_claimed = self.state.may_be_claimed(job.job_id);
        let stored = self.store(outgoing_hand_back(job, attempt, None)).await;
        let returned = || ClaimReturned {
            job_id: job.job_id,
            run_id: job.run.run_id,
            attempt,
            worker_id: self.settings.worker_id.clone(),
            returned_at: Timestamp::now(),
        };
        if stored && (!is_claimed || self.store(outgoing_record(job.job_id.to_string(), &returned())).await) {
            End::Replaced
        } else {
            End::Kept
        }
    }

    /// Hands back jobs that have not started.
    pub(super) async fn hand_back_all(&self, waiting: Vec<Delivery>) {
        let handing = stream::iter(waiting).for_each_concurrent(HANDED_BACK_AT_ONCE, |delivery| async move {
            match delivery.decode::<Job>() {
                Ok(job) => self.hand_back(&job, delivery, None).await,
                // The next worker that has a slot for it says what is wrong with it.
                Err(_) => settle(delivery, Settlement::Return).await,
            }
        });
        handing.await;
    }

    async fn hand_back(&self, job: &Job, delivery: Delivery, delay: Option<Delay>) {
        let outgoing = outgoing_hand_back(job, delivery.attempt(), delay);
        // A job that kills its workers must not become beyond suspicion by waiting for its turn.
        let stored = self.store(outgoing.map(|outgoing| outgoing.returns(delivery.returns()))).await;
        settle(delivery, if stored { Settlement::Done } else { Settlement::Return }).await;
    }

    /// Publishes until the broker has it; `false` if it cannot be stored anywhere.
    async fn store(&self, outgoing: Result<Outgoing, EncodeError>) -> bool {
        let outgoing = match outgoing {
            Ok(outgoing) => outgoing,
            Err(error) => {
                warn!(error = %chain(&error), "a message cannot be sent");
                return false;
            }
        };
        loop {
            match self.publisher.publish(outgoing.clone()).await {
                Ok(()) => return true,
                Err(error) if error.is_transient() => {
                    warn!(message_id = outgoing.message_id, %error, "message was not stored; publishing it again");
                    tokio::time::sleep(REFUSED_WAIT).await;
                }
                Err(error) => {
                    warn!(message_id = outgoing.message_id, %error, "message cannot be stored; the job goes back to its queue");
                    tokio::time::sleep(REFUSED_WAIT).await;
                    return false;
                }
            }
        }
    }
}

/// A stay in the delay lanes of a job that may not run here now.
fn later() -> Delay {
    next_delay(LATER_AS_ATTEMPT, &mut fastrand::Rng::new())
}

fn cancelled_before() -> Execution {
    let failure = Failure {
        kind: FailureKind::Cancelled,
        message: "the job was cancelled before it started".to_owned(),
        output_tail: String::new(),
        suggestion: None,
    };
    Execution { outcome: Outcome::Failed(failure), device: None, charge: Charge::Attempt }
}

/// A result on its way out; one that is too large is replaced by a failure that says so.
fn outgoing_result(mut result: JobResult) -> Result<Outgoing, EncodeError> {
    let (job_id, attempt) = (result.job.job_id.to_string(), result.attempt);
    let outgoing = outgoing_record(job_id.clone(), &result).or_else(|error| {
        result.outcome = Outcome::Failed(Failure {
            kind: FailureKind::InvalidJob,
            message: format!("the result cannot be sent: {error}"),
            output_tail: String::new(),
            suggestion: Some("ask for fewer iterations, or make the test print less".to_owned()),
        });
        outgoing_record(job_id.clone(), &result).or_else(|_| {
            shorten(&mut result);
            outgoing_record(job_id, &result)
        })
    });
    Ok(outgoing?.attempt(attempt))
}
