//! What keeps the pool healthy while jobs come and go: the dead are removed, the grown recycled, the unused let go,
//! broken backends tried again, idle ones proved, and a spare tab kept ready.

mod proof;

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tokio::time::{self, MissedTickBehavior};

use crate::{inner::Inner, session::Session, state::State};

pub(crate) use proof::prove_browser;

/// Time between two rounds. Nothing that a job waits for waits for a round, except what itself depends on time.
const ROUND: Duration = Duration::from_secs(1);

/// Runs rounds until the pool is gone or stops.
pub(crate) async fn look_after(pool: Weak<Inner>) {
    let mut rounds = time::interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        let Some(inner) = pool.upgrade() else { return };
        if inner.state().is_stopping {
            return;
        }
        weigh(&inner).await;
        bury(&inner).await;
        recycle(&inner).await;
        let_unused_go(&inner).await;
        proof::try_broken(&inner);
        if inner.state().running() == 0 {
            proof::prove_idle(&inner).await;
            proof::keep_spare(&inner).await;
        }
        save(&inner).await;
        // Priorities age, breakers close.
        inner.changed.notify_waiters();
    }
}

/// Measures the memory of every session in which something has changed.
async fn weigh(inner: &Arc<Inner>) {
    let sessions = sessions(&inner.state());
    for (id, session) in sessions {
        let settled = {
            let state = inner.state();
            let Some(slot) = state.sessions.get(&id) else { continue };
            // A running job is not disturbed, and what it loads is not there yet.
            if !slot.is_idle() || !slot.needs_weighing() {
                continue;
            }
            slot.tabs.keys().copied().collect::<Vec<_>>()
        };
        let tree = session.tree().clone();
        let measured = tokio::task::spawn_blocking(move || tree.pss_mb()).await.ok().flatten();
        let mut state = inner.state();
        if let (Some(slot), Some(pss_mb)) = (state.sessions.get_mut(&id), measured) {
            slot.pss_mb = pss_mb;
            slot.weighed_jobs = Some(slot.jobs);
            slot.seen_jobs = slot.jobs;
            for (_, tab) in slot.tabs.iter_mut().filter(|(tab, _)| settled.contains(tab)) {
                tab.is_measured = true;
            }
        }
    }
}

/// Removes sessions whose browser or driver is gone, with what is left of them.
async fn bury(inner: &Arc<Inner>) {
    let dead: Vec<u64> = {
        let state = inner.state();
        let of_dead = state.sessions.iter().filter(|(_, slot)| {
            // A job in it finds out by itself and says so.
            slot.is_idle() && slot.session.as_ref().is_some_and(|session| !session.is_alive())
        });
        of_dead.map(|(id, _)| *id).collect()
    };
    for id in dead {
        tracing::warn!(session = id, "an idle browser died");
        let taken = inner.state().take_session(id);
        if let Some(taken) = taken {
            taken.session.kill_as_ours().await;
        }
    }
    // A tab that crashed while nobody used it.
    let crashed: Vec<(u64, u64)> = {
        let state = inner.state();
        let tabs =
            state.sessions.iter().flat_map(|(id, slot)| slot.tabs.iter().map(move |(tab, slot)| (*id, *tab, slot)));
        tabs.filter(|(_, _, slot)| slot.tab.as_ref().is_some_and(|tab| !tab.is_there()))
            .map(|(session, tab, _)| (session, tab))
            .collect()
    };
    for (session_id, tab) in crashed {
        let taken = inner.state().take_tab(session_id, tab);
        if let Some((session, tab)) = taken {
            inner.close_tab(Some(session_id), &session, tab).await;
        }
    }
}

