//! Checks of the values in a suite file; every error names the place.

use std::{collections::BTreeSet, fmt::Display, str::FromStr, time::Duration};

use graphs::{ShapeInput, zoo_entry};
use messages::{BenchmarkSpec, Dispatch, Priority, Requirements};

use super::{CASES_MAX, SuiteError, file::RequirementsEntry, grid::Grid};

/// Most tags that a case may ask for.
const TAGS_MAX: usize = 32;
/// Longest tag or name of a browser, in bytes.
const WORD_BYTES_MAX: usize = 128;
/// Longest unique key of an entry, in bytes.
const UNIQUE_KEY_BYTES_MAX: usize = 256;

/// Checks values and names their place.
pub(super) struct Check<'a> {
    path: &'a str,
}

impl<'a> Check<'a> {
    pub(super) fn of(path: &'a str) -> Self {
        Self { path }
    }
    pub(super) fn invalid(&self, place: impl Into<String>, reason: impl Display) -> SuiteError {
        SuiteError::Invalid { path: self.path.to_owned(), place: place.into(), reason: reason.to_string() }
    }

    pub(super) fn priority(&self, place: &str, word: Option<&String>) -> Result<Priority, SuiteError> {
        word.map_or(Ok(Priority::Normal), |word| word.parse().map_err(|error| self.invalid(place, error)))
    }

    pub(super) fn attempts(&self, place: &str, given: Option<u32>) -> Result<u32, SuiteError> {
        let attempts = given.unwrap_or(Dispatch::ATTEMPTS_DEFAULT);
        let limit = Dispatch::ATTEMPTS_LIMIT;
        if (1..=limit).contains(&attempts) {
            Ok(attempts)
        } else {
            Err(self.invalid(place, format!("{attempts} is not possible; 1 to {limit} is")))
        }
    }

    pub(super) fn repeat(&self, place: &str, given: Option<u32>) -> Result<u32, SuiteError> {
        let repeat = given.unwrap_or(1);
        if repeat == 0 || repeat as usize > CASES_MAX {
            return Err(self.invalid(place, format!("{repeat} is not possible; 1 to {CASES_MAX} is")));
        }
        Ok(repeat)
    }

    pub(super) fn requirements(
        &self,
        place: &str,
        given: Option<&RequirementsEntry>,
    ) -> Result<Requirements, SuiteError> {
        let Some(given) = given else { return Ok(Requirements::default()) };
        for (key, megabytes) in
            [("memory_mb_min", given.memory_mb_min), ("device_memory_mb_min", given.device_memory_mb_min)]
        {
            if megabytes == Some(0) {
                return Err(self.invalid(format!("{place}.{key}"), "0 MB asks for nothing; leave the key out"));
            }
        }
        if given.tags.len() > TAGS_MAX {
            return Err(self.invalid(
                format!("{place}.tags"),
                format!("there are {}; at most {TAGS_MAX} are possible", given.tags.len()),
            ));
        }
        let browser = given.browser.as_deref().map(|word| self.word(&format!("{place}.browser"), word)).transpose()?;
        let tags: BTreeSet<String> =
            given.tags.iter().map(|tag| self.word(&format!("{place}.tags"), tag)).collect::<Result<_, _>>()?;
        Ok(Requirements {
            memory_mb_min: given.memory_mb_min,
            device_memory_mb_min: given.device_memory_mb_min,
            browser,
            // In order and each once, so that equal needs are one need.
            tags: tags.into_iter().collect(),
        })
    }

    pub(super) fn unique_key(&self, place: &str, given: Option<&str>) -> Result<Option<String>, SuiteError> {
        match given {
            None => Ok(None),
            Some(key) if key.trim().is_empty() => Err(self.invalid(place, "it is empty")),
            Some(key) if key.len() > UNIQUE_KEY_BYTES_MAX => {
                Err(self.invalid(place, format!("it is longer than {UNIQUE_KEY_BYTES_MAX} bytes")))
            }
            Some(key) => Ok(Some(key.to_owned())),
        }
    }

    fn word(&self, place: &str, word: &str) -> Result<String, SuiteError> {
        if word.is_empty() || word.len() > WORD_BYTES_MAX || word.contains(char::is_whitespace) {
            return Err(self.invalid(place, format!("`{word}` is no word of 1 to {WORD_BYTES_MAX} bytes")));
        }
        Ok(word.to_owned())
    }

