//! How much memory a model takes: what the browser's processes have while it is loaded and run.

use std::{future::Future, time::Duration};

use tokio::time;

use crate::{inner::Inner, processes::Tree, state::Shape, tab::Step};

/// Time between two looks while a model loads. One costs some 10 ms of a core, so none is taken while iterations are
/// timed.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Phases in which nothing is timed to the millisecond and memory grows.
const LOADING: &[&str] = &["fetch", "session"];

/// Does `work` and says the most memory that was seen while it loaded, in MB.
pub(super) async fn watch<T>(tree: &Tree, step: &Step, work: impl Future<Output = T>) -> (T, Option<f64>) {
    let mut peak_mb = None;
    let looking = async {
        loop {
            time::sleep(LOOK_EVERY).await;
            if LOADING.contains(&step.get().as_str()) {
                peak_mb = max(peak_mb, now_mb(tree).await);
            }
        }
    };
    let done = tokio::select! {
        done = work => done,
        never = looking => never,
    };
    (done, peak_mb)
}

/// What the processes have now.
pub(super) async fn now_mb(tree: &Tree) -> Option<f64> {
    let tree = tree.clone();
    tokio::task::spawn_blocking(move || tree.pss_mb()).await.ok().flatten()
}

/// Whether a session's memory was not looked at for many jobs.
pub(super) fn is_long_unseen(inner: &Inner, session: u64) -> bool {
    inner.state().sessions.get(&session).is_some_and(crate::state::SessionSlot::is_long_unseen)
}

/// Keeps what the session has now, with the model of this tab in it, so that one that grew too large is replaced.
pub(super) fn note(inner: &Inner, session: u64, tab: u64, now_mb: Option<f64>) {
    let mut state = inner.state();
    let (Some(slot), Some(now_mb)) = (state.sessions.get_mut(&session), now_mb) else { return };
    slot.pss_mb = now_mb;
    slot.seen_jobs = slot.jobs;
    if let Some(tab) = slot.tabs.get_mut(&tab).filter(|tab| !tab.is_measured) {
        tab.is_measured = true;
        // What the model needed while it loaded goes: the session is weighed again once it is idle.
        slot.weighed_jobs = None;
    }
}

/// What was last seen of a session whose models are all measured, of which this tab's has run one shape only.
pub(super) fn known_mb(inner: &Inner, session: u64, tab: u64) -> Option<f64> {
    let state = inner.state();
    let slot = state.sessions.get(&session)?;
    let is_of_one_shape = matches!(slot.tabs.get(&tab)?.shape, Shape::Only(_));
    let is_known = slot.weighed_jobs.is_some() && slot.tabs.values().all(|tab| tab.is_measured);
    (is_of_one_shape && is_known).then_some(slot.pss_mb)
}

/// Notes what a tab's model runs now. Memory grows with the shape, and WebAssembly's never shrinks.
pub(super) fn note_shape(inner: &Inner, session: u64, tab: u64, shape: &str) {
    let mut state = inner.state();
    let Some(tab) = state.sessions.get_mut(&session).and_then(|slot| slot.tabs.get_mut(&tab)) else { return };
    match &tab.shape {
        Shape::None => tab.shape = Shape::Only(shape.to_owned()),
        Shape::Only(known) if known == shape => {}
        Shape::Only(_) | Shape::Several => {
            tab.shape = Shape::Several;
            tab.is_measured = false;
        }
    }
}

/// Whether no other tab of the session holds a model: only then is its memory that of one model.
pub(super) fn is_alone(inner: &Inner, session: u64) -> bool {
    let state = inner.state();
    let holding = |slot: &crate::state::SessionSlot| slot.tabs.values().filter(|tab| tab.holds.is_some()).count();
    state.sessions.get(&session).is_some_and(|slot| holding(slot) <= 1)
}

pub(super) fn max(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    }
}
