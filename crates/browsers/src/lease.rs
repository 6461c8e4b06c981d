//! A job's hold on a tab. Kept, the tab stays warm; dropped in any other way, the tab is closed and the slot is free at
//! once.

use std::{
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::runtime::Handle;

use crate::{
    BrowserError,
    inner::Inner,
    scheduler::{Place, Way},
    session::Session,
    state::{Leaving, State},
    tab::Tab,
};

/// A tab for one job at a time.
#[derive(Debug)]
pub(crate) struct Lease {
    inner: Arc<Inner>,
    place: Place,
    session_id: u64,
    tab_id: u64,
    session: Option<Arc<Session>>,
    tab: Option<Tab>,
    leaving: Leaving,
    given_at: Instant,
    /// How long a job may have it.
    timeout: Duration,
    is_kept: bool,
}

impl Lease {
    /// Takes the session and the tab, where they are there already, out of the state.
    pub(crate) fn new(
        inner: Arc<Inner>,
        state: &mut State,
        place: Place,
        (session_id, tab_id): (u64, u64),
        leaving: Leaving,
        timeout: Duration,
    ) -> Self {
        let slot = state.sessions.get_mut(&session_id);
        let (session, tab) = slot.map_or((None, None), |slot| {
            let tab = slot.tabs.get_mut(&tab_id).and_then(|tab| tab.tab.take());
            (slot.session.clone(), tab)
        });
        let given_at = Instant::now();
        Self { inner, place, session_id, tab_id, session, tab, leaving, given_at, timeout, is_kept: false }
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// How much longer the job may have it, whatever is mended in between.
    pub(crate) fn rest(&self) -> Duration {
        self.timeout.saturating_sub(self.given_at.elapsed())
    }

    pub(crate) fn session_id(&self) -> u64 {
        self.session_id
    }

    pub(crate) fn tab_id(&self) -> u64 {
        self.tab_id
    }

    /// The session and the tab, once [`Self::enter`] was successful.
    pub(crate) fn parts(&mut self) -> Option<(&Arc<Session>, &mut Tab)> {
        self.session.as_ref().zip(self.tab.as_mut())
    }

    pub(crate) fn session(&self) -> Option<&Arc<Session>> {
        self.session.as_ref()
    }

    /// Why the session or the tab that it was given cannot be used, if they died while nobody used them.
    pub(crate) fn is_stale(&self) -> Option<&'static str> {
        match (&self.session, &self.tab) {
            (Some(session), _) if !session.is_alive() => Some("it had died while idle"),
            (Some(_), Some(tab)) if !tab.is_there() => Some("its page had died while idle"),
            _ => None,
        }
    }

    /// Makes room, starts the browser and opens the tab, as far as they are not there.
    pub(crate) async fn enter(&mut self) -> Result<(), BrowserError> {
        let leaving = mem::take(&mut self.leaving);
        self.inner.let_go(leaving).await;
        let session = match &self.session {
            Some(session) => Arc::clone(session),
            None => self.start().await?,
        };
        if self.tab.is_none() {
            self.tab = Some(self.inner.open_tab(&session, &self.place.browser, self.tab_id).await?);
        }
        Ok(())
    }

    async fn start(&mut self) -> Result<Arc<Session>, BrowserError> {
        let session = start_session(&self.inner, self.session_id, &self.place.browser).await?;
        self.session = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Loads the page again; the tab then holds nothing.
    pub(crate) async fn reload(&mut self) -> Result<(), BrowserError> {
        if let (Some(session), Some(tab)) = (&self.session, &mut self.tab) {
            self.inner.reload_tab(session, &self.place.browser, tab).await?;
        }
        self.place.way = Way::WarmPage { session: self.session_id, tab: self.tab_id };
        Ok(())
    }

    /// Gives the tab back, warm.
    pub(crate) fn keep(mut self) {
        self.is_kept = true;
        let now = Instant::now();
        let mut state = self.inner.state();
        state.counters.note_held(now.saturating_duration_since(self.given_at), self.timeout);
        let used = state.next_use();
        // Without its slot the session was ended meanwhile, and the tab with it.
        if let Some(slot) = state.sessions.get_mut(&self.session_id) {
            slot.used = used;
            slot.idle_since = now;
            if let Some(lent) = slot.tabs.get_mut(&self.tab_id) {
                lent.tab = self.tab.take();
                lent.used = used;
                lent.idle_since = now;
            }
        }
        drop(state);
        self.inner.changed.notify_waiters();
    }

    /// Frees the slot of a tab whose browser is about to end, so that nobody but the pool holds the session.
    pub(crate) async fn abandon(mut self) {
        self.is_kept = true;
        self.leave();
        (self.session, self.tab) = (None, None);
        let leaving = mem::take(&mut self.leaving);
        self.inner.let_go(leaving).await;
    }

    /// Frees the slot.
    fn leave(&self) {
        let mut state = self.inner.state();
        state.counters.note_held(self.given_at.elapsed(), self.timeout);
        if let Some(slot) = state.sessions.get_mut(&self.session_id) {
            slot.tabs.remove(&self.tab_id);
            slot.idle_since = Instant::now();
            if slot.session.is_none() {
                state.sessions.remove(&self.session_id);
            }
        }
        drop(state);
        self.inner.changed.notify_waiters();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        self.leave();
        let Ok(runtime) = Handle::try_current() else { return };
        let (session, tab) = (self.session.take(), self.tab.take());
        let leaving = mem::take(&mut self.leaving);
        let (inner, session_id) = (Arc::clone(&self.inner), self.session_id);
        runtime.spawn(async move {
            inner.let_go(leaving).await;
            match (session, tab) {
                (Some(session), Some(tab)) => inner.close_tab(Some(session_id), &session, tab).await,
                // A tab that did not come up has no handle to close it by; its browser ends once nobody needs it.
                (Some(_), None) => inner.state().retire(session_id),
                (None, _) => {}
            }
        });
    }
}

/// Starts the browser of a slot that waits for it.
pub(crate) async fn start_session(inner: &Inner, session_id: u64, browser: &str) -> Result<Arc<Session>, BrowserError> {
    let _starting = inner.starts.read().await;
    let given_up = || BrowserError::NotInstalled {
        browser: browser.to_owned(),
        reason: "the pool gave it up while it started".to_owned(),
    };
    let (installed, driver) = {
        let mut state = inner.state();
        if state.is_stopping {
            return Err(given_up());
        }
        let installed = state.installed(browser).cloned().ok_or_else(|| BrowserError::NotInstalled {
            browser: browser.to_owned(),
            reason: "it is not in the settings".to_owned(),
        })?;
        (installed, state.spare_drivers.remove(browser))
    };
    let driver = match driver {
        Some(dead) if !dead.is_alive() => {
            dead.end().await;
            None
        }
        driver => driver,
    };
    let session = Arc::new(Session::start(&installed, &inner.launch, session_id, driver).await?);
    let is_wanted = {
        let mut state = inner.state();
        state.counters.sessions_started += 1;
        let is_stopping = state.is_stopping;
        let slot = state.sessions.get_mut(&session_id).filter(|_| !is_stopping);
        slot.map(|slot| {
            slot.session = Some(Arc::clone(&session));
            slot.idle_since = Instant::now();
        })
    };
    if is_wanted.is_none() {
        session.kill_as_ours().await;
        return Err(given_up());
    }
    Ok(session)
}
