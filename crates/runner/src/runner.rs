//! The one entry: a job in, how it ended out.

use std::sync::Arc;

use messages::{Device, FailureKind, Job, JobSpec, Outcome, Progress};
use tokio_util::sync::CancellationToken;

use crate::{
    Charge, Execute, Execution, RunnerSettings, benchmark,
    failure::{FailureExt, failure},
    model::Models,
    test_job,
};

/// Executes jobs on this machine; clones share what they know of models.
#[derive(Debug, Clone)]
pub struct Runner {
    settings: Arc<RunnerSettings>,
    models: Arc<Models>,
    devices: Arc<Vec<Device>>,
}

/// What goes on beside an attempt while it runs.
pub(crate) struct Attempt<'a> {
    /// Ends it.
    pub(crate) cancel: &'a CancellationToken,
    /// Told how far it is.
    pub(crate) progress: &'a (dyn Fn(Progress) + Sync),
}

impl Runner {
    /// A runner for the given devices, as [`hardware::detect`] found them; the first of a platform is used.
    pub fn new(settings: RunnerSettings, devices: Vec<Device>) -> Self {
        let models = Arc::new(Models::new(settings.models.clone()));
        Self { settings: Arc::new(settings), models, devices: Arc::new(devices) }
    }

    /// As [`Runner::run_reporting`], for those who do not want to know how far it is.
    pub async fn run(&self, job: &Job, cancel: &CancellationToken) -> Execution {
        self.run_reporting(job, cancel, &|_| {}).await
    }
}

impl Execute for Runner {
    fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// Poll it on a thread that stays, such as a runtime's worker thread: the kernel ends a job's process with the
    /// thread that started it.
    async fn run_reporting(
        &self,
        job: &Job,
        cancel: &CancellationToken,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Execution {
        let (result, device) = match &job.spec {
            _ if cancel.is_cancelled() => (Err(failure(FailureKind::Cancelled, "cancelled before it started")), None),
            _ if !(1..=Job::TIMEOUT_MS_LIMIT).contains(&job.timeout_ms) => {
                let message = format!("timeout_ms is {}; 1 to {} is possible", job.timeout_ms, Job::TIMEOUT_MS_LIMIT);
                (Err(failure(FailureKind::InvalidJob, message)), None)
            }
            JobSpec::Test(spec) => {
                let tested = test_job::run(&self.settings, job, spec, cancel).await;
                (tested.map(Outcome::Test), None)
            }
            JobSpec::Benchmark(spec) => {
                let device = self.devices.iter().find(|device| device.platform == spec.configuration.platform);
                let measured =
                    benchmark::run(&self.settings, &self.models, device, job, spec, &Attempt { cancel, progress })
                        .await;
                (measured.map(|outcome| Outcome::Benchmark(Box::new(outcome))), device.cloned())
            }
            JobSpec::Web(_) => {
                let failed = failure(FailureKind::Unavailable, "this worker has no browsers");
                (Err(failed.suggest("`augur browsers start` runs jobs for browsers")), None)
            }
        };
        Execution { outcome: result.unwrap_or_else(Outcome::Failed), device, charge: Charge::Attempt }
    }
}
