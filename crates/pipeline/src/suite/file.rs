//! The file's own types, and their expansion into cases.

use std::{collections::BTreeSet, fmt::Display, str::FromStr, time::Duration};

use graphs::{ShapeInput, zoo_entry};
use messages::{BenchmarkSpec, Platform, Precision, Priority, TestSpec};
use serde::Deserialize;

use super::{CASES_MAX, Case, CaseSpec, Suite, SuiteError, configuration, resolve_shape};

/// The only version of the form so far.
const VERSION: u32 = 1;

/// A suite file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SuiteFile {
    version: u32,
    name: String,
    #[serde(default)]
    priority: Option<String>,
    #[serde(default)]
    timeout_s: Option<f64>,
    #[serde(default)]
    benchmarks: Vec<BenchmarkGrid>,
    #[serde(default)]
    tests: Vec<TestEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BenchmarkGrid {
    models: Vec<String>,
    #[serde(default)]
    platforms: Option<Vec<String>>,
    #[serde(default)]
    precisions: Option<Vec<String>>,
    #[serde(default)]
    batch_sizes: Option<Vec<u32>>,
    #[serde(default)]
    sequence_lengths: Option<Vec<u32>>,
    #[serde(default)]
    image_sizes: Option<Vec<u32>>,
    #[serde(default)]
    threads: Option<Vec<u32>>,
    #[serde(default)]
    warmup_iterations: Option<u32>,
    #[serde(default)]
    iterations_min: Option<u32>,
    #[serde(default)]
    iterations_max: Option<u32>,
    #[serde(default)]
    median_interval_pct: Option<f64>,
    #[serde(default)]
    duration_s_max: Option<f64>,
    #[serde(default)]
    priority: Option<String>,
    #[serde(default)]
    timeout_s: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TestEntry {
    name: String,
    profile: String,
    #[serde(default)]
    module: Option<String>,
    #[serde(default)]
    class: Option<String>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    platform: Option<String>,
    #[serde(default)]
    priority: Option<String>,
    #[serde(default)]
    timeout_s: Option<f64>,
    /// How many times the same test is run, each a case of its own.
    #[serde(default)]
    repeat: Option<u32>,
}

/// Time for one attempt where the suite says nothing, in seconds.
const TIMEOUT_S_DEFAULT: f64 = 300.0;

impl SuiteFile {
    /// Reads the text; `path` is only named in errors.
    ///
    /// # Errors
    ///
    /// [`SuiteError::Parse`] with line and column.
    pub(super) fn parse(path: &str, text: &str) -> Result<Self, SuiteError> {
        serde_saphyr::from_str(text).map_err(|error| SuiteError::Parse {
            path: path.to_owned(),
            message: error.to_string().trim_start_matches("error: ").to_owned(),
        })
    }

    /// Expands grids into cases and checks every value.
    ///
    /// # Errors
    ///
    /// [`SuiteError::Invalid`] names the place.
    pub(super) fn expand(self, path: &str) -> Result<Suite, SuiteError> {
        let check = Check { path };
        if self.version != VERSION {
            return Err(check.invalid("version", format!("{} is not known; {VERSION} is", self.version)));
        }
        if self.name.trim().is_empty() {
            return Err(check.invalid("name", "it is empty"));
        }
        let mut cases = Vec::new();
        for (index, grid) in self.benchmarks.iter().enumerate() {
            self.expand_grid(&check, index, grid, &mut cases)?;
        }
        for (index, test) in self.tests.iter().enumerate() {
            self.expand_test(&check, index, test, &mut cases)?;
        }
        if cases.is_empty() {
            return Err(check.invalid("benchmarks, tests", "there is no case at all"));
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = cases.iter().find(|case| !names.insert(case.name.as_str())) {
            return Err(check.invalid("cases", format!("`{}` is there twice", twice.name)));
        }
        Ok(Suite { name: self.name, path: path.to_owned(), cases })
    }

    fn expand_grid(
        &self,
        check: &Check<'_>,
        index: usize,
        grid: &BenchmarkGrid,
        cases: &mut Vec<Case>,
    ) -> Result<(), SuiteError> {
        let at = |field: &str| format!("benchmarks[{index}].{field}");
        if grid.models.is_empty() {
            return Err(check.invalid(at("models"), "the list is empty"));
        }
        let priority = check.priority(&at("priority"), grid.priority.as_ref().or(self.priority.as_ref()))?;
        let timeout = check.seconds(&at("timeout_s"), grid.timeout_s.or(self.timeout_s), TIMEOUT_S_DEFAULT)?;
        let platforms = check.words::<Platform>(&at("platforms"), grid.platforms.as_ref(), Platform::Cpu)?;
        let precisions = check.words::<Precision>(&at("precisions"), grid.precisions.as_ref(), Precision::Fp32)?;
        let batch_sizes = check.list(&at("batch_sizes"), grid.batch_sizes.as_ref(), 1)?;
        let threads = check.list(&at("threads"), grid.threads.as_ref(), 1)?;
        let lengths = optional(grid.sequence_lengths.as_ref());
        let sizes = optional(grid.image_sizes.as_ref());
        for model in &grid.models {
            for &platform in &platforms {
                for &precision in &precisions {
                    for &batch_size in &batch_sizes {
                        for &sequence_length in &lengths {
                            for &image_size in &sizes {
                                for &threads in &threads {
                                    let mut wanted = configuration(model, platform, precision, batch_size, threads);
                                    wanted.sequence_length = sequence_length;
                                    wanted.image_size = image_size;
                                    resolve_shape(&mut wanted);
                                    wanted
                                        .validate()
                                        .map_err(|error| check.invalid(at(&format!("{}s", error.field)), error))?;
                                    check.zoo_shape(&at, &wanted)?;
                                    let name = wanted.to_string();
                                    let spec = check.benchmark(&at, grid, wanted)?;
                                    cases.push(Case { name, priority, timeout, spec: CaseSpec::Benchmark(spec) });
                                    if cases.len() > CASES_MAX {
                                        return Err(check.invalid(at("models"), format!("more than {CASES_MAX} cases")));
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn expand_test(
        &self,
        check: &Check<'_>,
        index: usize,
        entry: &TestEntry,
        cases: &mut Vec<Case>,
    ) -> Result<(), SuiteError> {
        let at = |field: &str| format!("tests[{index}].{field}");
        let priority = check.priority(&at("priority"), entry.priority.as_ref().or(self.priority.as_ref()))?;
        let timeout = check.seconds(&at("timeout_s"), entry.timeout_s.or(self.timeout_s), TIMEOUT_S_DEFAULT)?;
        let platform = match &entry.platform {
            None => Platform::Cpu,
            Some(word) => word.parse().map_err(|error| check.invalid(at("platform"), error))?,
        };
        let repeat = entry.repeat.unwrap_or(1);
        if repeat == 0 || repeat as usize > CASES_MAX {
            return Err(check.invalid(at("repeat"), format!("{repeat} is not possible; 1 to {CASES_MAX} is")));
        }
        for number in 1..=repeat {
            let name = if repeat == 1 { entry.name.clone() } else { format!("{} {number}", entry.name) };
            let test = TestSpec {
                profile: entry.profile.clone(),
                module: entry.module.clone(),
                class: entry.class.clone(),
                method: entry.method.clone(),
            };
            cases.push(Case { name, priority, timeout, spec: CaseSpec::Test { platform, test } });
        }
        Ok(())
    }
}

fn optional(list: Option<&Vec<u32>>) -> Vec<Option<u32>> {
    match list {
        Some(values) if !values.is_empty() => values.iter().copied().map(Some).collect(),
        _ => vec![None],
    }
}

/// Checks values and names their place.
struct Check<'a> {
    path: &'a str,
}

impl Check<'_> {
    fn invalid(&self, place: impl Into<String>, reason: impl Display) -> SuiteError {
        SuiteError::Invalid { path: self.path.to_owned(), place: place.into(), reason: reason.to_string() }
    }

    fn priority(&self, place: &str, word: Option<&String>) -> Result<Priority, SuiteError> {
        word.map_or(Ok(Priority::Normal), |word| word.parse().map_err(|error| self.invalid(place, error)))
    }

    fn seconds(&self, place: &str, given: Option<f64>, default: f64) -> Result<Duration, SuiteError> {
        let seconds = given.unwrap_or(default);
        let limit = messages::Job::TIMEOUT_MS_LIMIT as f64 / 1e3;
        if seconds.is_finite() && seconds >= 0.001 && seconds <= limit {
            Ok(Duration::from_secs_f64(seconds))
        } else {
            Err(self.invalid(place, format!("{seconds} is not possible; 0.001 to {limit} seconds are")))
        }
    }

    fn words<T: FromStr<Err: Display> + Copy>(
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

    fn list(&self, place: &str, given: Option<&Vec<u32>>, default: u32) -> Result<Vec<u32>, SuiteError> {
        match given {
            None => Ok(vec![default]),
            Some(values) if values.is_empty() => Err(self.invalid(place, "the list is empty")),
            Some(values) => Ok(values.clone()),
        }
    }

    /// Refuses a shape that a model of the zoo is known not to take.
    fn zoo_shape(&self, at: &impl Fn(&str) -> String, wanted: &messages::Configuration) -> Result<(), SuiteError> {
        let name = &wanted.model.name;
        match zoo_entry(name).map(|entry| &entry.shape) {
            Some(ShapeInput::Sequence { max, .. }) if wanted.sequence_length.is_some_and(|length| length > *max) => {
                Err(self.invalid(at("sequence_lengths"), format!("{name} takes at most {max}")))
            }
            Some(ShapeInput::Image { default, resizable: false })
                if wanted.image_size.is_some_and(|size| size != *default) =>
            {
                Err(self.invalid(at("image_sizes"), format!("{name} takes {default} only")))
            }
            _ => Ok(()),
        }
    }

    fn benchmark(
        &self,
        at: &impl Fn(&str) -> String,
        grid: &BenchmarkGrid,
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
