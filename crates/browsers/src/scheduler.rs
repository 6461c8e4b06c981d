//! Decides where a job goes. Pure: sees a picture of the pool, touches nothing.
//!
//! In this order:
//! 1. The job's first platform that works in an acceptable browser; a later one only where the earlier cannot be had
//!    on this machine. What is merely busy is waited for, so that what is measured does not depend on the load.
//! 2. Among browsers, the job's own order, then a place that holds the model already, then a place that has not been
//!    tried for this family, then the fastest by what was learned here, then the cheapest way in.
//! 3. Memory: idle tabs and sessions make room, the longest unused first; running jobs never do.

mod memory;
mod picture;

use std::cmp::Ordering;

use messages::Platform;

pub(crate) use memory::SESSION_BASE_MB;
pub(crate) use picture::{BrowserPicture, Picture, Readiness, SessionPicture, TabPicture};

use crate::WebError;

/// What a job needs.
#[derive(Debug, Clone)]
pub(crate) struct Need {
    /// Acceptable platforms, in order of preference; at least one.
    pub(crate) platforms: Vec<Platform>,
    /// Acceptable browsers, in order of preference; any if there is none.
    pub(crate) browsers: Vec<String>,
    /// Whether the adapter must be able to compute with 16-bit floats.
    pub(crate) half_floats: bool,
    /// What a tab must hold to be warm, without the platform.
    pub(crate) model: String,
    /// For learned speeds.
    pub(crate) family: String,
    /// Memory of the model's tab, in MB.
    pub(crate) memory_mb: f64,
    /// Browsers that have just died under this job; used again only if there is no other.
    pub(crate) avoided: Vec<String>,
    /// Whether it gets a browser of its own, so that another death is nobody else's, nor another's its own.
    pub(crate) alone: bool,
}

/// What becomes of a job now.
#[derive(Debug)]
pub(crate) enum Choice {
    /// It goes there.
    Place(Place),
    /// Not now.
    Wait(Waiting),
    /// Never, on this machine.
    Never(WebError),
}

/// Why a job waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Every acceptable slot is taken.
    Busy,
    /// Other jobs have the memory.
    Memory,
    /// Every acceptable place is given up for a while.
    Broken,
}

/// A place for a job, and what must end first.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Place {
    pub(crate) browser: String,
    pub(crate) platform: Platform,
    pub(crate) way: Way,
    /// Idle tabs to close, by session and tab.
    pub(crate) close_tabs: Vec<(u64, u64)>,
    /// Idle sessions to end.
    pub(crate) end_sessions: Vec<u64>,
}

/// How a job gets in, cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// A tab that holds the model.
    WarmModel { session: u64, tab: u64 },
    /// An open tab that holds none.
    WarmPage { session: u64, tab: u64 },
    /// A new tab.
    NewTab { session: u64 },
    /// A new browser.
    NewSession,
}

impl Way {
    fn rank(self) -> u8 {
        match self {
            Self::WarmModel { .. } => 0,
            Self::WarmPage { .. } => 1,
            Self::NewTab { .. } => 2,
            Self::NewSession => 3,
        }
    }
}

/// Decides. `relative_time` says what was learned of a browser's platform for the job's family.
pub(crate) fn choose(need: &Need, picture: &Picture, relative_time: &dyn Fn(&str, Platform) -> Option<f64>) -> Choice {
    let mut reasons = Vec::new();
    let mut is_broken = false;
    for platform in &need.platforms {
        let mut able = Vec::new();
        for browser in acceptable(need, picture) {
            match browser.readiness(*platform, need.half_floats) {
                Readiness::Able { .. } => able.push(browser),
                Readiness::Broken => is_broken = true,
                Readiness::Unable { reason } => reasons.push(format!("{} {platform}: {reason}", browser.name)),
            }
        }
        let spared = able.iter().any(|browser| !need.avoided.contains(&browser.name));
        able.retain(|browser| !spared || !need.avoided.contains(&browser.name));
        if !able.is_empty() {
            return best(need, *platform, &able, picture, relative_time);
        }
    }
    if is_broken {
        return Choice::Wait(Waiting::Broken);
    }
    for name in need.browsers.iter().filter(|name| !picture.browsers.iter().any(|browser| browser.name == **name)) {
        reasons.push(format!("{name} is not in the settings"));
    }
    Choice::Never(WebError::Unavailable { reason: reasons.join("; ") })
}

