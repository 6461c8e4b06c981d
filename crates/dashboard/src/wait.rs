//! Long polls: answers that wait for the aggregator's next commit.

use std::time::Duration;

use axum::extract::{Path, State};
use messages::RunId;
use serde::{Deserialize, Serialize};
use store::RunSummary;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep_until},
};

use crate::{
    ApiError,
    api::{Answer, Parameters, checked, parse},
    state::Shared,
};

/// How long a client waits unless it says otherwise, in seconds.
const TIMEOUT_S_DEFAULT: u64 = 30;

/// The longest that a client may wait, in seconds; proxies cut off what takes longer.
const TIMEOUT_S_MAX: u64 = 60;

/// How long to wait, and what the client knows already.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Patience {
    timeout_s: Option<u64>,
    seen: Option<u64>,
    seen_cancelled: Option<bool>,
}

/// Answer of `/api/changes`.
#[derive(Serialize)]
pub(crate) struct Changes {
    changes: u64,
}

/// Answers once the count of the run's ended jobs (results and dead ones) differs from `seen`, the run is cancelled and
/// `seen_cancelled` is false, the run is complete, or the time is over.
///
/// Without `seen` it waits for completion. A run that is not known yet may become so while the client waits.
pub(crate) async fn run(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    patience: Parameters<Patience>,
) -> Result<Answer<RunSummary>, ApiError> {
    let run: RunId = parse(&id)?;
    let patience = checked(patience)?;
    let mut wait = Wait::new(&shared, &patience)?;
    loop {
        wait.mark_seen();
        let summary = shared.read(move |store| store.run(run)).await?;
        let news = summary.as_ref().is_some_and(|summary| {
            summary.is_complete()
                || patience.seen.is_some_and(|seen| seen != u64::from(summary.ended()))
                || (patience.seen_cancelled == Some(false) && summary.cancelled_at.is_some())
        });
        if news || !wait.for_change().await {
            return summary.map(Answer).ok_or(ApiError::NoSuchRun { id });
        }
    }
}

/// Answers once the count of commits differs from `seen` or the time is over.
pub(crate) async fn changes(
    State(shared): State<Shared>,
    patience: Parameters<Patience>,
) -> Result<Answer<Changes>, ApiError> {
    let patience = checked(patience)?;
    let mut wait = Wait::new(&shared, &patience)?;
    loop {
        let changes = wait.mark_seen();
        if patience.seen != Some(changes) || !wait.for_change().await {
            return Ok(Answer(Changes { changes }));
        }
    }
}

/// One client's wait.
struct Wait {
    shared: Shared,
    deadline: Instant,
    _place: OwnedSemaphorePermit,
}

impl Wait {
    fn new(shared: &Shared, patience: &Patience) -> Result<Self, ApiError> {
        let timeout_s = patience.timeout_s.unwrap_or(TIMEOUT_S_DEFAULT).min(TIMEOUT_S_MAX);
        let shared = shared.clone();
        let place = shared.waiters.clone().try_acquire_owned().map_err(|_| ApiError::Busy)?;
        Ok(Self { shared, deadline: Instant::now() + Duration::from_secs(timeout_s), _place: place })
    }

    /// Takes note of the commits so far; done before reading, so that one in between is not missed.
    fn mark_seen(&mut self) -> u64 {
        *self.shared.state.changes.borrow_and_update()
    }

    /// Waits for a commit; false if there is nothing more to wait for.
    async fn for_change(&mut self) -> bool {
        tokio::select! {
            changed = self.shared.state.changes.changed() => changed.is_ok(),
            () = sleep_until(self.deadline) => false,
            _ = self.shared.closing.wait_for(|closing| *closing) => false,
        }
    }
}
