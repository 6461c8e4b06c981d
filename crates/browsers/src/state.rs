//! What the pool knows about itself: sessions, tabs, who waits, what works. Changed under one lock, never across an
//! await.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use messages::{Platform, Priority};
use tokio::sync::watch;

use crate::{
    Capability, PoolSettings,
    breaker::Breaker,
    driver::Driver,
    installed::Installed,
    placements::Placements,
    recovery::Rung,
    scheduler::{
        BrowserPicture, Choice, Need, Picture, Place, Readiness, SESSION_BASE_MB, SessionPicture, TabPicture, Waiting,
        Way, choose, is_held_back,
    },
    session::Session,
    speeds::Speeds,
    tab::Tab,
};

/// Jobs after which a session is weighed again though nothing else has changed in it.
const JOBS_UNWEIGHED: u32 = 10;

/// Everything under the pool's lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) browsers: Vec<Installed>,
    /// Browsers of the settings that cannot be used, with the reason.
    pub(crate) missing: BTreeMap<String, String>,
    pub(crate) sessions: BTreeMap<u64, SessionSlot>,
    pub(crate) waiting: Vec<Waiter>,
    pub(crate) breakers: BTreeMap<(String, Platform), Breaker>,
    pub(crate) capabilities: BTreeMap<(String, Platform), Capability>,
    pub(crate) speeds: Speeds,
    pub(crate) placements: Placements,
    /// Drivers whose session was ended, for the next session of their browser.
    pub(crate) spare_drivers: BTreeMap<String, Driver>,
    /// Has a receiver for each session that was taken out of the state and is not ended yet.
    pub(crate) endings: watch::Sender<()>,
    pub(crate) counters: Counters,
    pub(crate) budget_mb: f64,
    pub(crate) is_stopping: bool,
    /// Whether what is learned was not written yet.
    pub(crate) is_unsaved: bool,
    ids: u64,
    uses: u64,
}

/// A session, or the place of one that starts.
#[derive(Debug)]
pub(crate) struct SessionSlot {
    pub(crate) browser: String,
    /// `None` while it starts.
    pub(crate) session: Option<Arc<Session>>,
    pub(crate) is_retiring: bool,
    pub(crate) tabs: BTreeMap<u64, TabSlot>,
    pub(crate) jobs: u32,
    /// Latest measurement of its process tree, less what was closed since.
    pub(crate) pss_mb: f64,
    /// How many jobs it had had when all of it was measured; `None` if it was not, or something was closed since.
    pub(crate) weighed_jobs: Option<u32>,
    /// How many jobs it had had at the latest measurement, other jobs in it or not.
    pub(crate) seen_jobs: u32,
    pub(crate) used: u64,
    pub(crate) idle_since: Instant,
    pub(crate) probed_at: Instant,
    /// How often it was probed while idle.
    pub(crate) probes: u32,
}

/// What a tab's model has run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Nothing yet.
    #[default]
    None,
    /// Only this.
    Only(String),
    /// Several: the tab's memory is that of the largest, whichever that was.
    Several,
}

/// A session that is in the state no more, for its end. The pool's stop waits until it is dropped.
#[derive(Debug)]
pub(crate) struct TakenSession {
    pub(crate) session: Arc<Session>,
    pub(crate) ending: watch::Receiver<()>,
}

/// A tab, or the place of one that is lent to a job.
#[derive(Debug)]
pub(crate) struct TabSlot {
    /// `None` while a job has it.
    pub(crate) tab: Option<Tab>,
    pub(crate) holds: Option<(String, Platform)>,
    /// What its model was said to need.
    pub(crate) memory_mb: f64,
    /// Whether [`SessionSlot::pss_mb`] was measured since the model was there and has run what it ran last.
    pub(crate) is_measured: bool,
    /// The shape that the model has run here, if only one.
    pub(crate) shape: Shape,
    pub(crate) used: u64,
    pub(crate) idle_since: Instant,
}

/// A job without a place.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) id: u64,
    pub(crate) priority: Priority,
    pub(crate) since: Instant,
    pub(crate) need: Need,
}

/// What happened since the pool started.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) jobs_done: u64,
    pub(crate) jobs_failed: u64,
    pub(crate) sessions_started: u64,
    pub(crate) sessions_recycled: u64,
    pub(crate) watchdog_ended: u64,
    pub(crate) poisoned: u64,
    pub(crate) rungs: BTreeMap<Rung, u64>,
    /// What an earlier pool had left behind and this one ended, in processes.
    pub(crate) reaped: u64,
    /// Answers of backends to probes.
    pub(crate) probes: u64,
    /// Longest that a slot was held beyond the timeout of its job, in milliseconds.
    pub(crate) held_beyond_ms_max: u64,
}

