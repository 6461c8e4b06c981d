//! Proving that a backend works, with the tiny graph: at the start, after failures, and now and then while idle.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use messages::Platform;

use crate::{
    Capability,
    capability::probe,
    inner::Inner,
    lease::start_session,
    session::Session,
    state::{SessionSlot, TabSlot},
    tab::Tab,
};

/// What a browser may be able to do.
const PLATFORMS: [Platform; 3] = [Platform::Wasm, Platform::Webgpu, Platform::Webnn];

/// Starts a browser and probes each of its platforms; its tab stays as a warm page.
pub(crate) async fn prove_browser(inner: Arc<Inner>, browser: String) {
    let (session_id, tab_id) = {
        let mut state = inner.state();
        let (session, tab) = (state.next_id(), state.next_id());
        let mut slot = SessionSlot::starting(&browser, Instant::now());
        slot.tabs.insert(tab, TabSlot::lent(Instant::now()));
        state.sessions.insert(session, slot);
        (session, tab)
    };
    let opened = async {
        let session = start_session(&inner, session_id, &browser).await?;
        let tab = inner.open_tab(&session, &browser, tab_id).await?;
        Ok::<_, crate::BrowserError>((session, tab))
    };
    match opened.await {
        Ok((session, mut tab)) => {
            for platform in PLATFORMS {
                prove(&inner, &session, &mut tab, &browser, platform).await;
            }
            give_back(&inner, session_id, tab_id, tab);
        }
        Err(error) => {
            for platform in PLATFORMS {
                record(&inner, Err(Capability::lacking(&browser, platform, error.to_string())));
            }
            let taken = inner.state().take_session(session_id);
            if let Some(taken) = taken {
                taken.session.kill_as_ours().await;
            }
        }
    }
    inner.changed.notify_waiters();
}

/// Of so many proofs while idle, one is of what does not work as well: an adapter may have come late.
const HOPELESS_EVERY: u32 = 10;

/// Begins the trials that are due, each on its own.
pub(super) fn try_broken(inner: &Arc<Inner>) {
    let now = Instant::now();
    let due: Vec<(String, Platform)> = {
        let mut state = inner.state();
        let due = state.breakers.iter_mut().filter_map(|(key, breaker)| breaker.begin_trial(now).then(|| key.clone()));
        due.collect()
    };
    for (browser, platform) in due {
        let inner = Arc::clone(inner);
        tokio::spawn(async move {
            if let Some(found) = trial(&inner, &browser, platform).await {
                tracing::info!(%browser, %platform, works = found.is_ok(), "tried a broken backend");
                record(&inner, found);
            } else {
                inner.state().breaker(&browser, platform, &inner.settings).abandon_trial(Instant::now());
            }
            inner.changed.notify_waiters();
        });
    }
}

/// Probes a platform in a tab of its own, in a session of its own if there is none. `None` if the pool ended the session
/// meanwhile, as it may for a job's sake: that says nothing about the backend.
async fn trial(inner: &Arc<Inner>, browser: &str, platform: Platform) -> Option<Result<Capability, Capability>> {
    let lacking = |reason: String| Capability::lacking(browser, platform, reason);
    let (session_id, session, tab_id, is_new) = {
        let mut state = inner.state();
        let tab_id = state.next_id();
        let ready = state.sessions.iter().find_map(|(id, slot)| {
            let session = slot.session.clone().filter(|_| slot.browser == browser && !slot.is_retiring)?;
            session.is_alive().then_some((*id, session))
        });
        if let Some((id, session)) = ready {
            (id, Some(session), tab_id, false)
        } else {
            let id = state.next_id();
            state.sessions.insert(id, SessionSlot::starting(browser, Instant::now()));
            (id, None, tab_id, true)
        }
    };
    let session = match session {
        Some(session) => session,
        None => match start_session(inner, session_id, browser).await {
            Ok(session) => session,
            Err(error) => {
                inner.state().take_session(session_id);
                return Some(Err(lacking(error.to_string())));
            }
        },
    };
    let mut tab = match inner.open_tab(&session, browser, tab_id).await {
        Ok(tab) => tab,
        Err(_) if session.was_ended() => return None,
        Err(error) => {
            // A browser that cannot open a tab is of no use to jobs either.
            inner.end_session(session_id, false).await;
            return Some(Err(lacking(error.to_string())));
        }
    };
    let found = match probe(&mut tab, &inner.server, &inner.probe_path, browser, platform, &inner.settings).await {
        Ok(capability) if capability.works => Ok(capability),
        Ok(capability) => Err(capability),
        Err(_) if session.was_ended() => return None,
        Err(end) => Err(lacking(format!("the probe came to nothing: {end:?}"))),
    };
    if is_new && found.is_ok() {
        inner.state().sessions.entry(session_id).and_modify(|slot| {
            slot.tabs.insert(tab_id, TabSlot::lent(Instant::now()));
        });
        give_back(inner, session_id, tab_id, tab);
        return Some(found);
    }
    inner.close_tab(Some(session_id), &session, tab).await;
    if found.is_err() {
        // Chromium gives up a GPU process that died too often: the next trial is another browser's.
        inner.end_session(session_id, false).await;
    }
    Some(found)
}

