//! What is done with arbitrary input. None of it may panic; what decodes must survive another round.

#![allow(dead_code, reason = "each fuzz target uses one of these")]

/// Decodes a message of every type: the first byte is the schema version, the rest the body.
pub(crate) mod message {
    use std::fmt::Debug;

    use messages::{
        AcceptedMeasurement, Cancel, ClaimReturned, DeadLetterReplayed, DeadLettered, FailedAttempt, Heartbeat, Job,
        JobClaimed, JobResult, Message, QuarantineLifted, ReleasePublished, RunSubmitted, decode, encode,
    };

    /// Every type is tried, so that no input is wasted on the wrong one.
    pub(crate) fn check(input: &[u8]) {
        let Some((version, body)) = input.split_first() else { return };
        let version = u16::from(*version);
        check_type::<Job>(version, body);
        check_type::<JobResult>(version, body);
        check_type::<FailedAttempt>(version, body);
        check_type::<JobClaimed>(version, body);
        check_type::<ClaimReturned>(version, body);
        check_type::<DeadLettered>(version, body);
        check_type::<DeadLetterReplayed>(version, body);
        check_type::<RunSubmitted>(version, body);
        check_type::<Heartbeat>(version, body);
        check_type::<Cancel>(version, body);
        check_type::<QuarantineLifted>(version, body);
        check_type::<ReleasePublished>(version, body);
        check_type::<AcceptedMeasurement>(version, body);
    }

    /// What decodes is written again and decodes to the same.
    fn check_type<M: Message + PartialEq + Debug>(version: u16, body: &[u8]) {
        let Ok(message) = decode::<M>(Some(M::TYPE), Some(version), body) else { return };
        // Written by name and in full, it may have grown past the limit.
        let Ok(encoded) = encode(&message) else { return };
        match decode::<M>(Some(M::TYPE), Some(encoded.schema_version), &encoded.body) {
            Ok(again) => assert_eq!(again, message, "a {} changes on its way", M::TYPE),
            Err(error) => panic!("a {} that was read cannot be read again: {error}", M::TYPE),
        }
    }
}

/// Reads `queues.yaml`.
pub(crate) mod topology_file {
    use topology::{Observed, ServerVersion, Topology, plan};

    pub(crate) fn check(input: &[u8]) {
        let Ok(text) = std::str::from_utf8(input) else { return };
        let Ok(topology) = Topology::from_yaml(text) else { return };
        // A topology that is accepted can be planned or refused, nothing else.
        drop(plan(&topology, &ServerVersion::OLDEST, &Observed::absent(&topology)));
    }
}
