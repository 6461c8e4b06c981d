//! Following a run on the result stream, without asking anyone.

use std::collections::HashSet;

use broker::{AmqpUrl, Patience, Settlement, Start, Subscription};
use messages::{JobId, JobResult, RunId, Status};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::PipelineError;

/// Results read ahead.
const PREFETCH: u16 = 500;

/// How far a run has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Jobs of the run.
    pub total: usize,
    /// Jobs that have ended.
    pub done: usize,
    /// Of those, measured or passed.
    pub passed: usize,
}

/// Reads the results of one run as they arrive, each job once.
#[derive(Debug)]
pub struct RunFollower {
    subscription: Subscription,
    run_id: RunId,
    seen: HashSet<JobId>,
    progress: Progress,
}

impl RunFollower {
    /// Subscribes to what comes from now on; call it before the run is submitted.
    ///
    /// # Errors
    ///
    /// [`PipelineError::Broker`] if no broker answers or it has no result stream.
    pub async fn start(
        url: &AmqpUrl,
        run_id: RunId,
        total: usize,
        patience: Patience,
        stop: &CancellationToken,
    ) -> Result<Self, PipelineError> {
        let subscription = Subscription::start(
            url,
            "augur run follower",
            topology::names::RESULTS,
            Start::StreamNext,
            PREFETCH,
            patience,
            stop,
        )
        .await
        .map_err(PipelineError::broker("run follower"))?;
        let progress = Progress { total, ..Progress::default() };
        Ok(Self { subscription, run_id, seen: HashSet::new(), progress })
    }

    /// How far the run has come.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// The next result of the run; `None` once all jobs have ended, or after the stop.
    ///
    /// # Errors
    ///
    /// None of its own: a lost connection heals, a message that does not decode is passed over with a warning.
    pub async fn next(&mut self) -> Option<JobResult> {
        while self.progress.done < self.progress.total {
            let delivery = self.subscription.next().await?;
            let result = match delivery.message_type() {
                Some("result") => {
                    delivery.decode::<JobResult>().map_err(|error| warn!(%error, "result does not decode"))
                }
                _ => Err(()),
            };
            // A stream keeps what is acked; a failed ack only means that the subscription is being reopened.
            if let Err(error) = delivery.settle(Settlement::Done).await {
                warn!(%error, "result could not be acked");
            }
            let Ok(result) = result else { continue };
            if result.job.run.run_id == self.run_id && self.seen.insert(result.job.job_id) {
                self.progress.done += 1;
                self.progress.passed += usize::from(result.status() == Status::Passed);
                return Some(result);
            }
        }
        None
    }
}
