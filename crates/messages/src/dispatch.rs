//! How a job is handed out: to whom, when, how often, and what came of earlier attempts.

use crate::{Failure, Platform, Timestamp, WorkerId};

/// Everything about a job that concerns its way to a worker and not its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispatch {
    /// Attempts before it becomes a dead letter, 1 to [`Dispatch::ATTEMPTS_LIMIT`].
    pub attempts_max: u32,
    /// Not to be started before this moment.
    pub due_at: Option<Timestamp>,
    /// What a worker must have to take it.
    pub requirements: Requirements,
    /// Attempts that failed and are to be followed by another, oldest first.
    pub history: Vec<PastAttempt>,
    /// How often it was sent back from the dead letters.
    pub replays: u32,
}

impl Dispatch {
    /// Attempts where nobody says otherwise.
    pub const ATTEMPTS_DEFAULT: u32 = 3;
    /// Most attempts that a job may ask for; every failed one travels with it.
    pub const ATTEMPTS_LIMIT: u32 = 20;
    /// Bytes of a past attempt's output that travel on with the job.
    pub const OUTPUT_TAIL_BYTES_MAX: usize = 4_096;

    /// Gives back an attempt that was spent for no fault of the job's.
    ///
    /// Attempts keep their numbers, so there may be one more; never more than [`Self::ATTEMPTS_LIMIT`], so that a job
    /// ends even where nothing ever runs it.
    pub fn spare_attempt(&mut self) {
        self.attempts_max = (self.attempts_max + 1).min(Self::ATTEMPTS_LIMIT);
    }
}

impl Default for Dispatch {
    fn default() -> Self {
        Self {
            attempts_max: Self::ATTEMPTS_DEFAULT,
            due_at: None,
            requirements: Requirements::default(),
            history: Vec::new(),
            replays: 0,
        }
    }
}

/// An attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastAttempt {
    /// Which one, counted from 1 by us.
    pub attempt: u32,
    /// Who made it.
    pub worker_id: WorkerId,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Why it failed.
    pub failure: Failure,
}

/// What a job asks of its worker, beyond the platform.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Requirements {
    /// Memory of the machine, in MB (10^6 bytes).
    pub memory_mb_min: Option<u64>,
    /// Memory of the device, in MB (10^6 bytes).
    pub device_memory_mb_min: Option<u64>,
    /// A browser, e.g. `firefox`.
    pub browser: Option<String>,
    /// Words that the worker's settings give it.
    pub tags: Vec<String>,
}

/// What a worker has, beyond its platforms.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Offer {
    /// Memory of the machine, in MB (10^6 bytes).
    pub memory_mb: Option<u64>,
    /// Memory of its largest device, in MB (10^6 bytes).
    pub device_memory_mb: Option<u64>,
    /// Its browsers.
    pub browsers: Vec<String>,
    /// Words from its settings.
    pub tags: Vec<String>,
}

impl Requirements {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What of it `offer` lacks, for people; `None` if it has everything.
    ///
    /// What a worker does not know of itself it does not have.
    pub fn unmet_by(&self, offer: &Offer) -> Option<String> {
        let too_small = |what: &str, wanted: Option<u64>, found: Option<u64>| {
            let wanted = wanted?;
            match found {
                Some(found) if found >= wanted => None,
                Some(found) => Some(format!("{found} MB of {what}, {wanted} wanted")),
                None => Some(format!("unknown {what}, {wanted} MB wanted")),
            }
        };
        let browser = |name: &String| !offer.browsers.contains(name);
        let lacking = [
            too_small("memory", self.memory_mb_min, offer.memory_mb),
            too_small("device memory", self.device_memory_mb_min, offer.device_memory_mb),
            self.browser.as_ref().filter(|name| browser(name)).map(|name| format!("no browser {name}")),
        ];
        let tags = self.tags.iter().filter(|tag| !offer.tags.contains(tag)).map(|tag| format!("no tag {tag}"));
        let all: Vec<String> = lacking.into_iter().flatten().chain(tags).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }
}

/// Jobs of a run that ask for the same of their worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// The kind of execution target.
    pub platform: Platform,
    /// What else.
    pub requirements: Requirements,
    /// How many jobs.
    pub jobs: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spared_attempt_leaves_as_many_as_before_up_to_the_limit() {
        let mut dispatch = Dispatch { attempts_max: Dispatch::ATTEMPTS_LIMIT - 1, ..Dispatch::default() };
        dispatch.spare_attempt();
        assert_eq!(dispatch.attempts_max, Dispatch::ATTEMPTS_LIMIT);
        dispatch.spare_attempt();
        assert_eq!(dispatch.attempts_max, Dispatch::ATTEMPTS_LIMIT);
    }

    #[test]
    fn what_is_lacking_is_named() {
        let wanted = Requirements {
            memory_mb_min: Some(2_000),
            device_memory_mb_min: Some(8_000),
            browser: Some("firefox".to_owned()),
            tags: vec!["lab".to_owned()],
        };
        let all = Offer {
            memory_mb: Some(2_000),
            device_memory_mb: Some(8_000),
            browsers: vec!["firefox".to_owned()],
            tags: vec!["lab".to_owned(), "quiet".to_owned()],
        };
        assert_eq!(wanted.unmet_by(&all), None);
        assert_eq!(Requirements::default().unmet_by(&Offer::default()), None);
        let little = Offer { memory_mb: Some(1_999), ..Offer::default() };
        assert_eq!(
            wanted.unmet_by(&little).as_deref(),
            Some(
                "1999 MB of memory, 2000 wanted, unknown device memory, 8000 MB wanted, no browser firefox, no tag lab"
            )
        );
    }
}
