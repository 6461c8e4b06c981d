//! What the result stream brings.

use messages::{
    Cancel, CancelTarget, ClaimReturned, DeadLetterReplayed, DeadLettered, DecodeError, FailedAttempt, JobClaimed,
    JobResult, Message, QuarantineLifted, RunId, RunSubmitted, decode,
};

/// One message of the result stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A run begins.
    Run(RunSubmitted),
    /// A job ended.
    Result(Box<JobResult>),
    /// An attempt failed and is not counted.
    Attempt(Box<FailedAttempt>),
    /// A worker took a job off its queue.
    Claim(Box<JobClaimed>),
    /// It handed the job back.
    ClaimReturned(ClaimReturned),
    /// Someone asked to end a job or a run.
    Cancel(Cancel),
    /// The broker made a job a dead letter.
    DeadLettered(DeadLettered),
    /// A dead letter was sent back to its lane.
    Replayed(DeadLetterReplayed),
    /// A quarantined measurement is to be learned from after all.
    QuarantineLifted(QuarantineLifted),
}

impl Record {
    /// Decodes a message by its AMQP `type`; one that is of none of these types is taken for a result.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] says which of the three is wrong, and how.
    pub fn decode(message_type: Option<&str>, schema_version: Option<u16>, body: &[u8]) -> Result<Self, DecodeError> {
        match message_type {
            Some(RunSubmitted::TYPE) => decode(message_type, schema_version, body).map(Self::Run),
            Some(FailedAttempt::TYPE) => {
                decode(message_type, schema_version, body).map(|attempt| Self::Attempt(Box::new(attempt)))
            }
            Some(JobClaimed::TYPE) => {
                decode(message_type, schema_version, body).map(|claim| Self::Claim(Box::new(claim)))
            }
            Some(ClaimReturned::TYPE) => decode(message_type, schema_version, body).map(Self::ClaimReturned),
            Some(Cancel::TYPE) => decode(message_type, schema_version, body).map(Self::Cancel),
            Some(DeadLettered::TYPE) => decode(message_type, schema_version, body).map(Self::DeadLettered),
            Some(DeadLetterReplayed::TYPE) => decode(message_type, schema_version, body).map(Self::Replayed),
            Some(QuarantineLifted::TYPE) => decode(message_type, schema_version, body).map(Self::QuarantineLifted),
            _ => decode::<JobResult>(message_type, schema_version, body).map(|result| Self::Result(Box::new(result))),
        }
    }

    /// The run that it is about; `None` for the cancellation of a single job and the end of a quarantine, which do not
    /// say.
    pub fn run_id(&self) -> Option<RunId> {
        match self {
            Self::Run(run) => Some(run.run_id),
            Self::Result(result) => Some(result.job.run.run_id),
            Self::Attempt(attempt) => Some(attempt.result.job.run.run_id),
            Self::Claim(claim) => Some(claim.job.run.run_id),
            Self::ClaimReturned(returned) => Some(returned.run_id),
            Self::Cancel(cancel) => match cancel.target {
                CancelTarget::Run(run_id) => Some(run_id),
                CancelTarget::Job(_) => None,
            },
            Self::DeadLettered(dead) => Some(dead.run_id),
            Self::Replayed(replayed) => Some(replayed.run_id),
            Self::QuarantineLifted(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::builders::{dead, delivery_stream, run, stream};

    /// Encodes the message of a record and decodes it by its type.
    fn travelled<M: Message>(message: &M) -> Record {
        let encoded = messages::encode(message).expect("small enough");
        Record::decode(Some(encoded.message_type), Some(encoded.schema_version), &encoded.body).expect("decodes")
    }

    #[test]
    fn every_record_is_known_by_its_type() {
        for record in stream().into_iter().chain(delivery_stream()) {
            let decoded = match &record {
                Record::Run(message) => travelled(message),
                Record::Result(message) => travelled(message.as_ref()),
                Record::Attempt(message) => travelled(message.as_ref()),
                Record::Claim(message) => travelled(message.as_ref()),
                Record::ClaimReturned(message) => travelled(message),
                Record::Cancel(message) => travelled(message),
                Record::DeadLettered(message) => travelled(message),
                Record::Replayed(message) => travelled(message),
                Record::QuarantineLifted(message) => travelled(message),
            };
            assert_eq!(decoded, record);
        }
    }

    #[test]
    fn what_is_no_record_fails_as_a_result() {
        let Record::Attempt(attempt) = dead(&run(1), 1, 1) else { panic!("an attempt") };
        let body = messages::encode(attempt.as_ref()).expect("small enough").body;
        let error = Record::decode(Some("heartbeat"), Some(1), &body).expect_err("no record");
        assert_eq!(error.to_string(), "message is of type `heartbeat`; `result` was expected");
        let error = Record::decode(None, Some(1), &body).expect_err("no type");
        assert_eq!(error.to_string(), "message has no `type` property; `result` was expected");
    }
}
