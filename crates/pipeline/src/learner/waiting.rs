//! What the learner waits for: workers, and releases that know what was measured.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use broker::Settlement;
use messages::JobId;
use predictors::{PredictorError, ROWS_NEEDED, Releases};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};
use tracing::{info, warn};

use super::{Learner, Planned, Roster, Target};
use crate::{PipelineError, updater::training_table, worker::chain};

/// How long the updater may take to make a release of a batch. Few new measurements make none; then the next batch is
/// planned with the release that is there, and without what was measured since.
const RELEASE_WAIT_MAX: Duration = Duration::from_mins(1);
/// How long the updater may take to replace a release that is of no use: it trains anew, behind the benchmarks that run.
const USABLE_WAIT_MAX: Duration = Duration::from_mins(10);
/// Longest wait before that is looked at again of which there is no news: workers, a release that is of no use, a table
/// that is still too short for a release.
const LOOK_WAIT: Duration = Duration::from_secs(5);

impl Learner {
    /// Where nothing is released yet and enough is measured, a release is on its way: waits for it.
    pub(super) async fn await_first_release(&mut self) -> Result<(), PipelineError> {
        let is_coming = self.looking(|directory| {
            let releases = Releases::open(directory).and_then(|releases| releases.current_id());
            match releases {
                Ok(None) => Ok(training_table(directory)?.len() >= ROWS_NEEDED),
                Ok(Some(_)) | Err(PredictorError::Current { .. }) => Ok(false),
                Err(error) => Err(PipelineError::predictors("learner")(error)),
            }
        });
        if is_coming.await? {
            info!("there is no release yet, but enough to train one; waiting for it");
            if timeout(RELEASE_WAIT_MAX, self.next_release()).await.is_err() {
                info!(waited_s = RELEASE_WAIT_MAX.as_secs(), "no release; beginning without one");
            }
        }
        Ok(())
    }

    /// Plans the next batch. A release that is of no use is about to be replaced: waits for that, unless the updater
    /// has too little to make one of and waits for measurements itself.
    pub(super) async fn plan_patiently(&mut self, roster: &impl Roster) -> Result<Planned, PipelineError> {
        let deadline = Instant::now() + USABLE_WAIT_MAX;
        loop {
            match self.plan(roster, false).await {
                Err(error @ PipelineError::Predictors { .. })
                    if Instant::now() < deadline && !self.stop.is_cancelled() =>
                {
                    if self.looking(|directory| Ok(training_table(directory)?.len() < ROWS_NEEDED)).await? {
                        warn!(error = %chain(&error), "the current release is of no use; planning without one");
                        return self.plan(roster, true).await;
                    }
                    warn!(error = %chain(&error), "the current release is of no use; waiting for the updater's next one");
                    // Whether there was news of one or not: the next plan tells.
                    drop(timeout(LOOK_WAIT, self.next_release()).await);
                }
                planned => return planned,
            }
        }
    }