/// Ends sessions that retire, had enough jobs, or grew too large, once they are idle.
async fn recycle(inner: &Arc<Inner>) {
    let settings = &inner.settings;
    let due: Vec<u64> = {
        let mut state = inner.state();
        for slot in state.sessions.values_mut() {
            let had_enough = slot.jobs >= settings.jobs_per_session_max;
            slot.is_retiring |= had_enough || slot.pss_mb > settings.session_memory_mb_max as f64;
        }
        let idle = state.sessions.iter().filter(|(_, slot)| slot.is_retiring && slot.is_idle());
        idle.map(|(id, _)| *id).collect()
    };
    for id in due {
        inner.state().counters.sessions_recycled += 1;
        inner.end_session(id, true).await;
    }
}

/// Closes tabs and ends sessions that nobody has used for long.
async fn let_unused_go(inner: &Arc<Inner>) {
    let settings = &inner.settings;
    let now = Instant::now();
    let older = |since: Instant, ms: u64| now.saturating_duration_since(since) >= Duration::from_millis(ms);
    let (tabs, sessions) = {
        let state = inner.state();
        let mut tabs = Vec::new();
        let mut sessions = Vec::new();
        for (id, slot) in &state.sessions {
            if slot.is_idle() && older(slot.idle_since, settings.idle_session_ms_max) {
                sessions.push(*id);
                continue;
            }
            let unused = slot.tabs.iter().filter(|(_, tab)| {
                tab.tab.is_some() && tab.holds.is_some() && older(tab.idle_since, settings.idle_tab_ms_max)
            });
            tabs.extend(unused.map(|(tab, _)| (*id, *tab)));
        }
        (tabs, sessions)
    };
    for (session_id, tab) in tabs {
        let taken = inner.state().take_tab(session_id, tab);
        if let Some((session, tab)) = taken {
            inner.close_tab(Some(session_id), &session, tab).await;
        }
    }
    for id in sessions {
        inner.end_session(id, false).await;
    }
}

/// Writes what was learned; tried again in the next round if that fails.
pub(crate) async fn save(inner: &Arc<Inner>) {
    let is_due = std::mem::take(&mut inner.state().is_unsaved);
    if !is_due {
        return;
    }
    let writer = Arc::clone(inner);
    let written = tokio::task::spawn_blocking(move || {
        let state = writer.state();
        let directory = &writer.settings.state_directory;
        state.speeds.write(directory).and_then(|()| state.placements.write(directory))
    });
    let error = match written.await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    tracing::warn!(%error, "what the browser pool learned cannot be kept");
    inner.state().is_unsaved = true;
}

impl Inner {
    /// Ends a session. With `keep_driver` its driver serves the next one. While other jobs are in it, it retires.
    pub(crate) async fn end_session(self: &Arc<Self>, id: u64, keep_driver: bool) {
        let taken = {
            let mut state = self.state();
            let Some(slot) = state.sessions.get(&id) else { return };
            let is_alive = slot.session.as_ref().is_some_and(|session| session.is_alive());
            if is_alive && !slot.is_idle() {
                state.retire(id);
                return;
            }
            let browser = slot.browser.clone();
            state.take_session(id).map(|taken| (browser, taken))
        };
        let Some((browser, taken)) = taken else { return };
        // A stop waits for us: it cannot find every process of a browser whose session it does not know.
        let _ending = taken.ending;
        match Arc::try_unwrap(taken.session) {
            Ok(session) if keep_driver && session.is_alive() => {
                let driver = session.end_keeping_driver().await;
                if let Some(driver) = driver {
                    let superfluous = {
                        let mut state = self.state();
                        if state.is_stopping { Some(driver) } else { state.spare_drivers.insert(browser, driver) }
                    };
                    if let Some(driver) = superfluous {
                        driver.end().await;
                    }
                }
            }
            Ok(session) => session.kill_as_ours().await,
            Err(session) => session.kill_as_ours().await,
        }
        self.changed.notify_waiters();
    }
}

fn sessions(state: &State) -> Vec<(u64, Arc<Session>)> {
    state.sessions.iter().filter_map(|(id, slot)| Some((*id, Arc::clone(slot.session.as_ref()?)))).collect()
}
