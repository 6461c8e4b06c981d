//! One dead letter, as far as it can be read.

use broker::{Death, Delivery};
use messages::{DeadLettered, DecodeError, Job, JobId, RunId, Timestamp};
use topology::names;

use crate::{delivery::ensure_fits, worker::chain};

/// Reason of a letter that came without one and does not decode.
const REASON_UNDECODABLE: &str = "undecodable";
/// Reason of a job that was due, or handed back, and found no lane.
const REASON_UNROUTABLE: &str = "unroutable";
/// Reason of a letter of which nothing is known.
const REASON_UNKNOWN: &str = "unknown";

/// A message in the dead-letter queue.
#[derive(Debug)]
pub struct DeadLetter {
    /// Its job with its whole history, or why it cannot be decoded.
    pub job: Result<Job, DecodeError>,
    /// Which job; of one that cannot be decoded what its properties say.
    pub job_id: Option<JobId>,
    /// Of which run; of one that cannot be decoded what its properties say.
    pub run_id: Option<RunId>,
    /// How often it had been sent back.
    pub replays: u32,
    /// Why it is here, in one word: the kind of the last failure (`crashed`), `undecodable`, `unroutable`, or what the
    /// broker says (`rejected`, `delivery-limit`).
    pub reason: String,
    /// The attempt that was the last one.
    pub attempt: u32,
    /// From which queue the broker moved it here and why, if it was the broker.
    pub death: Option<Death>,
    /// When it came here, as far as that is known.
    pub dead_at: Option<Timestamp>,
    /// AMQP property `message-id`.
    pub message_id: Option<String>,
    /// AMQP property `type`.
    pub message_type: Option<String>,
    /// Header `schema-version`.
    pub schema_version: Option<u16>,
    /// The key that it was published with last.
    pub routing_key: String,
    /// Size of the body.
    pub body_bytes: usize,
}

impl DeadLetter {
    pub(crate) fn of(delivery: &Delivery) -> Self {
        let (job, death) = (delivery.decode::<Job>(), delivery.death());
        let named = || delivery.message_id().and_then(|id| id.parse().ok());
        let known = job.as_ref().ok();
        Self {
            job_id: known.map_or_else(named, |job| Some(job.job_id)),
            run_id: known.map_or_else(|| delivery.run_id(), |job| Some(job.run.run_id)),
            replays: known.map_or_else(|| delivery.replays(), |job| job.dispatch.replays),
            reason: reason(delivery.reason(), job.is_ok(), delivery.exchange(), death.as_ref()),
            job,
            attempt: delivery.attempt(),
            dead_at: death.as_ref().and_then(|death| death.at).or_else(|| delivery.published_at()),
            death,
            message_id: delivery.message_id().map(str::to_owned),
            message_type: delivery.message_type().map(str::to_owned),
            schema_version: delivery.schema_version(),
            routing_key: delivery.routing_key().to_owned(),
            body_bytes: delivery.body().len(),
        }
    }

    /// Why its job cannot go back to its lane: nobody can decode it, or no worker takes it because it is too large.
    pub fn refusal(&self) -> Option<String> {
        match &self.job {
            Err(error) => Some(error.to_string()),
            Ok(job) => ensure_fits(job, self.body_bytes).err().map(|error| error.to_string()),
        }
    }

    /// What the result stream is to be told of a letter that came without a reason of ours; `None` if nobody knows
    /// whose job it is.
    pub(crate) fn news(&self) -> Option<DeadLettered> {
        let job = self.job.as_ref();
        let message = match (job, &self.death) {
            (Err(error), _) => chain(error),
            (Ok(_), _) if self.reason == REASON_UNROUTABLE => format!("no lane takes `{}`", self.routing_key),
            (Ok(_), Some(death)) => format!("the broker took it out of `{}`: {}", death.queue, self.reason),
            (Ok(_), None) => "it lies among the dead letters, and nobody said why".to_owned(),
        };
        Some(DeadLettered {
            job_id: self.job_id?,
            run_id: self.run_id?,
            replays: self.replays,
            attempt: self.attempt,
            platform: self.routing_key.split('.').next()?.parse().ok()?,
            case: job.ok().map(|job| job.case.clone()),
            reason: self.reason.clone(),
            message,
            died_at: self.dead_at?,
        })
    }
}

/// Our own word goes first; a message that was refused because nobody could read it is called that.
///
/// RabbitMQ leaves the exchange as it was where an alternate exchange stepped in; the death of what comes out of a delay
/// lane is no more than the end of its delay.
fn reason(ours: Option<&str>, decodes: bool, exchange: &str, death: Option<&Death>) -> String {
    match (ours, death) {
        (Some(ours), _) => ours.to_owned(),
        (None, _) if !decodes => REASON_UNDECODABLE.to_owned(),
        (None, _) if [names::JOBS_DUE, names::UNROUTABLE].contains(&exchange) => REASON_UNROUTABLE.to_owned(),
        (None, Some(death)) => death.reason.replace('_', "-"),
        (None, None) => REASON_UNKNOWN.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_best_word_there_is() {
        let death = Death { queue: "lane".to_owned(), reason: "delivery_limit".to_owned(), count: 1, at: None };
        let delayed = Death { queue: "retries.1s".to_owned(), reason: "expired".to_owned(), ..death.clone() };
        let dead = names::DEAD_LETTERS;
        assert_eq!(reason(Some("crashed"), true, dead, Some(&death)), "crashed");
        assert_eq!(reason(None, true, dead, Some(&death)), "delivery-limit");
        assert_eq!(reason(None, false, dead, Some(&death)), "undecodable");
        assert_eq!(reason(None, true, dead, None), "unknown");
        for death in [None, Some(&delayed)] {
            assert_eq!(reason(None, true, names::JOBS_DUE, death), "unroutable");
        }
    }
}