    /// Waits until workers live that take jobs of all these targets. Whether they do; those that still have none are
    /// passed over from now on.
    pub(super) async fn await_workers(&mut self, roster: &impl Roster, targets: BTreeSet<Target>) -> bool {
        let deadline = Instant::now() + self.settings.worker_wait_max;
        loop {
            let unserved = unserved(roster, targets.clone()).await;
            if unserved.is_empty() {
                return true;
            }
            let is_over = Instant::now() >= deadline;
            for reason in unserved.values() {
                let then = if is_over { "going on without it" } else { "waiting for a worker" };
                warn!(reason, then, "nobody would measure the proposals");
            }
            if is_over || self.stop.is_cancelled() {
                self.unserved.extend(unserved);
                return false;
            }
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep_until(deadline.min(Instant::now() + LOOK_WAIT)) => {}
            }
        }
    }

    /// Waits for a release that knows a batch's measurements, if another batch follows; whether there is any use in
    /// going on.
    pub(super) async fn await_release(&mut self, measured: BTreeSet<JobId>) -> Result<bool, PipelineError> {
        if self.report.jobs >= self.settings.budget {
            return Ok(true);
        }
        let deadline = Instant::now() + RELEASE_WAIT_MAX;
        loop {
            let of_batch = measured.clone();
            let is_settled =
                move |directory: &Path| Ok(knows(directory, &of_batch)? || is_too_few(directory, &of_batch)?);
            if self.looking(is_settled).await? {
                return Ok(true);
            }
            match timeout_at(deadline.min(Instant::now() + LOOK_WAIT), self.next_release()).await {
                Ok(Some(())) => {}
                Ok(None) => return Ok(false),
                Err(_) if Instant::now() < deadline => {}
                Err(_) => {
                    info!(waited_s = RELEASE_WAIT_MAX.as_secs(), "no new release; going on with the last one");
                    return Ok(true);
                }
            }
        }
    }

    /// Waits for news of a release; `None` after the stop.
    async fn next_release(&mut self) -> Option<()> {
        let delivery = self.releases.next().await?;
        if let Err(error) = delivery.settle(Settlement::Done).await {
            warn!(%error, "news of a release could not be acked");
        }
        Some(())
    }

    /// Looks at the releases directory, off the runtime's threads.
    async fn looking<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Path) -> Result<T, PipelineError> + Send + 'static,
    ) -> Result<T, PipelineError> {
        let directory = self.settings.releases_directory.clone();
        let looking = tokio::task::spawn_blocking(move || look(&directory));
        looking.await.map_err(|source| PipelineError::Panicked { stage: "learner", source })?
    }
}

/// Whether the last update was made of all these measurements, be it that it learned from them or was judged by them.
fn knows(directory: &Path, measured: &BTreeSet<JobId>) -> Result<bool, PipelineError> {
    let of_last = || -> Result<bool, PredictorError> {
        let releases = Releases::open(directory)?;
        let updates = releases.list()?.into_iter().flatten().filter(|manifest| manifest.update.is_some());
        let Some(last) = updates.last() else { return Ok(measured.is_empty()) };
        // Of one that is damaged nobody can say; the next plan tells that it is.
        let Ok(jobs) = releases.known_jobs(&last) else { return Ok(false) };
        let judged = last.update.iter().flat_map(|update| &update.held_out);
        let known: BTreeSet<&JobId> = jobs.learned.iter().chain(&jobs.dropped).chain(judged).collect();
        Ok(measured.iter().all(|job_id| known.contains(job_id)))
    };
    of_last().map_err(PipelineError::predictors("learner"))
}

/// Whether the updater has all these measurements and still too few for any release: then none is on its way.
fn is_too_few(directory: &Path, measured: &BTreeSet<JobId>) -> Result<bool, PipelineError> {
    let table = training_table(directory)?;
    let found = table.measurements().iter().filter(|row| measured.contains(&row.job_id)).count();
    Ok(table.len() < ROWS_NEEDED && found == measured.len())
}

/// Those of these targets that no live worker takes, and why.
pub(super) async fn unserved(roster: &impl Roster, targets: BTreeSet<Target>) -> BTreeMap<Target, String> {
    let mut unserved = BTreeMap::new();
    for target in targets {
        unserved.extend(roster.unserved(&target).await.map(|reason| (target, reason)));
    }
    unserved
}

/// Waits until no live worker has taken the target of any open job for so long; gives these targets, and why.
pub(super) async fn until_abandoned(
    roster: &impl Roster,
    open: watch::Receiver<BTreeMap<JobId, Target>>,
    wait_max: Duration,
) -> BTreeMap<Target, String> {
    let mut since = None;
    loop {
        sleep(LOOK_WAIT.min(wait_max)).await;
        let targets: BTreeSet<Target> = open.borrow().values().cloned().collect();
        let unserved = unserved(roster, targets.clone()).await;
        if targets.is_empty() || unserved.len() < targets.len() {
            since = None;
        } else if since.get_or_insert_with(Instant::now).elapsed() >= wait_max {
            return unserved;
        }
    }
}
