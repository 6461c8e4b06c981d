//! What a browser did with a job.

use std::{collections::BTreeMap, fmt};

use crate::UnknownWord;

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
