//! Room for one more: which idle tabs and sessions go so that all browsers stay within the budget.

use super::{Need, Picture, SessionPicture, TabPicture, Way};

/// What a browser takes before it holds any model, in MB: 250 to 450 were seen of Chromium 156 and Firefox 153.
pub(crate) const SESSION_BASE_MB: f64 = 400.0;

/// Idle tabs (by session and tab) and idle sessions that must go.
type Room = (Vec<(u64, u64)>, Vec<u64>);

/// Says who must go for this way in; `None` if even that would not do.
pub(super) fn make_room(need: &Need, way: Way, picture: &Picture) -> Option<Room> {
    let mut close_tabs = Vec::new();
    let (mut wanted_mb, into) = match way {
        Way::WarmModel { .. } => return Some(Room::default()),
        Way::WarmPage { session, tab } => (need.memory_mb, Some((session, Some(tab)))),
        Way::NewTab { session } => (need.memory_mb, Some((session, None))),
        Way::NewSession => (need.memory_mb + SESSION_BASE_MB, None),
    };
    // A session with all its tabs open gives up one that is idle.
    if let Some((session, None)) = into {
        let session = picture.sessions.iter().find(|known| known.id == session)?;
        let browser = picture.browsers.iter().find(|browser| browser.name == session.browser)?;
        if session.tabs.len() >= browser.tabs_max {
            let oldest = session.tabs.iter().filter(|tab| !tab.is_busy).min_by_key(|tab| tab.used)?;
            close_tabs.push((session.id, oldest.id));
            wanted_mb -= oldest.memory_mb;
        }
    }
    let mut excess_mb =
        picture.sessions.iter().map(|session| session.memory_mb).sum::<f64>() + wanted_mb - picture.budget_mb;
    let mut end_sessions = Vec::new();
    for leaver in leavers(picture, into, &close_tabs) {
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
fn leavers<'a>(picture: &'a Picture, into: Option<(u64, Option<u64>)>, closing: &[(u64, u64)]) -> Vec<Leaver<'a>> {
    let goes_into = |session: u64, tab: u64| into == Some((session, Some(tab)));
    let mut tabs: Vec<(&SessionPicture, &TabPicture)> = picture
        .sessions
        .iter()
        .filter(|session| session.is_ready)
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
        .filter(|session| session.is_idle() && into.is_none_or(|(into, _)| into != session.id))
        .collect();
    sessions.sort_by_key(|session| session.used);
    let tabs = tabs.into_iter().map(|(session, tab)| Leaver::Tab(session, tab));
    tabs.chain(sessions.into_iter().map(Leaver::Session)).collect()
}