    pub(super) fn seconds(&self, place: &str, given: Option<f64>, default: f64) -> Result<Duration, SuiteError> {
        let seconds = given.unwrap_or(default);
        let limit = messages::Job::TIMEOUT_MS_LIMIT as f64 / 1e3;
        if seconds.is_finite() && seconds >= 0.001 && seconds <= limit {
            Ok(Duration::from_secs_f64(seconds))
        } else {
            Err(self.invalid(place, format!("{seconds} is not possible; 0.001 to {limit} seconds are")))
        }
    }

    pub(super) fn words<T: FromStr<Err: Display> + Copy>(
        &self,
        place: &str,
        given: Option<&Vec<String>>,
        default: T,
    ) -> Result<Vec<T>, SuiteError> {
        match given {
            None => Ok(vec![default]),
            Some(words) if words.is_empty() => Err(self.invalid(place, "the list is empty")),
            Some(words) => words.iter().map(|word| word.parse().map_err(|error| self.invalid(place, error))).collect(),
        }
    }

    pub(super) fn list(&self, place: &str, given: Option<&Vec<u32>>, default: u32) -> Result<Vec<u32>, SuiteError> {
        match given {
            None => Ok(vec![default]),
            Some(values) if values.is_empty() => Err(self.invalid(place, "the list is empty")),
            Some(values) => Ok(values.clone()),
        }
    }

    /// Refuses a shape that a model of the zoo is known not to take.
    pub(super) fn zoo_shape(
        &self,
        at: &impl Fn(&str) -> String,
        wanted: &messages::Configuration,
    ) -> Result<(), SuiteError> {
        let name = &wanted.model.name;
        match zoo_entry(name).map(|entry| &entry.shape) {
            Some(ShapeInput::Sequence { max, .. }) if wanted.sequence_length.is_some_and(|length| length > *max) => {
                Err(self.invalid(at("sequence_lengths"), format!("{name} takes at most {max}")))
            }
            Some(ShapeInput::Samples { min, .. }) if wanted.sequence_length.is_some_and(|length| length < *min) => {
                Err(self.invalid(at("sequence_lengths"), format!("{name} takes at least {min}")))
            }
            Some(ShapeInput::Image { default, resizable: false })
                if wanted.image_size.is_some_and(|size| size != *default) =>
            {
                Err(self.invalid(at("image_sizes"), format!("{name} takes {default} only")))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn benchmark(
        &self,
        at: &impl Fn(&str) -> String,
        grid: &Grid,
        wanted: messages::Configuration,
    ) -> Result<Box<BenchmarkSpec>, SuiteError> {
        let usual = BenchmarkSpec::usual(wanted);
        let iterations_min = grid.iterations_min.unwrap_or(usual.iterations_min);
        let iterations_max = grid.iterations_max.unwrap_or(usual.iterations_max.max(iterations_min));
        let limit = BenchmarkSpec::ITERATIONS_LIMIT;
        if iterations_min == 0 || iterations_max < iterations_min || iterations_max > limit {
            return Err(self.invalid(
                at("iterations_min, iterations_max"),
                format!("{iterations_min} to {iterations_max} is no range within 1 to {limit}"),
            ));
        }
        let warmup_iterations = grid.warmup_iterations.unwrap_or(usual.warmup_iterations);
        if warmup_iterations > limit {
            return Err(self.invalid(at("warmup_iterations"), format!("at most {limit} are possible")));
        }
        let median_interval_pct = grid.median_interval_pct.unwrap_or(usual.median_interval_pct);
        if !(median_interval_pct.is_finite() && median_interval_pct > 0.0) {
            return Err(
                self.invalid(at("median_interval_pct"), format!("{median_interval_pct} is no percentage above 0"))
            );
        }
        let duration = self.seconds(&at("duration_s_max"), grid.duration_s_max, usual.duration_ms_max as f64 / 1e3)?;
        Ok(Box::new(BenchmarkSpec {
            warmup_iterations,
            iterations_min,
            iterations_max,
            median_interval_pct,
            duration_ms_max: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            ..usual
        }))
    }
}
