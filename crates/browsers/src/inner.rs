//! What all parts of a pool share.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use messages::Priority;
use tokio::{
    sync::{Notify, RwLock},
    time,
};

use crate::{
    BrowserError, PoolSettings, WebError,
    lease::Lease,
    scheduler::{Choice, Need, Waiting},
    server::Server,
    session::{Launch, Session},
    state::{Leaving, State, Waiter},
    tab::{Step, Tab},
};

/// A pool without its handle.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) settings: PoolSettings,
    pub(crate) launch: Launch,
    pub(crate) server: Server,
    pub(crate) probe_path: PathBuf,
    /// Names this very build of ONNX Runtime Web.
    pub(crate) runtime: String,
    pub(crate) started_at: Instant,
    /// Woken whenever a waiting job may have a place.
    pub(crate) changed: Notify,
    /// Shared by browsers that are being started, so that a stop can wait for the last of them.
    pub(crate) starts: RwLock<()>,
    state: Mutex<State>,
}

impl Inner {
    pub(crate) fn new(
        settings: PoolSettings,
        launch: Launch,
        server: Server,
        probe_path: PathBuf,
        runtime: String,
        budget_mb: f64,
    ) -> Self {
        let state = Mutex::new(State::new(&settings, budget_mb));
        Self {
            settings,
            launch,
            server,
            probe_path,
            runtime,
            started_at: Instant::now(),
            changed: Notify::new(),
            starts: RwLock::new(()),
            state,
        }
    }

    /// The state; never held across an await.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // Each change is complete before anything that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place, which the job may then have for `timeout`.
    pub(crate) async fn place(
        self: &Arc<Self>,
        need: &Need,
        priority: Priority,
        timeout: Duration,
        step: &Step,
    ) -> Result<Lease, WebError> {
        let ticket = self.join_line(need, priority)?;
        let promote_after = Duration::from_millis(self.settings.promote_after_ms);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            {
                let mut state = self.state();
                if state.is_stopping {
                    return Err(WebError::Stopping);
                }
                match state.decide(ticket.id, Instant::now(), promote_after) {
                    Choice::Place(place) => {
                        let (session, tab, leaving) = state.reserve(&place, need);
                        let lease = Lease::new(Arc::clone(self), &mut state, place, (session, tab), leaving, timeout);
                        drop(state);
                        // Whoever is next in line may have a place beside this one.
                        drop(ticket);
                        return Ok(lease);
                    }
                    Choice::Never(error) => return Err(error),
                    Choice::Wait(Waiting::Busy) => step.set("waiting for a free tab"),
                    Choice::Wait(Waiting::Memory) => step.set("waiting for memory"),
                    Choice::Wait(Waiting::Broken) => step.set("waiting for a browser that works"),
                }
            }
            changed.await;
        }
    }

    fn join_line(self: &Arc<Self>, need: &Need, priority: Priority) -> Result<Ticket, WebError> {
        let mut state = self.state();
        if state.waiting.len() >= self.settings.waiting_max {
            return Err(WebError::Full { waiting: state.waiting.len() });
        }
        let id = state.next_id();
        state.waiting.push(Waiter { id, priority, since: Instant::now(), need: need.clone() });
        Ok(Ticket { inner: Arc::clone(self), id })
    }

    /// Opens a tab and waits until its page is ready. `tab` is a number that no other tab has.
    pub(crate) async fn open_tab(&self, session: &Session, browser: &str, tab: u64) -> Result<Tab, BrowserError> {
        let link = self.server.tab(tab);
        let handle = session.open_tab(&link.url()).await?;
        let silence_max = Duration::from_millis(self.settings.silence_ms_max);
        let mut tab = Tab::new(handle, link, silence_max);
        self.wait_ready(&mut tab, browser).await?;
        Ok(tab)
    }

    /// Loads the page of a tab again.
    pub(crate) async fn reload_tab(&self, session: &Session, browser: &str, tab: &mut Tab) -> Result<(), BrowserError> {
        tab.forget_reports();
        session.reload_tab(&tab.handle).await?;
        self.wait_ready(tab, browser).await
    }

    async fn wait_ready(&self, tab: &mut Tab, browser: &str) -> Result<(), BrowserError> {
        let limit_ms = self.settings.open_ms_max;
        let reason = match time::timeout(Duration::from_millis(limit_ms), tab.ready()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(_)) => "it is gone".to_owned(),
            Err(_) => format!("its Worker said nothing within {limit_ms} ms"),
        };
        Err(BrowserError::Page { browser: browser.to_owned(), reason })
    }

    /// Closes a tab; if its browser does not do it in time, the browser goes.
    pub(crate) async fn close_tab(self: &Arc<Self>, session_id: Option<u64>, session: &Session, tab: Tab) {
        let Err(error) = session.close_tab(&tab.handle).await else { return };
        // Of a page that is gone there is nothing to close.
        if !tab.is_there() && session.is_alive() {
            tracing::debug!(%error, "the page of a tab was gone already");
            return;
        }
        tracing::warn!(%error, "a tab does not close; its browser is ended");
        let _taken = session_id.and_then(|id| self.state().take_session(id));
        session.kill_as_ours().await;
        self.changed.notify_waiters();
    }

    /// Ends what makes room.
    pub(crate) async fn let_go(self: &Arc<Self>, leaving: Leaving) {
        for (session, tab) in leaving.tabs {
            self.close_tab(None, &session, tab).await;
        }
        for taken in leaving.sessions {
            taken.session.kill_as_ours().await;
        }
    }
}

/// A place in the line; dropping it leaves the line.
struct Ticket {
    inner: Arc<Inner>,
    id: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.inner.state().waiting.retain(|waiter| waiter.id != self.id);
        self.inner.changed.notify_waiters();
    }
}
