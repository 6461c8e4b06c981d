//! Grids of benchmarks, native and in browsers: every combination of the lists is one case.

use messages::{Configuration, Platform, Precision, WebSpec};
use serde::Deserialize;

use super::{
    CASES_MAX, Case, CaseSpec, SuiteError,
    check::Check,
    configuration,
    file::{EntryKeys, Handling, RequirementsEntry, numbered},
    resolve_shape,
};

/// A grid as it is written; what only browsers have is refused elsewhere.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Grid {
    models: Vec<String>,
    #[serde(default)]
    platforms: Option<Vec<String>>,
    /// Each is a case of its own; without any, one case that any browser may run.
    #[serde(default)]
    browsers: Option<Vec<String>>,
    /// Platforms that will do where a browser lacks the one of the case.
    #[serde(default)]
    fallback_platforms: Option<Vec<String>>,
    /// Memory that the browser may need, in MB.
    #[serde(default)]
    memory_mb: Option<u64>,
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
    pub(super) warmup_iterations: Option<u32>,
    #[serde(default)]
    pub(super) iterations_min: Option<u32>,
    #[serde(default)]
    pub(super) iterations_max: Option<u32>,
    #[serde(default)]
    pub(super) median_interval_pct: Option<f64>,
    #[serde(default)]
    pub(super) duration_s_max: Option<f64>,
    #[serde(default)]
    priority: Option<String>,
    #[serde(default)]
    timeout_s: Option<f64>,
    #[serde(default)]
    attempts_max: Option<u32>,
    #[serde(default)]
    requirements: Option<RequirementsEntry>,
    /// Each of its cases has the key `<this>/<name of the case>`.
    #[serde(default)]
    unique_key: Option<String>,
    /// How many times each configuration is measured, each a case of its own.
    #[serde(default)]
    repeat: Option<u32>,
}

/// Where a grid's cases run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GridKind {
    /// Under `benchmarks`.
    Native,
    /// Under `web`.
    Web,
}

/// Where a grid stands in its file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) kind: GridKind,
    pub(super) index: usize,
}

impl Place {
    /// The place of a key of it, e.g. `web[1].browsers`.
    pub(super) fn of(self, field: &str) -> String {
        let list = match self.kind {
            GridKind::Native => "benchmarks",
            GridKind::Web => "web",
        };
        format!("{list}[{}].{field}", self.index)
    }
}

/// What every case of a web grid asks of its browser, checked.
struct Browsing {
    browsers: Vec<Option<String>>,
    fallbacks: Vec<Platform>,
    memory_mb: Option<u64>,
}

