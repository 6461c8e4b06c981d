//! What the worker's settings decide about the pool: which browsers, how many, how much memory, how long.

use std::path::PathBuf;

/// How a pool of browsers is kept.
#[derive(Debug, Clone)]
pub struct PoolSettings {
    /// Where the pool keeps what outlives it: learned speeds, verified placements, its address. One pool at a time.
    pub state_directory: PathBuf,
    /// The folder of ONNX Runtime Web's builds (`ort.webgpu.min.mjs` and the files that it loads).
    pub ort_web_directory: Option<PathBuf>,
    /// A folder that is searched for drivers after the search path, e.g. where `cargo install` put geckodriver.
    pub tools_directory: Option<PathBuf>,
    /// The browsers to use where they are installed, each under a name of its own.
    pub browsers: Vec<BrowserSettings>,
    /// Memory that all browsers may take together, in MB (10^6 bytes), as PSS of their process trees; half of the
    /// machine's if `None`.
    pub memory_mb_max: Option<u64>,
    /// Memory above which a session is ended once it is idle, in MB (10^6 bytes).
    pub session_memory_mb_max: u64,
    /// Jobs after which a session is ended once it is idle: browsers grow.
    pub jobs_per_session_max: u32,
    /// Jobs that wait for a place at most.
    pub waiting_max: usize,
    /// Waiting for which a job counts as one priority higher, in milliseconds, so that low ones are not starved.
    pub promote_after_ms: u64,
    /// Time after which an unused tab is closed, in milliseconds.
    pub idle_tab_ms_max: u64,
    /// Time after which an unused session is ended, in milliseconds.
    pub idle_session_ms_max: u64,
    /// Longest start of a driver with its browser, in milliseconds.
    pub start_ms_max: u64,
    /// Longest opening or reloading of a tab until its Worker answers, in milliseconds.
    pub open_ms_max: u64,
    /// Longest polite closing of a tab before its browser is killed, in milliseconds.
    pub close_ms_max: u64,
    /// Longest time between two reports of a tab that works, in milliseconds; then its Worker counts as hung.
    pub silence_ms_max: u64,
    /// Longest probe of a backend, in milliseconds.
    pub probe_ms_max: u64,
    /// Time after which an idle session proves itself again, in milliseconds.
    pub probe_every_ms: u64,
    /// When a backend of a browser is given up for a while.
    pub breaker: BreakerSettings,
    /// Browsers (or tabs) that one job may kill; then it is poison.
    pub deaths_max: u32,
}

impl PoolSettings {
    /// Usual settings for a state directory: every browser that Augur knows.
    pub fn usual(state_directory: PathBuf) -> Self {
        Self {
            state_directory,
            ort_web_directory: None,
            tools_directory: None,
            browsers: BrowserSettings::known(),
            memory_mb_max: None,
            session_memory_mb_max: 4_000,
            jobs_per_session_max: 100,
            waiting_max: 256,
            promote_after_ms: 30_000,
            idle_tab_ms_max: 300_000,
            idle_session_ms_max: 900_000,
            start_ms_max: 60_000,
            open_ms_max: 30_000,
            close_ms_max: 2_000,
            silence_ms_max: 300_000,
            probe_ms_max: 60_000,
            probe_every_ms: 120_000,
            breaker: BreakerSettings { failures_to_open: 3, open_ms: 30_000, open_ms_max: 600_000 },
            deaths_max: 3,
        }
    }
}

/// When a circuit breaker opens and closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures in a row that open it.
    pub failures_to_open: u32,
    /// How long it stays open the first time, in milliseconds; twice as long each time its trial fails.
    pub open_ms: u64,
    /// How long it stays open at most, in milliseconds.
    pub open_ms_max: u64,
}

/// One browser that the pool may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowserSettings {
    /// Its name in jobs and results.
    pub name: String,
    /// Which protocol it speaks.
    pub family: Family,
    /// Its executable, if not one of the family's usual ones.
    pub binary: Option<PathBuf>,
    /// Its driver, if not the family's usual one.
    pub driver: Option<PathBuf>,
    /// Arguments beside those that the pool gives.
    pub arguments: Vec<String>,
    /// Whether we start the browser and the driver attaches to it: for builds that a driver cannot start itself.
    pub attach: bool,
    /// Processes of it at once, each with a profile of its own.
    pub sessions_max: u32,
    /// Tabs of each, one model and one running job per tab. A browser opens six connections to one server; a tab
    /// holds one.
    pub tabs_max: u32,
}

/// What kind of browser it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Chromium and Chrome.
    Chromium,
    /// Edge: Chromium's protocol under another name.
    Edge,
    /// Firefox.
    Firefox,
}

impl Family {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chromium => "chromium",
            Self::Edge => "edge",
            Self::Firefox => "firefox",
        }
    }
}

impl BrowserSettings {
    /// Most tabs that one session may have: each holds one connection, and two of six must stay free for reports.
    pub const TABS_LIMIT: u32 = 4;

    /// A browser of this family with nothing else set.
    pub fn usual(name: &str, family: Family) -> Self {
        Self {
            name: name.to_owned(),
            family,
            binary: None,
            driver: None,
            arguments: Vec::new(),
            attach: false,
            sessions_max: 1,
            tabs_max: 3,
        }
    }

    /// Chromium, Firefox and Edge.
    pub fn known() -> Vec<Self> {
        [Family::Chromium, Family::Firefox, Family::Edge].map(|family| Self::usual(family.as_str(), family)).to_vec()
    }
}