/// Whether a job that waits keeps another from a place: it keeps it from taking memory that it waits for itself.
pub(crate) fn is_held_back(place: &Place, before: Waiting) -> bool {
    before == Waiting::Memory && !matches!(place.way, Way::WarmModel { .. })
}

fn acceptable<'a>(need: &Need, picture: &'a Picture) -> Vec<&'a BrowserPicture> {
    if need.browsers.is_empty() {
        return picture.browsers.iter().collect();
    }
    need.browsers.iter().filter_map(|name| picture.browsers.iter().find(|browser| browser.name == *name)).collect()
}

fn best(
    need: &Need,
    platform: Platform,
    able: &[&BrowserPicture],
    picture: &Picture,
    relative_time: &dyn Fn(&str, Platform) -> Option<f64>,
) -> Choice {
    let smallest_mb = need.memory_mb + SESSION_BASE_MB;
    if smallest_mb > picture.budget_mb {
        return Choice::Never(WebError::MemoryBudget {
            needed_mb: whole_mb(smallest_mb),
            budget_mb: whole_mb(picture.budget_mb),
        });
    }
    let mut waiting = Waiting::Busy;
    let mut candidates = Vec::new();
    for (order, browser) in able.iter().enumerate() {
        for way in ways(need, platform, browser, picture) {
            match memory::make_room(need, way, browser, picture) {
                Some((close_tabs, end_sessions)) => {
                    let place = Place { browser: browser.name.clone(), platform, way, close_tabs, end_sessions };
                    let order = if need.browsers.is_empty() { 0 } else { order };
                    candidates.push((order, relative_time(&browser.name, platform), place));
                }
                None => waiting = Waiting::Memory,
            }
        }
    }
    let best = candidates.into_iter().min_by(|(a_order, a_time, a), (b_order, b_time, b)| {
        let is_cold = |place: &Place| !matches!(place.way, Way::WarmModel { .. });
        a_order
            .cmp(b_order)
            .then(is_cold(a).cmp(&is_cold(b)))
            .then(by_time(*a_time, *b_time))
            .then(a.way.rank().cmp(&b.way.rank()))
            .then(a.end_sessions.len().cmp(&b.end_sessions.len()))
            .then(a.close_tabs.len().cmp(&b.close_tabs.len()))
    });
    best.map_or(Choice::Wait(waiting), |(_, _, place)| Choice::Place(place))
}

/// What was never tried comes first: how else would it become known.
fn by_time(a: Option<f64>, b: Option<f64>) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(a), Some(b)) => a.total_cmp(&b),
    }
}

/// Every way into a browser that its slots allow.
fn ways(need: &Need, platform: Platform, browser: &BrowserPicture, picture: &Picture) -> Vec<Way> {
    let mut ways = Vec::new();
    let sessions: Vec<&SessionPicture> = picture.sessions_of(browser).collect();
    // One that is idle can make room for another, which is the way in where the memory that it has grown to is wanted.
    if sessions.len() < browser.sessions_max || sessions.iter().any(|session| session.is_idle()) {
        ways.push(Way::NewSession);
    }
    if need.alone {
        return ways;
    }
    for session in sessions.into_iter().filter(|session| session.is_ready) {
        let free = session.tabs.iter().filter(|tab| !tab.is_busy);
        for tab in free {
            let place = (session.id, tab.id);
            match &tab.holds {
                Some((model, on)) if *model == need.model && *on == platform => {
                    ways.push(Way::WarmModel { session: place.0, tab: place.1 });
                }
                Some(_) => {}
                None => ways.push(Way::WarmPage { session: place.0, tab: place.1 }),
            }
        }
        let has_room = session.tabs.len() < browser.tabs_max || session.tabs.iter().any(|tab| !tab.is_busy);
        if has_room {
            ways.push(Way::NewTab { session: session.id });
        }
    }
    ways
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "megabytes of one machine")]
fn whole_mb(mb: f64) -> u64 {
    mb.max(0.0).ceil() as u64
}

#[cfg(test)]
mod tests;