impl Grid {
    /// The keys that every kind of entry has.
    pub(super) fn keys(&self) -> EntryKeys<'_> {
        EntryKeys {
            priority: self.priority.as_ref(),
            timeout_s: self.timeout_s,
            attempts_max: self.attempts_max,
            requirements: self.requirements.as_ref(),
            unique_key: self.unique_key.as_deref(),
        }
    }

    /// Appends its cases.
    ///
    /// # Errors
    ///
    /// [`SuiteError::Invalid`] names the place.
    pub(super) fn expand(
        &self,
        check: &Check<'_>,
        place: Place,
        handling: &Handling,
        cases: &mut Vec<Case>,
    ) -> Result<(), SuiteError> {
        let at = |field: &str| place.of(field);
        if self.models.is_empty() {
            return Err(check.invalid(at("models"), "the list is empty"));
        }
        let browsing = self.browsing(check, place)?;
        let repeat = check.repeat(&at("repeat"), self.repeat)?;
        for wanted in self.configurations(check, place)? {
            check.zoo_shape(&at, &wanted)?;
            for browser in &browsing.browsers {
                let benchmark = check.benchmark(&at, self, wanted.clone())?;
                let case = match place.kind {
                    GridKind::Native => {
                        handling.only_one(benchmark.configuration.to_string(), CaseSpec::Benchmark(benchmark))
                    }
                    GridKind::Web => {
                        let mut web = WebSpec::new(*benchmark, browser.iter().cloned().collect());
                        web.platforms.clone_from(&browsing.fallbacks);
                        web.memory_mb = browsing.memory_mb;
                        web.validate().map_err(|error| check.invalid(at(error.field), &error))?;
                        of_browser(handling, web)
                    }
                };
                cases.extend((1..=repeat).map(|number| {
                    let name = numbered(&case.name, number, repeat);
                    let requirements = case.requirements.clone();
                    Case { requirements, ..handling.one_of_many(name, case.spec.clone()) }
                }));
                if cases.len() > CASES_MAX {
                    return Err(check.invalid(at("models"), format!("more than {CASES_MAX} cases")));
                }
            }
        }
        Ok(())
    }

    fn browsing(&self, check: &Check<'_>, place: Place) -> Result<Browsing, SuiteError> {
        let at = |field: &str| place.of(field);
        let given = [
            ("browsers", self.browsers.is_some()),
            ("fallback_platforms", self.fallback_platforms.is_some()),
            ("memory_mb", self.memory_mb.is_some()),
        ];
        if place.kind == GridKind::Native {
            return match given.into_iter().find(|(_, is_given)| *is_given) {
                Some((key, _)) => Err(check.invalid(at(key), "only grids under `web` run in browsers")),
                None => Ok(Browsing { browsers: vec![None], fallbacks: Vec::new(), memory_mb: None }),
            };
        }
        if self.memory_mb == Some(0) {
            return Err(check.invalid(at("memory_mb"), "0 MB asks for nothing; leave the key out"));
        }
        let browsers = match &self.browsers {
            None => vec![None],
            Some(names) if names.is_empty() => {
                return Err(check.invalid(at("browsers"), "the list is empty; leave the key out for any browser"));
            }
            Some(names) => names.iter().cloned().map(Some).collect(),
        };
        let fallbacks = match &self.fallback_platforms {
            None => Vec::new(),
            Some(words) => check.words::<Platform>(&at("fallback_platforms"), Some(words), Platform::Wasm)?,
        };
        refuse_where(check, &at("fallback_platforms"), &fallbacks, GridKind::Web)?;
        Ok(Browsing { browsers, fallbacks, memory_mb: self.memory_mb })
    }

    /// Every combination of the lists.
    fn configurations(&self, check: &Check<'_>, place: Place) -> Result<Vec<Configuration>, SuiteError> {
        let at = |field: &str| place.of(field);
        let usual = if place.kind == GridKind::Web { Platform::Wasm } else { Platform::Cpu };
        let platforms = check.words::<Platform>(&at("platforms"), self.platforms.as_ref(), usual)?;
        refuse_where(check, &at("platforms"), &platforms, place.kind)?;
        let precisions = check.words::<Precision>(&at("precisions"), self.precisions.as_ref(), Precision::Fp32)?;
        let batch_sizes = check.list(&at("batch_sizes"), self.batch_sizes.as_ref(), 1)?;
        let threads = check.list(&at("threads"), self.threads.as_ref(), 1)?;
        let lengths = optional(self.sequence_lengths.as_ref());
        let sizes = optional(self.image_sizes.as_ref());
        let mut all = Vec::new();
        for model in &self.models {
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
                                    all.push(wanted);
                                    if all.len() > CASES_MAX {
                                        return Err(check.invalid(at("models"), format!("more than {CASES_MAX} cases")));
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        Ok(all)
    }
}

/// A case for one browser asks for a worker that has it.
fn of_browser(handling: &Handling, web: WebSpec) -> Case {
    let browser = web.benchmark.configuration.browser.clone();
    let mut case = handling.only_one(web.benchmark.configuration.to_string(), CaseSpec::Web(Box::new(web)));
    case.requirements.browser = browser.or(case.requirements.browser);
    case
}

/// Refuses platforms that are not of the grid's kind, with where they belong.
fn refuse_where(check: &Check<'_>, at: &str, platforms: &[Platform], kind: GridKind) -> Result<(), SuiteError> {
    match (kind, platforms.iter().find(|platform| platform.is_web() != (kind == GridKind::Web))) {
        (_, None) => Ok(()),
        (GridKind::Native, Some(web)) => {
            Err(check.invalid(at, format!("{web} runs in browsers: put the grid under `web`")))
        }
        (GridKind::Web, Some(native)) => Err(check.invalid(
            at,
            format!("{native} does not run in browsers, webgpu, webnn and wasm do: put the grid under `benchmarks`"),
        )),
    }
}

fn optional(list: Option<&Vec<u32>>) -> Vec<Option<u32>> {
    match list {
        Some(values) if !values.is_empty() => values.iter().copied().map(Some).collect(),
        _ => vec![None],
    }
}
