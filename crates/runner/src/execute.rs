//! What a worker needs of whatever executes its jobs.

use messages::{Device, Job, Outcome, Progress};
use tokio_util::sync::CancellationToken;

/// How an attempt ended and on what.
#[derive(Debug, Clone, PartialEq)]
pub struct Execution {
    /// What came of it.
    pub outcome: Outcome,
    /// The device that measured; `None` for a test, or if this machine has no such device.
    pub device: Option<Device>,
    /// Whom a failure is to be charged to.
    pub charge: Charge,
}

/// What a failed attempt costs its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Charge {
    /// One of its attempts, if another may end differently.
    #[default]
    Attempt,
    /// Nothing: what should have run it was to blame. It is tried again.
    Nothing,
    /// All of them: it brings down whatever runs it, and becomes a dead letter.
    Everything,
}

/// Executes jobs for a worker.
pub trait Execute: Send + Sync + 'static {
    /// The devices that it may use.
    fn devices(&self) -> &[Device];

    /// The browsers that it has, by name.
    fn browsers(&self) -> Vec<String> {
        Vec::new()
    }

    /// What a job asks for that this lacks and another worker may have, for people; `None` if it can be tried.
    fn unmet(&self, _job: &Job) -> Option<String> {
        None
    }

    /// Runs one attempt of `job` to its end; whatever goes wrong is an [`Outcome::Failed`].
    ///
    /// Cancelling `cancel`, or dropping the future, ends all that it has started. `progress` is told about every
    /// second how many timed iterations are done.
    fn run_reporting(
        &self,
        job: &Job,
        cancel: &CancellationToken,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> impl Future<Output = Execution> + Send;
}
