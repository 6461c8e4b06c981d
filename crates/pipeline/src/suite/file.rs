//! The file's own types, and their expansion into cases.

use std::{collections::BTreeSet, time::Duration};

use messages::{Platform, Priority, Requirements, TestSpec};
use serde::Deserialize;

use super::{
    Case, CaseSpec, Suite, SuiteError,
    check::Check,
    grid::{Grid, GridKind, Place},
};

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
    attempts_max: Option<u32>,
    #[serde(default)]
    requirements: Option<RequirementsEntry>,
    #[serde(default)]
    benchmarks: Vec<Grid>,
    #[serde(default)]
    web: Vec<Grid>,
    #[serde(default)]
    tests: Vec<TestEntry>,
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
    #[serde(default)]
    attempts_max: Option<u32>,
    #[serde(default)]
    requirements: Option<RequirementsEntry>,
    /// If the test is repeated, each of its cases has the key `<this>/<name of the case>`.
    #[serde(default)]
    unique_key: Option<String>,
    /// How many times the same test is run, each a case of its own.
    #[serde(default)]
    repeat: Option<u32>,
}

/// What the cases of an entry, or of the whole suite, ask of their workers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RequirementsEntry {
    #[serde(default)]
    pub(super) memory_mb_min: Option<u64>,
    #[serde(default)]
    pub(super) device_memory_mb_min: Option<u64>,
    #[serde(default)]
    pub(super) browser: Option<String>,
    #[serde(default)]
    pub(super) tags: Vec<String>,
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
        let check = Check::of(path);
        if self.version != VERSION {
            return Err(check.invalid("version", format!("{} is not known; {VERSION} is", self.version)));
        }
        if self.name.trim().is_empty() {
            return Err(check.invalid("name", "it is empty"));
        }
        let mut cases = Vec::new();
        for (kind, grids) in [(GridKind::Native, &self.benchmarks), (GridKind::Web, &self.web)] {
            for (index, grid) in grids.iter().enumerate() {
                let place = Place { kind, index };
                let handling = self.handling(&check, &|field: &str| place.of(field), &grid.keys())?;
                grid.expand(&check, place, &handling, &mut cases)?;
            }
        }
        for (index, test) in self.tests.iter().enumerate() {
            self.expand_test(&check, index, test, &mut cases)?;
        }
        if cases.is_empty() {
            return Err(check.invalid("benchmarks, web, tests", "there is no case at all"));
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = cases.iter().find(|case| !names.insert(case.name.as_str())) {
            return Err(check.invalid("cases", format!("`{}` is there twice", twice.name)));
        }
        let mut keys = BTreeSet::new();
        if let Some(twice) = cases.iter().filter_map(|case| case.unique_key.as_deref()).find(|key| !keys.insert(*key)) {
            return Err(check.invalid("unique_key", format!("`{twice}` is there twice")));
        }
        Ok(Suite { name: self.name, path: path.to_owned(), cases })
    }

    /// Checks an entry's keys, with the suite's where it says nothing.
    fn handling(
        &self,
        check: &Check<'_>,
        at: &impl Fn(&str) -> String,
        entry: &EntryKeys<'_>,
    ) -> Result<Handling, SuiteError> {
        let requirements = entry.requirements.or(self.requirements.as_ref());
        Ok(Handling {
            priority: check.priority(&at("priority"), entry.priority.or(self.priority.as_ref()))?,
            timeout: check.seconds(&at("timeout_s"), entry.timeout_s.or(self.timeout_s), TIMEOUT_S_DEFAULT)?,
            attempts_max: check.attempts(&at("attempts_max"), entry.attempts_max.or(self.attempts_max))?,
            requirements: check.requirements(&at("requirements"), requirements)?,
            unique_key: check.unique_key(&at("unique_key"), entry.unique_key)?,
        })
    }

    fn expand_test(
        &self,
        check: &Check<'_>,
        index: usize,
        entry: &TestEntry,
        cases: &mut Vec<Case>,
    ) -> Result<(), SuiteError> {
        let at = |field: &str| format!("tests[{index}].{field}");
        let handling = self.handling(
            check,
            &at,
            &EntryKeys {
                priority: entry.priority.as_ref(),
                timeout_s: entry.timeout_s,
                attempts_max: entry.attempts_max,
                requirements: entry.requirements.as_ref(),
                unique_key: entry.unique_key.as_deref(),
            },
        )?;
        let platform = match &entry.platform {
            None => Platform::Cpu,
            Some(word) => word.parse().map_err(|error| check.invalid(at("platform"), error))?,
        };
        let repeat = check.repeat(&at("repeat"), entry.repeat)?;
        for number in 1..=repeat {
            let name = numbered(&entry.name, number, repeat);
            let test = TestSpec {
                profile: entry.profile.clone(),
                module: entry.module.clone(),
                class: entry.class.clone(),
                method: entry.method.clone(),
            };
            let spec = CaseSpec::Test { platform, test };
            cases.push(if repeat == 1 { handling.only_one(name, spec) } else { handling.one_of_many(name, spec) });
        }
        Ok(())
    }
}

/// Keys that every kind of entry has.
pub(super) struct EntryKeys<'a> {
    pub(super) priority: Option<&'a String>,
    pub(super) timeout_s: Option<f64>,
    pub(super) attempts_max: Option<u32>,
    pub(super) requirements: Option<&'a RequirementsEntry>,
    pub(super) unique_key: Option<&'a str>,
}

/// What all cases of an entry have in common.
pub(super) struct Handling {
    priority: Priority,
    timeout: Duration,
    attempts_max: u32,
    requirements: Requirements,
    unique_key: Option<String>,
}

impl Handling {
    pub(super) fn only_one(&self, name: String, spec: CaseSpec) -> Case {
        Case {
            name,
            priority: self.priority,
            timeout: self.timeout,
            attempts_max: self.attempts_max,
            requirements: self.requirements.clone(),
            unique_key: self.unique_key.clone(),
            spec,
        }
    }

    /// With a unique key of its own: one key for all of them would make them one job.
    pub(super) fn one_of_many(&self, name: String, spec: CaseSpec) -> Case {
        let unique_key = self.unique_key.as_ref().map(|key| format!("{key}/{name}"));
        Case { unique_key, ..self.only_one(name, spec) }
    }
}

/// The name of one of several repeats.
pub(super) fn numbered(name: &str, number: u32, repeats: u32) -> String {
    if repeats == 1 { name.to_owned() } else { format!("{name} {number}") }
}