/// Probes what idle sessions can do, when their time has come.
pub(super) async fn prove_idle(inner: &Arc<Inner>) {
    let every = Duration::from_millis(inner.settings.probe_every_ms);
    let due: Vec<(u64, Arc<Session>, String, bool)> = {
        let mut state = inner.state();
        let now = Instant::now();
        let mut due = Vec::new();
        for (id, slot) in &mut state.sessions {
            let is_due = slot.is_idle() && !slot.is_retiring && now.duration_since(slot.probed_at) >= every;
            if let Some(session) = slot.session.clone().filter(|_| is_due) {
                slot.probed_at = now;
                slot.probes += 1;
                due.push((*id, session, slot.browser.clone(), slot.probes.is_multiple_of(HOPELESS_EVERY)));
            }
        }
        due
    };
    for (id, session, browser, all) in due {
        let platforms: Vec<Platform> = {
            let state = inner.state();
            let works = |platform: Platform| {
                state.capabilities.get(&(browser.clone(), platform)).is_some_and(|found| found.works)
            };
            PLATFORMS.into_iter().filter(|platform| all || works(*platform)).collect()
        };
        let tab_id = inner.state().next_id();
        match inner.open_tab(&session, &browser, tab_id).await {
            Ok(mut tab) => {
                let mut is_well = true;
                for platform in platforms {
                    is_well &= prove(inner, &session, &mut tab, &browser, platform).await;
                }
                inner.close_tab(Some(id), &session, tab).await;
                if !is_well {
                    inner.end_session(id, false).await;
                }
            }
            Err(error) => {
                tracing::warn!(%browser, %error, "an idle browser opens no tab");
                inner.end_session(id, false).await;
            }
        }
    }
}

/// Opens an empty tab where there is room for one, so that the next model finds a warm page.
pub(super) async fn keep_spare(inner: &Arc<Inner>) {
    let wanting: Vec<(u64, Arc<Session>, String, u64)> = {
        let mut state = inner.state();
        let rooms: Vec<(u64, Arc<Session>, String)> = state
            .sessions
            .iter()
            .filter(|(_, slot)| {
                let tabs_max = state.installed(&slot.browser).map_or(0, |found| found.settings.tabs_max as usize);
                let has_spare = slot.tabs.values().any(|tab| tab.holds.is_none());
                !slot.is_retiring && slot.is_idle() && !has_spare && slot.tabs.len() < tabs_max
            })
            .filter_map(|(id, slot)| Some((*id, slot.session.clone()?, slot.browser.clone())))
            .collect();
        rooms
            .into_iter()
            .map(|(id, session, browser)| {
                let tab = state.next_id();
                if let Some(slot) = state.sessions.get_mut(&id) {
                    slot.tabs.insert(tab, TabSlot::lent(Instant::now()));
                }
                (id, session, browser, tab)
            })
            .collect()
    };
    for (session_id, session, browser, tab_id) in wanting {
        match inner.open_tab(&session, &browser, tab_id).await {
            Ok(tab) => give_back(inner, session_id, tab_id, tab),
            Err(error) => {
                tracing::debug!(%browser, %error, "no spare tab");
                if let Some(slot) = inner.state().sessions.get_mut(&session_id) {
                    slot.tabs.remove(&tab_id);
                }
            }
        }
        inner.changed.notify_waiters();
    }
}

/// Says whether the platform is as well as it ever was.
async fn prove(inner: &Inner, session: &Session, tab: &mut Tab, browser: &str, platform: Platform) -> bool {
    let found = probe(tab, &inner.server, &inner.probe_path, browser, platform, &inner.settings).await;
    let key = (browser.to_owned(), platform);
    let has_worked = inner.state().capabilities.get(&key).is_some_and(|known| known.works);
    let found = match found {
        Ok(capability) if capability.works => Ok(capability),
        // Said by the browser itself when first asked: it cannot. Nothing is broken.
        Ok(capability) if !has_worked => {
            keep(inner, capability);
            return true;
        }
        Ok(capability) => Err(capability),
        // Ended by the pool, as an idle session may be for a job's sake: that says nothing about the backend.
        Err(_) if session.was_ended() => return true,
        Err(end) => Err(Capability::lacking(
            browser,
            platform,
            format!(
                "the probe came to nothing ({end:?}), and its browser is {}",
                if session.is_alive() { "there" } else { "gone" }
            ),
        )),
    };
    let is_well = found.is_ok();
    record(inner, found);
    is_well
}

/// Keeps what was found and tells the breaker.
fn record(inner: &Inner, found: Result<Capability, Capability>) {
    let (works, capability) = match found {
        Ok(capability) => (true, capability),
        Err(capability) => (false, capability),
    };
    {
        let mut state = inner.state();
        let breaker = state.breaker(&capability.browser, capability.platform, &inner.settings);
        if works {
            breaker.succeed();
        } else {
            breaker.trip(Instant::now());
        }
    }
    keep(inner, capability);
}

fn keep(inner: &Inner, capability: Capability) {
    let mut state = inner.state();
    state.counters.probes += 1;
    state.capabilities.insert((capability.browser.clone(), capability.platform), capability);
}

fn give_back(inner: &Inner, session_id: u64, tab_id: u64, tab: Tab) {
    let mut state = inner.state();
    let slot = state.sessions.get_mut(&session_id).and_then(|slot| slot.tabs.get_mut(&tab_id));
    if let Some(slot) = slot {
        slot.tab = Some(tab);
        slot.idle_since = Instant::now();
    }
}
