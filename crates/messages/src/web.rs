//! Jobs that run in a browser: what they ask for, and what the browser did.

use std::{collections::BTreeMap, fmt};

use crate::{
    BenchmarkOutcome, BenchmarkSpec, Configuration, ConfigurationError, Platform, UnknownWord, configuration::limits,
};

/// How to measure a configuration in a browser.
#[derive(Debug, Clone, PartialEq)]
pub struct WebSpec {
    /// What to measure and how; its platform is the first choice, one of [`Platform::WEB`], its backend `ort-web`.
    pub benchmark: BenchmarkSpec,
    /// Acceptable browsers by name, in order of preference; any if there is none.
    pub browsers: Vec<String>,
    /// Further acceptable web platforms, in order of preference, after the first choice.
    pub platforms: Vec<Platform>,
    /// Memory that the browser's processes may need for it, in MB (10^6 bytes).
    pub memory_mb: Option<u64>,
}

impl WebSpec {
    /// Most browsers that a job may name.
    pub const BROWSERS_MAX: usize = 16;

    /// A job for the one platform of its configuration, in whichever of these browsers.
    ///
    /// Where only one browser is possible, the configuration names it.
    pub fn new(mut benchmark: BenchmarkSpec, browsers: Vec<String>) -> Self {
        benchmark.configuration.browser = match browsers.as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        };
        Self { benchmark, browsers, platforms: Vec::new(), memory_mb: None }
    }

    /// All acceptable platforms, the first choice first, each once.
    pub fn acceptable_platforms(&self) -> Vec<Platform> {
        let mut all = vec![self.benchmark.configuration.platform];
        for platform in &self.platforms {
            if !all.contains(platform) {
                all.push(*platform);
            }
        }
        all
    }

    /// Checks that it is a job for browsers.
    ///
    /// # Errors
    ///
    /// [`ConfigurationError`] names the first field that cannot be.
    pub fn validate(&self) -> Result<(), ConfigurationError> {
        let configuration = &self.benchmark.configuration;
        configuration.validate()?;
        if let Some(platform) = self.acceptable_platforms().into_iter().find(|platform| !platform.is_web()) {
            return Err(ConfigurationError {
                field: "platform",
                found: platform.to_string(),
                expected: "a browser runs webgpu, webnn and wasm".to_owned(),
            });
        }
        if configuration.backend != crate::Backend::OrtWeb {
            return Err(ConfigurationError {
                field: "backend",
                found: configuration.backend.to_string(),
                expected: "a browser runs ort-web".to_owned(),
            });
        }
        if self.browsers.len() > Self::BROWSERS_MAX {
            return Err(ConfigurationError {
                field: "browsers",
                found: format!("a list of {}", self.browsers.len()),
                expected: format!("at most {} are possible", Self::BROWSERS_MAX),
            });
        }
        self.browsers.iter().try_for_each(|browser| browser_name(browser))?;
        match &configuration.browser {
            Some(browser) if !self.browsers.is_empty() && !self.browsers.contains(browser) => Err(ConfigurationError {
                field: "browser",
                found: browser.clone(),
                expected: "one of the acceptable browsers is possible".to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

/// Refuses what cannot be a browser's name.
pub(crate) fn browser_name(name: &str) -> Result<(), ConfigurationError> {
    let is_word = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    if (1..=limits::BROWSER_BYTES_MAX).contains(&name.len()) && name.chars().all(is_word) {
        return Ok(());
    }
    Err(ConfigurationError {
        field: "browser",
        found: format!("`{name}`"),
        expected: format!("1 to {} letters, digits, `-`, `_` and `.` are possible", limits::BROWSER_BYTES_MAX),
    })
}

/// What a browser did and how fast.
#[derive(Debug, Clone, PartialEq)]
pub struct WebOutcome {
    /// What was measured. Its memory is that of the browser's whole process tree, its time to load that of fetching
    /// the model and creating the session.
    pub benchmark: BenchmarkOutcome,
    /// The platform that really ran it.
    pub platform: Platform,
    /// The browser that ran it, by the name under which the worker knows it.
    pub browser: String,
    /// Its version.
    pub browser_version: String,
    /// The GPU adapter that it used, if it used one.
    pub adapter: Option<Adapter>,
    /// How many nodes of the graph each execution provider ran, by the name that ONNX Runtime gives it; empty if that
    /// was not looked at.
    pub nodes: BTreeMap<String, u32>,
    /// What took how long before the timed iterations.
    pub phases: WebPhases,
    /// What was there already.
    pub warmth: Warmth,
    /// Threads that it really had.
    pub threads: u32,
    /// What had to be mended on the way, in order.
    pub recoveries: Vec<String>,
}

impl WebOutcome {
    /// Most execution providers that a result names.
    pub const PROVIDERS_MAX: usize = 32;
    /// Most recoveries that a result names.
    pub const RECOVERIES_MAX: usize = 64;

    /// The configuration that was measured, where this one was asked for.
    pub fn configuration(&self, asked: &Configuration) -> Configuration {
        Configuration {
            platform: self.platform,
            threads: self.threads,
            browser: Some(self.browser.clone()),
            ..asked.clone()
        }
    }
}

/// A GPU adapter as the browser describes it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Adapter {
    /// Its vendor.
    pub vendor: String,
    /// Its architecture.
    pub architecture: String,
    /// The device.
    pub device: String,
    /// A description for people.
    pub description: String,
    /// Whether it computes on the processor: no number of it is a GPU's.
    pub is_fallback: bool,
    /// Names of optional features that it has, e.g. `shader-f16`.
    pub features: Vec<String>,
    /// Its limits by name.
    pub limits: BTreeMap<String, f64>,
}

impl Adapter {
    /// Most features, and most limits, that a result names.
    pub const PROPERTIES_MAX: usize = 256;

    /// What it is called: the description, or what else is known.
    pub fn name(&self) -> String {
        let words = if self.description.trim().is_empty() {
            [&self.vendor, &self.architecture, &self.device].map(|word| word.trim()).join(" ")
        } else {
            self.description.clone()
        };
        let name = words.split_whitespace().collect::<Vec<_>>().join(" ");
        if name.is_empty() { "unnamed adapter".to_owned() } else { name }
    }
}

/// Times of what comes before the timed iterations, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct WebPhases {
    /// Fetching the model.
    pub fetch_ms: f64,
    /// Creating the session.
    pub session_ms: f64,
    /// The first run, in which shaders are compiled.
    pub first_run_ms: f64,
    /// From the start of the attempt in the browser to its end.
    pub total_ms: f64,
}

/// What was there already when an attempt began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Warmth {
    /// Nothing: the browser was started for it.
    ColdBrowser,
    /// A session with the browser.
    WarmSession,
    /// A page with the runtime in it.
    WarmPage,
    /// The model's session.
    WarmModel,
}

impl Warmth {
    /// All of them, coldest first.
    pub const ALL: &[Self] = &[Self::ColdBrowser, Self::WarmSession, Self::WarmPage, Self::WarmModel];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ColdBrowser => "cold-browser",
            Self::WarmSession => "warm-session",
            Self::WarmPage => "warm-page",
            Self::WarmModel => "warm-model",
        }
    }
}

