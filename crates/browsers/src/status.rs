//! The pool's status, for people and programs.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::{CapabilityStatus, Rung, SpeedStatus, breaker::Circuit, inner::Inner, state::SessionSlot};

/// Where a running pool answers; lies in its state directory, readable by its owner only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Process id of the pool.
    pub pid: u32,
    /// Where a GET request is answered with [`PoolStatus`] as JSON.
    pub status_url: String,
}

impl Address {
    /// Its name in the state directory.
    pub const FILE: &str = "pool.json";
}

/// What the pool does and knows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PoolStatus {
    /// Process id of the pool.
    pub pid: u32,
    /// How long it runs, in seconds.
    pub uptime_s: f64,
    /// Each installed browser.
    pub browsers: Vec<BrowserStatus>,
    /// Browsers of the settings that cannot be used, with the reason.
    pub missing: Vec<(String, String)>,
    /// Each browser that runs or starts.
    pub sessions: Vec<SessionStatus>,
    /// What was probed.
    pub capabilities: Vec<CapabilityStatus>,
    /// Each breaker that was ever asked.
    pub breakers: Vec<BreakerStatus>,
    /// What was learned, by family, the fastest first.
    pub speeds: Vec<SpeedStatus>,
    /// Jobs that wait for a place.
    pub waiting: usize,
    /// Jobs that have one.
    pub running: usize,
    /// Memory of all browsers as last measured (PSS), in MB.
    pub memory_mb: f64,
    /// What they may take, in MB.
    pub memory_mb_max: f64,
    /// What happened since the start.
    pub counters: CounterStatus,
}

/// An installed browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BrowserStatus {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its driver's version.
    pub driver_version: String,
}

/// A browser that runs or starts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SessionStatus {
    /// Its number in this pool.
    pub id: u64,
    /// The browser's name.
    pub browser: String,
    /// `starting`, `idle`, `busy` or `retiring`.
    pub state: &'static str,
    /// Process id of the browser.
    pub pid: Option<i32>,
    /// Jobs that it has had.
    pub jobs: u32,
    /// Memory of its process tree as last measured, in MB; 0 if it was not yet.
    pub memory_mb: f64,
    /// Its tabs.
    pub tabs: Vec<TabStatus>,
}

/// A tab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TabStatus {
    /// The model that it holds: hash and threads.
    pub model: Option<String>,
    /// Where the model runs.
    pub platform: Option<String>,
    /// Whether a job has it.
    pub busy: bool,
}

/// A circuit breaker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BreakerStatus {
    /// The browser.
    pub browser: String,
    /// The platform in it.
    pub platform: String,
    /// `closed`, `open` or `half-open`.
    pub state: &'static str,
    /// Failures in a row, while it is closed.
    pub failures: u32,
    /// Time until the next trial, in milliseconds, while it is open.
    pub trial_in_ms: Option<u64>,
    /// Times that it opened.
    pub opened: u64,
}

/// Counters since the pool's start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CounterStatus {
    /// Jobs with measurements.
    pub jobs_done: u64,
    /// Jobs without.
    pub jobs_failed: u64,
    /// Browsers started.
    pub sessions_started: u64,
    /// Browsers ended for their age or size, or because a tab of theirs did not come up.
    pub sessions_recycled: u64,
    /// Answers of backends to probes, the first ones included.
    pub probes: u64,
    /// Longest that a slot was held beyond the timeout of its job, in milliseconds.
    pub held_beyond_ms_max: u64,
    /// Jobs that the watchdog ended.
    pub watchdog_ended: u64,
    /// Jobs that killed too many browsers.
    pub poisoned: u64,
    /// Processes of an earlier pool that were ended at the start.
    pub reaped: u64,
    /// Each step of the recovery ladder with how often it was taken, gentlest first.
    pub recoveries: Vec<(&'static str, u64)>,
}

impl PoolStatus {
    pub(crate) fn of(inner: &Inner) -> Self {
        let state = inner.state();
        let now = Instant::now();
        let counters = &state.counters;
        Self {
            pid: std::process::id(),
            uptime_s: inner.started_at.elapsed().as_secs_f64(),
            browsers: state
                .browsers
                .iter()
                .map(|installed| BrowserStatus {
                    name: installed.name().to_owned(),
                    version: installed.version.clone(),
                    driver_version: installed.driver_version.clone(),
                })
                .collect(),
            missing: state.missing.clone().into_iter().collect(),
            sessions: state.sessions.iter().map(|(id, slot)| SessionStatus::of(*id, slot)).collect(),
            capabilities: state.capabilities.values().map(CapabilityStatus::from).collect(),
            breakers: state
                .breakers
                .iter()
                .map(|((browser, platform), breaker)| {
                    let (state, failures, trial_in_ms) = describe(breaker.circuit(), now);
                    let (browser, platform) = (browser.clone(), platform.to_string());
                    BreakerStatus { browser, platform, state, failures, trial_in_ms, opened: breaker.opened() }
                })
                .collect(),
            speeds: state.speeds.ratings(),
            waiting: state.waiting.len(),
            running: state.running(),
            memory_mb: state.sessions.values().map(|slot| slot.pss_mb).sum(),
            memory_mb_max: state.budget_mb,
            counters: CounterStatus {
                jobs_done: counters.jobs_done,
                jobs_failed: counters.jobs_failed,
                sessions_started: counters.sessions_started,
                sessions_recycled: counters.sessions_recycled,
                probes: counters.probes,
                held_beyond_ms_max: counters.held_beyond_ms_max,
                watchdog_ended: counters.watchdog_ended,
                poisoned: counters.poisoned,
                reaped: counters.reaped,
                recoveries: Rung::ALL
                    .map(|rung| (rung.as_str(), counters.rungs.get(&rung).copied().unwrap_or_default()))
                    .to_vec(),
            },
        }
    }
}

impl SessionStatus {
    fn of(id: u64, slot: &SessionSlot) -> Self {
        let state = match &slot.session {
            None => "starting",
            Some(_) if slot.is_retiring => "retiring",
            Some(_) if slot.is_idle() => "idle",
            Some(_) => "busy",
        };
        let tabs = slot.tabs.values().map(|tab| TabStatus {
            model: tab.holds.as_ref().map(|(model, _)| model.clone()),
            platform: tab.holds.as_ref().map(|(_, platform)| platform.to_string()),
            busy: tab.tab.is_none(),
        });
        Self {
            id,
            browser: slot.browser.clone(),
            state,
            pid: slot.session.as_ref().and_then(|session| session.browser_pid()),
            jobs: slot.jobs,
            memory_mb: slot.pss_mb,
            tabs: tabs.collect(),
        }
    }
}

fn describe(circuit: Circuit, now: Instant) -> (&'static str, u32, Option<u64>) {
    match circuit {
        Circuit::Closed { failures } => ("closed", failures, None),
        Circuit::HalfOpen { .. } => ("half-open", 0, None),
        Circuit::Open { until, .. } => {
            let left = until.saturating_duration_since(now).as_millis();
            ("open", 0, Some(u64::try_from(left).unwrap_or(u64::MAX)))
        }
    }
}
