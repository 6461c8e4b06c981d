//! Where a job goes when it is not done: to a delay lane, back to its lane, or to the dead letters.
//!
//! Pure functions, shared by the worker (which makes the attempts) and the aggregator (which ends the attempts of
//! workers that were not heard of again). Who calls them publishes, awaits the confirm, then settles.

use broker::Outgoing;
use messages::{
    AfterFailure, BODY_BYTES_MAX, Dispatch, EncodeError, Encoded, FailedAttempt, Failure, Job, JobClaimed, JobResult,
    Message, Outcome, PastAttempt, Timestamp, WorkerId, encode,
};
use runner::Charge;
use topology::names;

/// Steps of the ladder that retries climb; the longer ones are for jobs with a due time.
const RETRY_STEPS_MAX: usize = 5;

/// Largest job without its history, in bytes: 64 KiB less than a message, so that whatever carries it (a claim, a failed
/// attempt, a result that says what was wrong) is a message too.
pub(crate) const JOB_BYTES_MAX: usize = BODY_BYTES_MAX - 64 * 1024;

/// A stay in a delay lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delay {
    /// Which lane, e.g. `30s`.
    pub(crate) step: &'static str,
    /// When the message leaves it, in milliseconds: at most the lane's own time.
    pub(crate) expiration_ms: u64,
}

/// How long to wait after this attempt (counted from 1) has failed: one step further with each, the last step from
/// then on, and a random part of its second half less, so that jobs that failed together do not return together.
pub(crate) fn next_delay(attempt: u32, random: &mut fastrand::Rng) -> Delay {
    let ladder = &names::DELAYS[..names::DELAYS.len().min(RETRY_STEPS_MAX)];
    let index = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX).min(ladder.len() - 1);
    let (step, step_ms) = ladder[index];
    Delay { step, expiration_ms: random.u64(step_ms / 2..=step_ms) }
}

/// The delay lane that brings a job nearest to its due time and not past it; `None` if it is due.
///
/// The largest step that fits, or the rest of the time in the smallest.
pub(crate) fn delay_until(due_at: Timestamp, now: Timestamp) -> Option<Delay> {
    // A rest of less than a millisecond is waited for too: early is wrong, late is not.
    let left_us = u64::try_from(due_at.as_micros().saturating_sub(now.as_micros())).ok().filter(|rest| *rest > 0)?;
    let waiting_ms = left_us.div_ceil(1_000);
    let largest = names::DELAYS.iter().rev().find(|(_, step_ms)| *step_ms <= waiting_ms);
    let (step, expiration_ms) = largest.map_or((names::DELAYS[0].0, waiting_ms), |(step, step_ms)| (*step, *step_ms));
    Some(Delay { step, expiration_ms })
}

/// The job with a failed attempt more in its history, cut to what may travel with it.
pub(crate) fn retry(
    mut job: Job,
    attempt: u32,
    worker_id: &WorkerId,
    started_at: Timestamp,
    finished_at: Timestamp,
    failure: &Failure,
) -> Job {
    let mut failure = failure.clone();
    keep_end(&mut failure.output_tail, Dispatch::OUTPUT_TAIL_BYTES_MAX);
    keep_begin(&mut failure.message, Dispatch::OUTPUT_TAIL_BYTES_MAX);
    let history = &mut job.dispatch.history;
    history.push(PastAttempt { attempt, worker_id: worker_id.clone(), started_at, finished_at, failure });
    // A dead letter that was sent back brings its history along: the newest attempts say most.
    let surplus = history.len().saturating_sub(Dispatch::ATTEMPTS_LIMIT as usize);
    history.drain(..surplus);
    job
}

/// What follows a failed attempt of this number.
pub(crate) fn after_failure(job: &Job, attempt: u32) -> AfterFailure {
    if attempt < job.dispatch.attempts_max { AfterFailure::Retry } else { AfterFailure::DeadLetter }
}

/// What follows a failed attempt of this number that cost the job this much; gives an attempt back that cost nothing.
pub(crate) fn charged(job: &mut Job, attempt: u32, charge: Charge) -> AfterFailure {
    match charge {
        Charge::Attempt => after_failure(job, attempt),
        Charge::Everything => AfterFailure::DeadLetter,
        Charge::Nothing => {
            job.dispatch.spare_attempt();
            after_failure(job, attempt)
        }
    }
}

/// The job on its way into a delay lane and, after that, to its next attempt.
///
/// # Errors
///
/// [`EncodeError::TooLarge`] if the job is, even without its history; one that arrived in a message is not.
pub(crate) fn outgoing_retry(job: &Job, attempt_next: u32, delay: Delay) -> Result<Outgoing, EncodeError> {
    outgoing_delayed(job, attempt_next, delay)
}

/// The job on its way to the dead letters, after its last attempt.
///
/// # Errors
///
/// As [`outgoing_retry`].
pub(crate) fn outgoing_dead_letter(job: &Job, attempt: u32, reason: &'static str) -> Result<Outgoing, EncodeError> {
    Ok(outgoing_job(names::DEAD_LETTERS.to_owned(), job, attempt)?.reason(reason))
}

/// The job on its way to its first attempt.
///
/// # Errors
///
/// As [`ensure_fits`].
pub(crate) fn outgoing_submitted(job: &Job) -> Result<Outgoing, EncodeError> {
    let message = encode_job(job)?;
    ensure_fits(job, message.body.len())?;
    Ok(outgoing_encoded(names::JOBS.to_owned(), job, 1, message))
}

