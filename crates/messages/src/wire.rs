//! The wire format: MessagePack maps, one frozen type per schema version.
//!
//! A released version never changes: its golden file in `golden/` must decode for ever. A new field that old
//! readers may ignore is added with `#[serde(default)]`; anything else is a new version, with its own types
//! here and an arm in the `match` of [`Message::from_bytes`].
//!
//! Version 2 is version 1 with jobs for browsers: a kind of job, a kind of outcome and the browser of a configuration
//! more. Whatever has none of them is still written as version 1, byte for byte, so the same types serve both; what
//! has them says 2, which a reader that knows only native jobs refuses instead of mistaking it.

mod attempt;
mod conditions;
mod configuration;
mod device;
mod dispatch;
mod job;
mod news;
mod result;
mod web;

use std::{fmt::Display, str::FromStr};

use crate::{
    AcceptedMeasurement, Cancel, ClaimReturned, DeadLetterReplayed, DeadLettered, DecodeError, FailedAttempt,
    Heartbeat, Job, JobClaimed, JobResult, JobSpec, Message, QuarantineLifted, ReleasePublished, RunSubmitted, codec,
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

/// Whether a job is of a kind that came with version 2.
fn is_web(job: &Job) -> bool {
    matches!(job.spec, JobSpec::Web(_))
}

macro_rules! message {
    ($domain:ty, $name:literal, $v1:ty) => {
        message!($domain, $name, $v1, 1, |_| false);
    };
    ($domain:ty, $name:literal, $v1:ty, $newest:literal, $needs_newest:expr) => {
        impl Message for $domain {
            const TYPE: &'static str = $name;
            const SCHEMA_VERSION: u16 = $newest;

            fn schema_version(&self) -> u16 {
                let needs_newest: fn(&Self) -> bool = $needs_newest;
                if needs_newest(self) { Self::SCHEMA_VERSION } else { 1 }
            }

            fn to_bytes(&self) -> Result<Vec<u8>, rmp_serde::encode::Error> {
                rmp_serde::to_vec_named(&<$v1>::from(self))
            }

            fn from_bytes(schema_version: u16, body: &[u8]) -> Result<Self, DecodeError> {
                match schema_version {
                    1..=$newest => codec::read::<Self, $v1>(schema_version, body),
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

message!(Job, "job", job::JobV1, 2, is_web);
message!(JobResult, "result", result::JobResultV1, 2, |result| is_web(&result.job));
message!(FailedAttempt, "attempt", attempt::FailedAttemptV1, 2, |attempt| is_web(&attempt.result.job));
message!(JobClaimed, "claim", attempt::JobClaimedV1, 2, |claim| is_web(&claim.job));
message!(ClaimReturned, "claim-returned", attempt::ClaimReturnedV1);
message!(DeadLettered, "dead-lettered", attempt::DeadLetteredV1);
message!(DeadLetterReplayed, "replayed", attempt::DeadLetterReplayedV1);
message!(RunSubmitted, "run", news::RunSubmittedV1);
message!(Heartbeat, "heartbeat", news::HeartbeatV1);
message!(Cancel, "cancel", news::CancelV1);
message!(QuarantineLifted, "quarantine-lifted", news::QuarantineLiftedV1);
message!(ReleasePublished, "release", news::ReleasePublishedV1);
message!(AcceptedMeasurement, "measurement", news::AcceptedMeasurementV1, 2, |accepted| {
    accepted.configuration.browser.is_some()
});

#[cfg(test)]
mod tests;