impl Counters {
    /// Notes for how long a job had its slot.
    pub(crate) fn note_held(&mut self, held: Duration, timeout: Duration) {
        let beyond_ms = u64::try_from(held.saturating_sub(timeout).as_millis()).unwrap_or(u64::MAX);
        self.held_beyond_ms_max = self.held_beyond_ms_max.max(beyond_ms);
    }
}

/// What leaves the pool, to be ended outside the lock.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    pub(crate) tabs: Vec<(Arc<Session>, Tab)>,
    pub(crate) sessions: Vec<TakenSession>,
}

impl State {
    pub(crate) fn new(settings: &PoolSettings, budget_mb: f64) -> Self {
        Self {
            browsers: Vec::new(),
            missing: BTreeMap::new(),
            sessions: BTreeMap::new(),
            waiting: Vec::new(),
            breakers: BTreeMap::new(),
            capabilities: BTreeMap::new(),
            speeds: Speeds::read(&settings.state_directory),
            placements: Placements::read(&settings.state_directory),
            spare_drivers: BTreeMap::new(),
            endings: watch::Sender::default(),
            counters: Counters::default(),
            budget_mb,
            is_stopping: false,
            is_unsaved: false,
            ids: 0,
            uses: 0,
        }
    }

    /// A number that nothing else in this pool has.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// Counts up with each use, to tell old from new.
    pub(crate) fn next_use(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    pub(crate) fn installed(&self, browser: &str) -> Option<&Installed> {
        self.browsers.iter().find(|installed| installed.name() == browser)
    }

    pub(crate) fn breaker(&mut self, browser: &str, platform: Platform, settings: &PoolSettings) -> &mut Breaker {
        self.breakers.entry((browser.to_owned(), platform)).or_insert_with(|| Breaker::new(settings.breaker))
    }

    /// Jobs that have a tab, or are about to.
    pub(crate) fn running(&self) -> usize {
        self.sessions.values().flat_map(|session| session.tabs.values()).filter(|tab| tab.has_job()).count()
    }

    /// Decides about a waiting job as if all were asked in turn: who comes before it takes its place first.
    pub(crate) fn decide(&self, waiter: u64, now: Instant, promote_after: Duration) -> Choice {
        let picture = self.picture();
        let mut line: Vec<&Waiter> = self.waiting.iter().collect();
        line.sort_by_key(|waiter| waiter.rank(now, promote_after));
        let mut before = Waiting::Busy;
        for in_line in line {
            let relative_time =
                |browser: &str, platform| self.speeds.relative_time(&in_line.need.family, browser, platform);
            let choice = choose(&in_line.need, &picture, &relative_time);
            if in_line.id == waiter {
                return match choice {
                    Choice::Place(place) if is_held_back(&place, before) => Choice::Wait(Waiting::Memory),
                    choice => choice,
                };
            }
            match choice {
                // It will take it as soon as it is asked, which wakes us again.
                Choice::Place(place) if !is_held_back(&place, before) => return Choice::Wait(Waiting::Busy),
                Choice::Wait(Waiting::Memory) => before = Waiting::Memory,
                Choice::Place(_) | Choice::Wait(_) | Choice::Never(_) => {}
            }
        }
        Choice::Wait(Waiting::Busy)
    }

    /// Takes what a place says to take; gives the session and tab of the job and who leaves for it.
    pub(crate) fn reserve(&mut self, place: &Place, need: &Need) -> (u64, u64, Leaving) {
        let mut leaving = Leaving::default();
        for (session, tab) in &place.close_tabs {
            leaving.tabs.extend(self.take_tab(*session, *tab));
        }
        for session in &place.end_sessions {
            leaving.sessions.extend(self.take_session(*session));
        }
        let used = self.next_use();
        let (session, tab) = match place.way {
            Way::WarmModel { session, tab } | Way::WarmPage { session, tab } => (session, tab),
            Way::NewTab { session } => (session, self.next_id()),
            Way::NewSession => (self.next_id(), self.next_id()),
        };
        let now = Instant::now();
        let slot = self.sessions.entry(session).or_insert_with(|| SessionSlot::starting(&place.browser, now));
        slot.used = used;
        slot.jobs += 1;
        // Nobody else comes in, and it ends with its job.
        slot.is_retiring |= need.alone;
        let lent = slot.tabs.entry(tab).or_insert_with(|| TabSlot::lent(now));
        lent.used = used;
        if !matches!(place.way, Way::WarmModel { .. }) {
            lent.memory_mb = need.memory_mb;
            lent.is_measured = false;
            lent.shape = Shape::None;
            lent.holds = Some((need.model.clone(), place.platform));
        }
        (session, tab, leaving)
    }

    /// Removes an idle tab.
    pub(crate) fn take_tab(&mut self, session: u64, tab: u64) -> Option<(Arc<Session>, Tab)> {
        let slot = self.sessions.get_mut(&session)?;
        slot.tabs.get(&tab)?.tab.as_ref()?;
        let closed = slot.tabs.remove(&tab)?;
        if closed.is_measured {
            slot.pss_mb = (slot.pss_mb - closed.memory_mb).max(0.0);
        }
        slot.weighed_jobs = None;
        Some((Arc::clone(slot.session.as_ref()?), closed.tab?))
    }

    /// Removes a session with all its tabs.
    pub(crate) fn take_session(&mut self, session: u64) -> Option<TakenSession> {
        let session = self.sessions.remove(&session)?.session?;
        Some(TakenSession { session, ending: self.endings.subscribe() })
    }

    /// Says that a session takes no more jobs.
    pub(crate) fn retire(&mut self, session: u64) {
        if let Some(slot) = self.sessions.get_mut(&session) {
            slot.is_retiring = true;
        }
    }

    fn picture(&self) -> Picture {
        Picture {
            browsers: self.browsers.iter().map(|installed| self.browser_picture(installed)).collect(),
            sessions: self.sessions.iter().map(|(id, slot)| slot.picture(*id)).collect(),
            budget_mb: self.budget_mb,
        }
    }

    fn browser_picture(&self, installed: &Installed) -> BrowserPicture {
        let settings = &installed.settings;
        let of_browser = self.capabilities.iter().filter(|((browser, _), _)| *browser == settings.name);
        let readiness = |platform: Platform, capability: &Capability| {
            let breaker = self.breakers.get(&(settings.name.clone(), platform));
            if breaker.is_some_and(|breaker| !breaker.lets_jobs_through()) {
                return Readiness::Broken;
            }
            match &capability.reason {
                Some(reason) if !capability.works => Readiness::Unable { reason: reason.clone() },
                _ => Readiness::Able { half_floats: capability.has_half_floats() },
            }
        };
        BrowserPicture {
            name: settings.name.clone(),
            sessions_max: settings.sessions_max as usize,
            tabs_max: settings.tabs_max as usize,
            platforms: of_browser
                .map(|((_, platform), capability)| (*platform, readiness(*platform, capability)))
                .collect(),
        }
    }
}

impl Waiter {
    /// Smaller is earlier.
    fn rank(&self, now: Instant, promote_after: Duration) -> (u128, u64) {
        let class = match self.priority {
            Priority::Critical => 0,
            Priority::High => 1,
            Priority::Normal => 2,
            Priority::Low => 3_u128,
        };
        let waited = now.saturating_duration_since(self.since).as_millis();
        (class.saturating_sub(waited / promote_after.as_millis().max(1)), self.id)
    }
}

impl SessionSlot {
    pub(crate) fn starting(browser: &str, now: Instant) -> Self {
        Self {
            browser: browser.to_owned(),
            session: None,
            is_retiring: false,
            tabs: BTreeMap::new(),
            jobs: 0,
            pss_mb: 0.0,
            weighed_jobs: None,
            seen_jobs: 0,
            used: 0,
            idle_since: now,
            probed_at: now,
            probes: 0,
        }
    }