/// Refuses a job that came, or goes, in so many bytes and whose attempts could not be told of.
///
/// # Errors
///
/// [`EncodeError::TooLarge`] if it has more than [`JOB_BYTES_MAX`] without its history.
pub(crate) fn ensure_fits(job: &Job, body_bytes: usize) -> Result<(), EncodeError> {
    let found_bytes = if body_bytes > JOB_BYTES_MAX { encode(&without_history(job))?.body.len() } else { body_bytes };
    if found_bytes > JOB_BYTES_MAX {
        return Err(EncodeError::TooLarge { message_type: Job::TYPE, found_bytes, limit_bytes: JOB_BYTES_MAX });
    }
    Ok(())
}

/// The job unchanged on its way back to its lane, or into a delay lane first: no attempt is charged.
///
/// # Errors
///
/// As [`outgoing_retry`].
pub(crate) fn outgoing_hand_back(job: &Job, attempt: u32, delay: Option<Delay>) -> Result<Outgoing, EncodeError> {
    match delay {
        None => outgoing_job(names::JOBS_DUE.to_owned(), job, attempt),
        Some(delay) => outgoing_delayed(job, attempt, delay),
    }
}

/// What the result stream is told of a failed attempt; where that is too much, not its output and earlier ones.
///
/// # Errors
///
/// [`EncodeError::TooLarge`] if the job is; one that was taken is not.
pub(crate) fn outgoing_failed_attempt(result: JobResult, next: AfterFailure) -> Result<Outgoing, EncodeError> {
    debug_assert!(matches!(result.outcome, Outcome::Failed(_)), "a failed attempt has a failure");
    let (message_id, attempt) = (result.job.job_id.to_string(), result.attempt);
    let told = outgoing_shortened(message_id, FailedAttempt { result, next }, |told| shorten(&mut told.result));
    Ok(told?.attempt(attempt))
}

/// What the result stream is told of a job that is held under a lease; where that is too much, not its history.
///
/// # Errors
///
/// As [`outgoing_failed_attempt`].
pub(crate) fn outgoing_claim(claim: JobClaimed) -> Result<Outgoing, EncodeError> {
    outgoing_shortened(claim.job.job_id.to_string(), claim, |claim| claim.job.dispatch.history.clear())
}

/// Takes from a failed result what makes it large beside its job.
pub(crate) fn shorten(result: &mut JobResult) {
    result.job.dispatch.history.clear();
    if let Outcome::Failed(failure) = &mut result.outcome {
        failure.output_tail.clear();
        keep_begin(&mut failure.message, Dispatch::OUTPUT_TAIL_BYTES_MAX);
        failure.suggestion = None;
    }
}

fn outgoing_shortened<M: Message>(
    message_id: String,
    mut message: M,
    shorten: impl FnOnce(&mut M),
) -> Result<Outgoing, EncodeError> {
    match outgoing_record(message_id.clone(), &message) {
        Err(EncodeError::TooLarge { .. }) => {
            shorten(&mut message);
            outgoing_record(message_id, &message)
        }
        outgoing => outgoing,
    }
}

/// A message for the result stream.
///
/// # Errors
///
/// [`EncodeError::TooLarge`] past 1 MiB.
pub(crate) fn outgoing_record<M: Message>(message_id: String, message: &M) -> Result<Outgoing, EncodeError> {
    Ok(Outgoing::new(names::RESULTS, String::new(), message_id, encode(message)?))
}

fn outgoing_delayed(job: &Job, attempt: u32, delay: Delay) -> Result<Outgoing, EncodeError> {
    Ok(outgoing_job(names::retries(delay.step), job, attempt)?.expiration_ms(delay.expiration_ms))
}

fn outgoing_job(exchange: String, job: &Job, attempt: u32) -> Result<Outgoing, EncodeError> {
    Ok(outgoing_encoded(exchange, job, attempt, encode_job(job)?))
}

fn outgoing_encoded(exchange: String, job: &Job, attempt: u32, message: Encoded) -> Outgoing {
    Outgoing::new(exchange, job.routing_key(), job.job_id.to_string(), message)
        .of_run(job.run.run_id, job.dispatch.replays)
        .attempt(attempt)
}

/// Encodes a job; a history that makes it too large is left out, since without the job nothing is left at all.
fn encode_job(job: &Job) -> Result<Encoded, EncodeError> {
    match encode(job) {
        Err(EncodeError::TooLarge { .. }) if !job.dispatch.history.is_empty() => encode(&without_history(job)),
        encoded => encoded,
    }
}

fn without_history(job: &Job) -> Job {
    let mut bare = job.clone();
    bare.dispatch.history.clear();
    bare
}

/// Cuts a text to its last `bytes_max` bytes or fewer, never within a character.
fn keep_end(text: &mut String, bytes_max: usize) {
    let from = (text.len().saturating_sub(bytes_max)..=text.len()).find(|at| text.is_char_boundary(*at));
    text.drain(..from.unwrap_or(0));
}

/// Cuts a text to its first `bytes_max` bytes or fewer, never within a character.
fn keep_begin(text: &mut String, bytes_max: usize) {
    let to = (0..=bytes_max.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(to.unwrap_or(0));
}

#[cfg(test)]
mod tests;
