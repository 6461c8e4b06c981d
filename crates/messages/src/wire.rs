//! The wire format: MessagePack maps, one frozen type per schema version.
//!
//! A released version never changes: its golden file in `golden/` must decode for ever. A new field that old
//! readers may ignore is added with `#[serde(default)]`; anything else is a new version, with its own types
//! here and an arm in the `match` of [`Message::from_bytes`].

mod attempt;
mod configuration;
mod device;
mod dispatch;
mod job;
mod news;
mod result;

use std::{fmt::Display, str::FromStr};

use crate::{
    AcceptedMeasurement, Cancel, ClaimReturned, DeadLetterReplayed, DeadLettered, DecodeError, FailedAttempt,
    Heartbeat, Job, JobClaimed, JobResult, Message, ReleasePublished, RunSubmitted, codec,
};

/// A field that decoded but cannot be.
#[derive(Debug)]
pub(crate) struct Invalid {
    pub(crate) field: &'static str,
    pub(crate) reason: String,
}

impl Invalid {
    pub(crate) fn new(field: &'static str, reason: impl Display) -> Self {
        Self { field, reason: reason.to_string() }
    }
}

/// Parses a word, naming the field if it is unknown.
fn word<T: FromStr<Err: Display>>(field: &'static str, text: &str) -> Result<T, Invalid> {
    text.parse().map_err(|error| Invalid::new(field, error))
}

/// Refuses NaN, infinities and, since nothing that we measure is negative, negative numbers.
fn measured(field: &'static str, number: f64) -> Result<f64, Invalid> {
    if number.is_finite() && number >= 0.0 {
        Ok(number)
    } else {
        Err(Invalid::new(field, format!("{number} is no measurement")))
    }
}

fn measured_option(field: &'static str, number: Option<f64>) -> Result<Option<f64>, Invalid> {
    number.map(|number| measured(field, number)).transpose()
}

macro_rules! message {
    ($domain:ty, $name:literal, $v1:ty) => {
        impl Message for $domain {
            const TYPE: &'static str = $name;
            const SCHEMA_VERSION: u16 = 1;

            fn to_bytes(&self) -> Result<Vec<u8>, rmp_serde::encode::Error> {
                rmp_serde::to_vec_named(&<$v1>::from(self))
            }

            fn from_bytes(schema_version: u16, body: &[u8]) -> Result<Self, DecodeError> {
                match schema_version {
                    1 => codec::read::<Self, $v1>(schema_version, body),
                    found => Err(DecodeError::UnknownSchemaVersion {
                        message_type: Self::TYPE,
                        found,
                        newest_known: Self::SCHEMA_VERSION,
                    }),
                }
            }
        }
    };
}

message!(Job, "job", job::JobV1);
message!(JobResult, "result", result::JobResultV1);
message!(FailedAttempt, "attempt", attempt::FailedAttemptV1);
message!(JobClaimed, "claim", attempt::JobClaimedV1);
message!(ClaimReturned, "claim-returned", attempt::ClaimReturnedV1);
message!(DeadLettered, "dead-lettered", attempt::DeadLetteredV1);
message!(DeadLetterReplayed, "replayed", attempt::DeadLetterReplayedV1);
message!(RunSubmitted, "run", news::RunSubmittedV1);
message!(Heartbeat, "heartbeat", news::HeartbeatV1);
message!(Cancel, "cancel", news::CancelV1);
message!(ReleasePublished, "release", news::ReleasePublishedV1);
message!(AcceptedMeasurement, "measurement", news::AcceptedMeasurementV1);

#[cfg(test)]
mod tests;
