//! The HTTP API over the store, and a page that shows it.
//!
//! Everything here only reads, also the releases of predictors, which answer by name. Who waits for news of a run does so with a long poll that the aggregator's commits
//! wake; nothing polls the database. The page is one file without anything from elsewhere.

mod api;
mod error;
mod page;
mod predict;
mod run_state;
mod state;
mod wait;

#[cfg(test)]
mod tests;

use std::{future::Future, time::Duration};

use axum::{Router, routing::get};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

pub use api::Health;
pub use error::DashboardError;
pub use predict::Forecaster;
pub use run_state::{RunState, RunningOn, WaitingJobs};
pub use state::ApiState;

use error::ApiError;
use state::Shared;

/// How long answers in progress may take to finish once the server shall end, in milliseconds. Long polls are told to
/// answer at once, so only a client that does not read is cut off.
const DRAIN_MS_MAX: u64 = 5_000;

/// Answers requests on `listener` until `shutdown` completes.
///
/// # Errors
///
/// [`DashboardError::Serve`] if the listener breaks.
pub async fn serve(
    listener: TcpListener,
    state: ApiState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), DashboardError> {
    let (close, closing) = watch::channel(false);
    // Dropped, and so ended, with the server.
    let mut loading = JoinSet::new();
    loading.spawn(keep_loaded(state.forecaster.clone(), state.changes.clone()));
    let server =
        axum::serve(listener, router(Shared::new(state, closing.clone()))).with_graceful_shutdown(async move {
            shutdown.await;
            close.send_replace(true);
        });
    tokio::select! {
        ended = async { server.await } => ended.map_err(|source| DashboardError::Serve { source }),
        () = drained(closing) => {
            tracing::warn!(waited_ms = DRAIN_MS_MAX, "a client did not take its answer in time");
            Ok(())
        }
    }
}

/// Loads the current release at the beginning and after every commit, news of a release among them, so that no request
/// waits for it. Where it is the one that is loaded, only its name is read.
async fn keep_loaded(forecaster: Forecaster, mut changes: watch::Receiver<u64>) {
    let mut tried = None;
    loop {
        let forecaster = forecaster.clone();
        // A panic has said so by itself; whoever asks next meets it again.
        let Ok(found) = tokio::task::spawn_blocking(move || forecaster.load_ahead(tried)).await else { return };
        tried = found;
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Completes when the server has been closing for too long.
async fn drained(mut closing: watch::Receiver<bool>) {
    // The sender lives until it has said so; if it is gone without, the server ends by itself.
    if closing.wait_for(|closing| *closing).await.is_err() {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(Duration::from_millis(DRAIN_MS_MAX)).await;
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/api/health", get(api::health))
        .route("/api/changes", get(wait::changes))
        .route("/api/runs", get(api::runs))
        .route("/api/runs/{id}", get(api::run))
        .route("/api/runs/{id}/wait", get(wait::run))
        .route("/api/runs/{id}/results", get(api::run_results))
        .route("/api/runs/{id}/attempts", get(api::run_attempts))
        .route("/api/runs/{id}/state", get(run_state::run_state))
        .route("/api/results", get(api::latest_results))
        .route("/api/jobs/{id}", get(api::job))
        .route("/api/jobs/{id}/iterations", get(api::iterations))
        .route("/api/jobs/{id}/attempts", get(api::job_attempts))
        .route("/api/workers", get(api::workers))
        .route("/api/quarantine", get(api::quarantine))
        .route("/api/withheld", get(api::withheld))
        .route("/api/measured", get(api::measured))
        .route("/api/coverage", get(api::coverage))
        .route("/api/releases", get(api::releases))
        .route("/api/predict", get(predict::predict))
        .route("/api/prediction-errors", get(api::prediction_errors))
        .route("/api/digest", get(api::digest))
        .fallback(|| async { ApiError::NoSuchPath })
        .method_not_allowed_fallback(|| async { ApiError::ReadOnly })
        .with_state(shared)
}