    /// Whether its memory is not known any more.
    pub(crate) fn needs_weighing(&self) -> bool {
        self.weighed_jobs.is_none_or(|jobs| self.jobs >= jobs + JOBS_UNWEIGHED)
            || self.tabs.values().any(|tab| !tab.is_measured)
    }

    /// Whether so many jobs came since its memory was last measured that it may have grown too large unseen.
    pub(crate) fn is_long_unseen(&self) -> bool {
        self.jobs >= self.seen_jobs + JOBS_UNWEIGHED
    }

    /// Whether no job is in it.
    pub(crate) fn is_idle(&self) -> bool {
        self.session.is_some() && self.tabs.values().all(|tab| tab.tab.is_some())
    }

    fn memory_mb(&self) -> f64 {
        let loading = self.tabs.values().filter(|tab| !tab.is_measured).map(|tab| tab.memory_mb).sum::<f64>();
        self.pss_mb.max(SESSION_BASE_MB) + loading
    }

    fn picture(&self, id: u64) -> SessionPicture {
        SessionPicture {
            id,
            browser: self.browser.clone(),
            is_ready: self.session.is_some(),
            is_retiring: self.is_retiring,
            memory_mb: self.memory_mb(),
            tabs: self.tabs.iter().map(|(id, tab)| tab.picture(*id)).collect(),
            used: self.used,
        }
    }
}

impl TabSlot {
    /// Whether a job has it; what the pool opens for itself holds no model.
    fn has_job(&self) -> bool {
        self.tab.is_none() && self.holds.is_some()
    }

    /// The place of a tab that a job has.
    pub(crate) fn lent(now: Instant) -> Self {
        Self { tab: None, holds: None, memory_mb: 0.0, is_measured: true, shape: Shape::None, used: 0, idle_since: now }
    }

    fn picture(&self, id: u64) -> TabPicture {
        TabPicture {
            id,
            is_busy: self.tab.is_none(),
            holds: self.holds.clone(),
            memory_mb: self.memory_mb,
            used: self.used,
        }
    }
}

#[cfg(test)]
mod tests;
