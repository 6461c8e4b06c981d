//! Which claimed jobs are held, by whom and until when. Pure: the time comes from outside.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use messages::{ClaimReturned, Heartbeat, JobClaimed, JobId, RunId, RunningJob, WorkerId};
use store::Record;
use tokio::time::Instant;
use uuid::Uuid;

/// What a lease lasts longer here than for the worker that holds it, in percent. A worker that cannot be heard ends its
/// leased jobs after the lease's own time: they must have ended when they are given to another.
const MARGIN_PCT: u32 = 25;

/// The open claims and their deadlines.
#[derive(Debug, Default)]
pub(super) struct LeaseKeeper {
    leases: BTreeMap<LeaseKey, Lease>,
}

/// Job, how often it was sent back from the dead letters, and the run: several may have the same job.
type LeaseKey = (JobId, u32, RunId);

fn key(claim: &JobClaimed) -> LeaseKey {
    (claim.job.job_id, claim.job.dispatch.replays, claim.job.run.run_id)
}

/// The keys of a job.
fn of_job(job_id: JobId) -> RangeInclusive<LeaseKey> {
    (job_id, 0, Uuid::nil().into())..=(job_id, u32::MAX, Uuid::max().into())
}

#[derive(Debug)]
struct Lease {
    claim: JobClaimed,
    deadline: Instant,
}

impl LeaseKeeper {
    /// Takes over a claim with a fresh deadline, unless a later one of the same job is known.
    pub(super) fn open(&mut self, claim: JobClaimed, now: Instant) {
        let key = key(&claim);
        let order = |claim: &JobClaimed| (claim.attempt, claim.claimed_at);
        if self.leases.get(&key).is_none_or(|known| order(&known.claim) < order(&claim)) {
            self.leases.insert(key, Lease { deadline: now + length(&claim), claim });
        }
    }

    /// Follows what the result stream says: a claim opens a lease; a result, the end of the attempt and a return
    /// close it. Says whether a deadline may be nearer now than before.
    pub(super) fn take(&mut self, record: &Record, now: Instant) -> bool {
        match record {
            Record::Claim(claim) => {
                self.open(claim.as_ref().clone(), now);
                return true;
            }
            Record::Result(result) => self.close(result.job.job_id, result.job.run.run_id, |_| true),
            Record::Attempt(attempt) => {
                let result = &attempt.result;
                self.close_attempt(
                    result.job.job_id,
                    result.job.run.run_id,
                    result.job.dispatch.replays,
                    result.attempt,
                );
            }
            Record::DeadLettered(dead) => {
                self.close_attempt(dead.job_id, dead.run_id, dead.replays, dead.attempt);
            }
            Record::ClaimReturned(returned) => self.close_returned(returned),
            Record::Run(_) | Record::Cancel(_) | Record::Replayed(_) | Record::QuarantineLifted(_) => {}
        }
        false
    }

    /// Renews what a worker says it holds.
    pub(super) fn renew(&mut self, heartbeat: &Heartbeat, now: Instant) {
        for running in heartbeat.running.iter().filter(|running| running.leased) {
            self.renew_job(running, &heartbeat.worker_id, now);
        }
    }

    /// Gives every lease a fresh deadline: nobody was listened to until now.
    pub(super) fn renew_all(&mut self, now: Instant) {
        for lease in self.leases.values_mut() {
            lease.deadline = now + length(&lease.claim);
        }
    }

    /// Whether no job is claimed.
    pub(super) fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// When the next lease lapses if nothing is heard until then.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.leases.values().map(|lease| lease.deadline).min()
    }

    /// The claims whose leases have lapsed; they stay until they are closed.
    pub(super) fn lapsed(&self, now: Instant) -> Vec<JobClaimed> {
        self.leases.values().filter(|lease| lease.deadline <= now).map(|lease| lease.claim.clone()).collect()
    }

    /// Forgets a claim that was dealt with.
    pub(super) fn forget(&mut self, claim: &JobClaimed) {
        self.close(claim.job.job_id, claim.job.run.run_id, |lease| lease.claim == *claim);
    }

    /// Looks at a lapsed claim again after `wait`.
    pub(super) fn postpone(&mut self, claim: &JobClaimed, wait: Duration, now: Instant) {
        if let Some(lease) = self.leases.get_mut(&key(claim)).filter(|lease| lease.claim == *claim) {
            lease.deadline = now + wait;
        }
    }

    fn renew_job(&mut self, running: &RunningJob, worker_id: &WorkerId, now: Instant) {
        for ((_, _, run_id), lease) in self.leases.range_mut(of_job(running.job_id)) {
            let claim = &lease.claim;
            if *run_id == running.run_id && claim.worker_id == *worker_id && claim.attempt == running.attempt {
                lease.deadline = now + length(&lease.claim);
            }
        }
    }

    fn close_attempt(&mut self, job_id: JobId, run_id: RunId, replays: u32, attempt: u32) {
        self.close(job_id, run_id, |lease| {
            lease.claim.job.dispatch.replays == replays && lease.claim.attempt <= attempt
        });
    }

    fn close_returned(&mut self, returned: &ClaimReturned) {
        self.close(returned.job_id, returned.run_id, |lease| {
            lease.claim.worker_id == returned.worker_id && lease.claim.claimed_at <= returned.returned_at
        });
    }

    fn close(&mut self, job_id: JobId, run_id: RunId, is_over: impl Fn(&Lease) -> bool) {
        // Every result comes by here, and hardly any job is claimed.
        if self.leases.is_empty() {
            return;
        }
        let of_job = self.leases.range(of_job(job_id));
        let over: Vec<_> =
            of_job.filter(|(key, lease)| key.2 == run_id && is_over(lease)).map(|(key, _)| *key).collect();
        for key in over {
            self.leases.remove(&key);
        }
    }
}

/// How long a lease lasts here.
fn length(claim: &JobClaimed) -> Duration {
    let lease = Duration::from_millis(claim.lease_ms.min(LEASE_MS_LIMIT));
    lease + lease * MARGIN_PCT / 100
}

/// Longest lease that a claim may ask for, in milliseconds: a day. It bounds the arithmetic, not anybody's settings.
const LEASE_MS_LIMIT: u64 = 24 * 60 * 60 * 1_000;

#[cfg(test)]
mod tests;
