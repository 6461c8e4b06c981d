//! The pool as the scheduler sees it.

use messages::Platform;

/// Everything that a decision depends on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Picture {
    pub(crate) browsers: Vec<BrowserPicture>,
    pub(crate) sessions: Vec<SessionPicture>,
    /// What all browsers may take, in MB.
    pub(crate) budget_mb: f64,
}

/// A browser that the settings name.
#[derive(Debug, Clone)]
pub(crate) struct BrowserPicture {
    pub(crate) name: String,
    pub(crate) sessions_max: usize,
    pub(crate) tabs_max: usize,
    pub(crate) platforms: Vec<(Platform, Readiness)>,
}

/// Whether a browser's platform can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// It was probed and works.
    Able {
        /// Whether its adapter computes with 16-bit floats.
        half_floats: bool,
    },
    /// It works, but its breaker is open.
    Broken,
    /// It does not work here.
    Unable {
        /// Why.
        reason: String,
    },
}

/// A browser that runs, starts or ends.
#[derive(Debug, Clone)]
pub(crate) struct SessionPicture {
    pub(crate) id: u64,
    pub(crate) browser: String,
    /// Whether tabs can be opened in it.
    pub(crate) is_ready: bool,
    /// Whether it ends as soon as its last job does.
    pub(crate) is_retiring: bool,
    /// What it takes, or will once what is being loaded is there, in MB.
    pub(crate) memory_mb: f64,
    pub(crate) tabs: Vec<TabPicture>,
    /// Larger is later.
    pub(crate) used: u64,
}

/// A tab.
#[derive(Debug, Clone)]
pub(crate) struct TabPicture {
    pub(crate) id: u64,
    pub(crate) is_busy: bool,
    /// The model and where it runs.
    pub(crate) holds: Option<(String, Platform)>,
    /// What it was said to need, in MB.
    pub(crate) memory_mb: f64,
    /// Larger is later.
    pub(crate) used: u64,
}

impl Picture {
    /// The sessions of a browser that take jobs.
    pub(crate) fn sessions_of(&self, browser: &BrowserPicture) -> impl Iterator<Item = &SessionPicture> {
        self.sessions.iter().filter(move |session| session.browser == browser.name && !session.is_retiring)
    }
}

impl BrowserPicture {
    /// Whether jobs can use `platform` of it.
    pub(crate) fn readiness(&self, platform: Platform, half_floats: bool) -> Readiness {
        let known = self.platforms.iter().find(|(known, _)| *known == platform).map(|(_, readiness)| readiness);
        match known {
            // WebAssembly and WebNN compute in 16 bits whatever the hardware has.
            Some(Readiness::Able { half_floats: false }) if half_floats && platform == Platform::Webgpu => {
                Readiness::Unable { reason: "its adapter lacks shader-f16".to_owned() }
            }
            Some(readiness) => readiness.clone(),
            None => Readiness::Unable { reason: "it was not probed".to_owned() },
        }
    }
}

impl SessionPicture {
    /// Whether nothing runs in it.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_ready && self.tabs.iter().all(|tab| !tab.is_busy)
    }
}