impl fmt::Display for Warmth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Warmth {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.iter().copied().find(|warmth| warmth.as_str() == text).ok_or_else(|| UnknownWord {
            kind: "warmth",
            found: text.to_owned(),
            known: Self::ALL.iter().map(|warmth| warmth.as_str()).collect::<Vec<_>>().join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backend, ContentHash, ModelRef, Precision};

    fn spec(browsers: &[&str]) -> WebSpec {
        let configuration = Configuration {
            model: ModelRef { name: "a".to_owned(), sha256: ContentHash([1; 32]) },
            platform: Platform::Webgpu,
            backend: Backend::OrtWeb,
            precision: Precision::Fp32,
            batch_size: 1,
            sequence_length: None,
            image_size: None,
            threads: 1,
            browser: None,
        };
        WebSpec::new(BenchmarkSpec::usual(configuration), browsers.iter().map(|name| (*name).to_owned()).collect())
    }

    fn check_refused(change: impl FnOnce(&mut WebSpec), expected: &str) {
        let mut wrong = spec(&["firefox"]);
        change(&mut wrong);
        let message = wrong.validate().expect_err("refused").to_string();
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn one_browser_is_part_of_the_configuration_and_several_are_not() {
        assert_eq!(spec(&["firefox"]).benchmark.configuration.browser.as_deref(), Some("firefox"));
        assert_eq!(spec(&["firefox", "chromium"]).benchmark.configuration.browser, None);
        let only = spec(&["firefox"]);
        only.validate().expect("a good job");
        assert_eq!(only.benchmark.configuration.to_string(), "a webgpu fp32 batch 1 threads 1 firefox");
    }

    #[test]
    fn platforms_are_in_order_and_once() {
        let mut several = spec(&[]);
        several.platforms = vec![Platform::Wasm, Platform::Webgpu, Platform::Wasm];
        assert_eq!(several.acceptable_platforms(), [Platform::Webgpu, Platform::Wasm]);
    }

    #[test]
    fn what_is_no_job_for_browsers_is_refused() {
        check_refused(|spec| spec.platforms = vec![Platform::Cuda], "platform is cuda");
        check_refused(|spec| spec.benchmark.configuration.backend = Backend::Onnxruntime, "backend is onnxruntime");
        check_refused(|spec| spec.browsers.push("fire fox".to_owned()), "`fire fox`");
        check_refused(|spec| spec.browsers = vec!["edge".to_owned()], "browser is firefox");
        check_refused(|spec| spec.browsers = vec!["a".to_owned(); 17], "a list of 17");
    }

    #[test]
    fn an_adapter_has_a_name() {
        let named = |vendor: &str, description: &str| {
            Adapter { vendor: vendor.to_owned(), description: description.to_owned(), ..Adapter::default() }.name()
        };
        assert_eq!(named("google", ""), "google");
        assert_eq!(named("google", "SwiftShader Device"), "SwiftShader Device");
        assert_eq!(named("", " "), "unnamed adapter");
    }
}
