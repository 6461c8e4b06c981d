//! What all requests share, and how they read the store.

use std::sync::Arc;

use store::{Store, StoreError};
use tokio::sync::{Semaphore, watch};

use crate::{ApiError, Forecaster};

/// Reads of the database, and predictions, at once. Each takes a thread and some of DuckDB's memory; more would only wait for the disk.
const READS_MAX: usize = 8;

/// Long polls at once.
const WAITERS_MAX: usize = 512;

/// What the dashboard shows.
#[derive(Debug, Clone)]
pub struct ApiState {
    /// The database.
    pub store: Store,
    /// Changes its value after each commit.
    pub changes: watch::Receiver<u64>,
    /// Answers what nobody measured.
    pub forecaster: Forecaster,
}

#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) state: ApiState,
    /// Becomes true when the server ends.
    pub(crate) closing: watch::Receiver<bool>,
    pub(crate) waiters: Arc<Semaphore>,
    reads: Arc<Semaphore>,
}

impl Shared {
    pub(crate) fn new(state: ApiState, closing: watch::Receiver<bool>) -> Self {
        Self {
            state,
            closing,
            waiters: Arc::new(Semaphore::new(WAITERS_MAX)),
            reads: Arc::new(Semaphore::new(READS_MAX)),
        }
    }

    /// Reads the store where that may block.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let store = self.state.store.clone();
        Ok(self.blocking(move || read(&store)).await??)
    }

    /// Runs `work` where it may block.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let permit = Arc::clone(&self.reads).acquire_owned().await.expect("the semaphore is never closed");
        let answer = tokio::task::spawn_blocking(move || {
            // Held until the work ends, even if the client leaves before.
            let _permit = permit;
            work()
        });
        answer.await.map_err(|_| ApiError::Panicked)
    }
}
