//! Room for one more: which idle tabs and sessions go so that all browsers stay within the budget.

use super::{BrowserPicture, Need, Picture, SessionPicture, TabPicture, Way};

/// What a browser takes before it holds any model, in MB: 250 to 450 were seen of Chromium 156 and Firefox 153.
pub(crate) const SESSION_BASE_MB: f64 = 400.0;

/// Idle tabs (by session and tab) and idle sessions that must go.
type Room = (Vec<(u64, u64)>, Vec<u64>);

/// Says who must go for this way into a browser; `None` if even that would not do.
pub(super) fn make_room(need: &Need, way: Way, browser: &BrowserPicture, picture: &Picture) -> Option<Room> {
    let (mut close_tabs, mut end_sessions) = (Vec::new(), Vec::new());
    let (mut wanted_mb, into) = match way {
        Way::WarmModel { .. } => return Some(Room::default()),
        Way::WarmPage { session, tab } => (need.memory_mb, Some((session, Some(tab)))),
        Way::NewTab { session } => (need.memory_mb, Some((session, None))),
        Way::NewSession => (need.memory_mb + SESSION_BASE_MB, None),
    };
    // A session with all its tabs open gives up one that is idle.
    if let Some((session, None)) = into {
        let session = picture.sessions.iter().find(|known| known.id == session)?;
        if session.tabs.len() >= browser.tabs_max {
            let oldest = session.tabs.iter().filter(|tab| !tab.is_busy).min_by_key(|tab| tab.used)?;
            close_tabs.push((session.id, oldest.id));
            wanted_mb -= oldest.memory_mb;
        }
    }
    // A browser with all its sessions gives up one that is idle.
    if way == Way::NewSession && picture.sessions_of(browser).count() >= browser.sessions_max {
        let idle = picture.sessions_of(browser).filter(|session| session.is_idle());
        let oldest = idle.min_by_key(|session| session.used)?;
        end_sessions.push(oldest.id);
        wanted_mb -= oldest.memory_mb;
    }
    let mut excess_mb =
        picture.sessions.iter().map(|session| session.memory_mb).sum::<f64>() + wanted_mb - picture.budget_mb;
    for leaver in leavers(picture, into, &close_tabs, &end_sessions) {
        if excess_mb <= 0.0 {
            break;
        }
        match leaver {
            Leaver::Tab(session, tab) => {
                excess_mb -= tab.memory_mb;
                close_tabs.push((session.id, tab.id));
            }
            Leaver::Session(session) => {
                let tabs_mb: f64 = session
                    .tabs
                    .iter()
                    .filter(|tab| close_tabs.contains(&(session.id, tab.id)))
                    .map(|tab| tab.memory_mb)
                    .sum();
                excess_mb -= session.memory_mb - tabs_mb;
                close_tabs.retain(|(of, _)| *of != session.id);
                end_sessions.push(session.id);
            }
        }
    }
    (excess_mb <= 0.0).then_some((close_tabs, end_sessions))
}

enum Leaver<'a> {
    Tab(&'a SessionPicture, &'a TabPicture),
    Session(&'a SessionPicture),
}

/// Idle tabs that hold a model, then idle sessions, each the longest unused first; never what the job goes into.
fn leavers<'a>(
    picture: &'a Picture,
    into: Option<(u64, Option<u64>)>,
    closing: &[(u64, u64)],
    ending: &[u64],
) -> Vec<Leaver<'a>> {
    let goes_into = |session: u64, tab: u64| into == Some((session, Some(tab)));
    let mut tabs: Vec<(&SessionPicture, &TabPicture)> = picture
        .sessions
        .iter()
        .filter(|session| session.is_ready && !ending.contains(&session.id))
        .flat_map(|session| session.tabs.iter().map(move |tab| (session, tab)))
        .filter(|(session, tab)| {
            let at = (session.id, tab.id);
            !tab.is_busy && tab.holds.is_some() && !closing.contains(&at) && !goes_into(at.0, at.1)
        })
        .collect();
    tabs.sort_by_key(|(_, tab)| tab.used);
    let mut sessions: Vec<&SessionPicture> = picture
        .sessions
        .iter()
        .filter(|session| {
            let is_wanted = into.is_some_and(|(into, _)| into == session.id);
            session.is_idle() && !is_wanted && !ending.contains(&session.id)
        })
        .collect();
    sessions.sort_by_key(|session| session.used);
    let tabs = tabs.into_iter().map(|(session, tab)| Leaver::Tab(session, tab));
    tabs.chain(sessions.into_iter().map(Leaver::Session)).collect()
}
