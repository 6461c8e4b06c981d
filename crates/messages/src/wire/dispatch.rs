//! How jobs are handed out, on the wire. What is usual is not written.

use serde::{Deserialize, Serialize};

use super::{Invalid, result::FailureV1, word};
use crate::{Dispatch, Need, Offer, PastAttempt, Requirements, Timestamp, WorkerId};

#[derive(Serialize, Deserialize)]
#[serde(default)]
pub(super) struct DispatchV1 {
    attempts_max: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at_us: Option<i64>,
    #[serde(skip_serializing_if = "RequirementsV1::is_empty")]
    requirements: RequirementsV1,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    history: Vec<PastAttemptV1>,
    replays: u32,
}

#[derive(Serialize, Deserialize, Default, Clone, PartialEq)]
#[serde(default)]
pub(super) struct RequirementsV1 {
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_mb_min: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_memory_mb_min: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    browser: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct PastAttemptV1 {
    attempt: u32,
    worker_id: String,
    started_at_us: i64,
    finished_at_us: i64,
    failure: FailureV1,
}

#[derive(Serialize, Deserialize, Default, PartialEq)]
#[serde(default)]
pub(super) struct OfferV1 {
    memory_mb: Option<u64>,
    device_memory_mb: Option<u64>,
    browsers: Vec<String>,
    tags: Vec<String>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct NeedV1 {
    platform: String,
    #[serde(default, skip_serializing_if = "RequirementsV1::is_empty")]
    requirements: RequirementsV1,
    jobs: u32,
}

impl DispatchV1 {
    pub(super) fn is_usual(&self) -> bool {
        self.attempts_max == Dispatch::ATTEMPTS_DEFAULT
            && self.due_at_us.is_none()
            && self.requirements.is_empty()
            && self.history.is_empty()
            && self.replays == 0
    }
}

impl Default for DispatchV1 {
    fn default() -> Self {
        (&Dispatch::default()).into()
    }
}

impl RequirementsV1 {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl OfferV1 {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl From<&Dispatch> for DispatchV1 {
    fn from(dispatch: &Dispatch) -> Self {
        let past = |attempt: &PastAttempt| PastAttemptV1 {
            attempt: attempt.attempt,
            worker_id: attempt.worker_id.to_string(),
            started_at_us: attempt.started_at.as_micros(),
            finished_at_us: attempt.finished_at.as_micros(),
            failure: (&attempt.failure).into(),
        };
        Self {
            attempts_max: dispatch.attempts_max,
            due_at_us: dispatch.due_at.map(Timestamp::as_micros),
            requirements: (&dispatch.requirements).into(),
            history: dispatch.history.iter().map(past).collect(),
            replays: dispatch.replays,
        }
    }
}

impl TryFrom<DispatchV1> for Dispatch {
    type Error = Invalid;

    fn try_from(on_wire: DispatchV1) -> Result<Self, Invalid> {
        let limit = Self::ATTEMPTS_LIMIT;
        if !(1..=limit).contains(&on_wire.attempts_max) {
            return Err(Invalid::new("attempts_max", format!("1 to {limit} is possible")));
        }
        if on_wire.history.len() > limit as usize {
            return Err(Invalid::new("history", format!("there are {}, at most {limit}", on_wire.history.len())));
        }
        let past = |attempt: PastAttemptV1| {
            Ok(PastAttempt {
                attempt: attempt.attempt,
                worker_id: word::<WorkerId>("history.worker_id", &attempt.worker_id)?,
                started_at: Timestamp::from_micros(attempt.started_at_us),
                finished_at: Timestamp::from_micros(attempt.finished_at_us),
                failure: attempt.failure.try_into()?,
            })
        };
        Ok(Self {
            attempts_max: on_wire.attempts_max,
            due_at: on_wire.due_at_us.map(Timestamp::from_micros),
            requirements: on_wire.requirements.into(),
            history: on_wire.history.into_iter().map(past).collect::<Result<_, Invalid>>()?,
            replays: on_wire.replays,
        })
    }
}

impl From<&Requirements> for RequirementsV1 {
    fn from(wanted: &Requirements) -> Self {
        let Requirements { memory_mb_min, device_memory_mb_min, browser, tags } = wanted.clone();
        Self { memory_mb_min, device_memory_mb_min, browser, tags }
    }
}

impl From<RequirementsV1> for Requirements {
    fn from(on_wire: RequirementsV1) -> Self {
        let RequirementsV1 { memory_mb_min, device_memory_mb_min, browser, tags } = on_wire;
        Self { memory_mb_min, device_memory_mb_min, browser, tags }
    }
}

impl From<&Offer> for OfferV1 {
    fn from(offer: &Offer) -> Self {
        let Offer { memory_mb, device_memory_mb, browsers, tags } = offer.clone();
        Self { memory_mb, device_memory_mb, browsers, tags }
    }
}

impl From<OfferV1> for Offer {
    fn from(on_wire: OfferV1) -> Self {
        let OfferV1 { memory_mb, device_memory_mb, browsers, tags } = on_wire;
        Self { memory_mb, device_memory_mb, browsers, tags }
    }
}

impl From<&Need> for NeedV1 {
    fn from(need: &Need) -> Self {
        Self { platform: need.platform.to_string(), requirements: (&need.requirements).into(), jobs: need.jobs }
    }
}

impl TryFrom<NeedV1> for Need {
    type Error = Invalid;

    fn try_from(on_wire: NeedV1) -> Result<Self, Invalid> {
        Ok(Self {
            platform: word("needs.platform", &on_wire.platform)?,
            requirements: on_wire.requirements.into(),
            jobs: on_wire.jobs,
        })
    }
}
