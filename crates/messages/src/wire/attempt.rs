//! Failed attempts, claims, dead letters and their replays on the wire.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Invalid, job::JobV1, result::JobResultV1, word};
use crate::{
    AfterFailure, ClaimReturned, DeadLetterReplayed, DeadLettered, FailedAttempt, JobClaimed, JobResult, Outcome,
    Timestamp, WorkerId,
};

#[derive(Serialize, Deserialize)]
pub(super) struct FailedAttemptV1 {
    result: JobResultV1,
    next: String,
}

impl From<&FailedAttempt> for FailedAttemptV1 {
    fn from(attempt: &FailedAttempt) -> Self {
        Self { result: (&attempt.result).into(), next: attempt.next.as_str().to_owned() }
    }
}

impl TryFrom<FailedAttemptV1> for FailedAttempt {
    type Error = Invalid;

    fn try_from(on_wire: FailedAttemptV1) -> Result<Self, Invalid> {
        let result = JobResult::try_from(on_wire.result)?;
        if !matches!(result.outcome, Outcome::Failed(_)) {
            return Err(Invalid::new("outcome", "a failed attempt has a failure"));
        }
        let next = [AfterFailure::Retry, AfterFailure::DeadLetter]
            .into_iter()
            .find(|next| next.as_str() == on_wire.next)
            .ok_or_else(|| Invalid::new("next", format!("`{}` follows no attempt", on_wire.next)))?;
        Ok(Self { result, next })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct JobClaimedV1 {
    job: JobV1,
    attempt: u32,
    worker_id: String,
    claimed_at_us: i64,
    lease_ms: u64,
}

impl From<&JobClaimed> for JobClaimedV1 {
    fn from(claim: &JobClaimed) -> Self {
        Self {
            job: (&claim.job).into(),
            attempt: claim.attempt,
            worker_id: claim.worker_id.to_string(),
            claimed_at_us: claim.claimed_at.as_micros(),
            lease_ms: claim.lease_ms,
        }
    }
}

impl TryFrom<JobClaimedV1> for JobClaimed {
    type Error = Invalid;

    fn try_from(on_wire: JobClaimedV1) -> Result<Self, Invalid> {
        Ok(Self {
            job: on_wire.job.try_into()?,
            attempt: on_wire.attempt,
            worker_id: word::<WorkerId>("worker_id", &on_wire.worker_id)?,
            claimed_at: Timestamp::from_micros(on_wire.claimed_at_us),
            lease_ms: on_wire.lease_ms,
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct DeadLetteredV1 {
    job_id: Uuid,
    run_id: Uuid,
    replays: u32,
    attempt: u32,
    platform: String,
    case: Option<String>,
    reason: String,
    message: String,
    died_at_us: i64,
}

impl From<&DeadLettered> for DeadLetteredV1 {
    fn from(dead: &DeadLettered) -> Self {
        Self {
            job_id: dead.job_id.into(),
            run_id: dead.run_id.into(),
            replays: dead.replays,
            attempt: dead.attempt,
            platform: dead.platform.to_string(),
            case: dead.case.clone(),
            reason: dead.reason.clone(),
            message: dead.message.clone(),
            died_at_us: dead.died_at.as_micros(),
        }
    }
}

impl TryFrom<DeadLetteredV1> for DeadLettered {
    type Error = Invalid;

    fn try_from(on_wire: DeadLetteredV1) -> Result<Self, Invalid> {
        Ok(Self {
            job_id: on_wire.job_id.into(),
            run_id: on_wire.run_id.into(),
            replays: on_wire.replays,
            attempt: on_wire.attempt,
            platform: word("platform", &on_wire.platform)?,
            case: on_wire.case,
            reason: on_wire.reason,
            message: on_wire.message,
            died_at: Timestamp::from_micros(on_wire.died_at_us),
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct DeadLetterReplayedV1 {
    job_id: Uuid,
    run_id: Uuid,
    replays: u32,
    replayed_at_us: i64,
}

impl From<&DeadLetterReplayed> for DeadLetterReplayedV1 {
    fn from(replayed: &DeadLetterReplayed) -> Self {
        Self {
            job_id: replayed.job_id.into(),
            run_id: replayed.run_id.into(),
            replays: replayed.replays,
            replayed_at_us: replayed.replayed_at.as_micros(),
        }
    }
}

impl TryFrom<DeadLetterReplayedV1> for DeadLetterReplayed {
    type Error = Invalid;

    fn try_from(on_wire: DeadLetterReplayedV1) -> Result<Self, Invalid> {
        Ok(Self {
            job_id: on_wire.job_id.into(),
            run_id: on_wire.run_id.into(),
            replays: on_wire.replays,
            replayed_at: Timestamp::from_micros(on_wire.replayed_at_us),
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct ClaimReturnedV1 {
    job_id: Uuid,
    run_id: Uuid,
    attempt: u32,
    worker_id: String,
    returned_at_us: i64,
}

impl From<&ClaimReturned> for ClaimReturnedV1 {
    fn from(returned: &ClaimReturned) -> Self {
        Self {
            job_id: returned.job_id.into(),
            run_id: returned.run_id.into(),
            attempt: returned.attempt,
            worker_id: returned.worker_id.to_string(),
            returned_at_us: returned.returned_at.as_micros(),
        }
    }
}

impl TryFrom<ClaimReturnedV1> for ClaimReturned {
    type Error = Invalid;

    fn try_from(on_wire: ClaimReturnedV1) -> Result<Self, Invalid> {
        Ok(Self {
            job_id: on_wire.job_id.into(),
            run_id: on_wire.run_id.into(),
            attempt: on_wire.attempt,
            worker_id: word::<WorkerId>("worker_id", &on_wire.worker_id)?,
            returned_at: Timestamp::from_micros(on_wire.returned_at_us),
        })
    }
}
