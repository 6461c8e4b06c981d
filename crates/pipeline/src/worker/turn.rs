//! When a job may begin: at once, beside others, or alone.
//!
//! A job whose worker was lost runs with nothing beside it, so that it takes no healthy neighbour with it: if it kills
//! again, it is the only one that is charged, and its neighbours of before, suspects themselves, pass.

use broker::Delivery;
use messages::{FailureKind, Job};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Whether a job may have killed the worker that ran it last: the lease lapsed that it was held under.
///
/// Returns by the broker do not make it so: whatever a worker had fetched comes back with its death, and would run one by
/// one.
pub(super) fn is_suspect(delivery: &Delivery) -> bool {
    let may_have_history = delivery.attempt() > 1 || delivery.replays() > 0;
    may_have_history && delivery.decode::<Job>().is_ok_and(|job| lost_its_worker(&job))
}

fn lost_its_worker(job: &Job) -> bool {
    job.dispatch.history.last().is_some_and(|last| last.failure.kind == FailureKind::WorkerLost)
}

/// When a job may begin.
pub(super) enum Turn {
    /// At once.
    Now,
    /// Once nothing else runs here: then the other slots come, and the job keeps them while it runs.
    Alone(oneshot::Receiver<OwnedSemaphorePermit>),
}

/// The other slots of a worker, so long as a job runs alone.
pub(super) type Others = Option<OwnedSemaphorePermit>;

impl Turn {
    /// Whether the job is to run alone.
    pub(super) fn is_alone(&self) -> bool {
        matches!(self, Self::Alone(_))
    }

    /// Waits for it; `None` if the worker takes no more jobs.
    pub(super) async fn come(self) -> Option<Others> {
        match self {
            Self::Now => Some(None),
            Self::Alone(others) => others.await.ok().map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use testkit::builders;

    use super::*;
    use crate::delivery::retry;

    #[test]
    fn only_a_worker_lost_last_makes_a_job_suspect() {
        let after = |kinds: &[FailureKind]| {
            let failed = |job, kind: &FailureKind| {
                let (from, to) = (builders::time(3), builders::time(4));
                retry(job, 1, &builders::worker_id(), from, to, &builders::failure(*kind))
            };
            lost_its_worker(&kinds.iter().fold(builders::benchmark_job(), failed))
        };
        assert!(after(&[FailureKind::WorkerLost]) && after(&[FailureKind::Crashed, FailureKind::WorkerLost]));
        assert!(!after(&[]) && !after(&[FailureKind::WorkerLost, FailureKind::Crashed]));
    }
}
