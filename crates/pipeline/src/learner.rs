//! The active learner: proposes what to measure next, publishes it, waits for it, and begins again with the release
//! that came of it.

mod constraints;
mod ledger;
mod planning;

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use broker::{AmqpUrl, Patience, Publisher, Settlement, Start, Subscription};
use graphs::ModelCache;
use messages::{
    BenchmarkSpec, Configuration, Device, Dispatch, JobSpec, Origin, Platform, Priority, Requirements, RunId, Status,
    Timestamp, WebSpec,
};
use planner::{Constraints, Proposal, Strategy, Withheld};
use predictors::{ROWS_NEEDED, Releases};
use tokio_util::sync::CancellationToken;
use topology::names;
use tracing::{info, warn};

use crate::{
    Case, CaseSpec, PipelineError, RunContext, RunFollower, RunNews, Submission, Suite, client::submit,
    updater::training_table,
};

pub use constraints::read_constraints;
pub use ledger::Ledger;
pub use planning::{PlanRequest, Planned, SearchSettings, plan_next};

/// How long one attempt of a proposed benchmark may take.
const TIMEOUT: Duration = Duration::from_mins(5);

/// How long the updater may take to make a release of a batch. Few new measurements make none; then the next batch is
/// planned with the release that is there, and without what was measured since.
const RELEASE_WAIT_MAX: Duration = Duration::from_mins(1);

/// How long a worker may take to appear before the learner says that nobody serves a platform and ends.
const WORKER_WAIT_MAX: Duration = Duration::from_mins(1);
/// Wait before workers are looked for again.
const WORKER_WAIT: Duration = Duration::from_secs(5);

/// How the learner works.
#[derive(Debug, Clone)]
pub struct LearnerSettings {
    /// Where the updater keeps its releases and its training table.
    pub releases_directory: PathBuf,
    /// What may be proposed.
    pub search: SearchSettings,
    /// How to choose.
    pub strategy: Strategy,
    /// What each batch must keep to; a budget in seconds is that of all batches together.
    pub constraints: Constraints,
    /// The device to propose for where nothing was measured yet.
    pub first_device: Option<Device>,
    /// Jobs per run.
    pub batch: usize,
    /// Jobs in all; the learner ends when they are done.
    pub budget: usize,
    /// How long the broker may take to appear.
    pub patience: Patience,
}

/// Who knows which workers live.
pub trait Roster {
    /// Says why no live worker would take jobs of a platform; `None` if one would, or if nobody knows.
    fn unserved(&self, platform: Platform) -> impl Future<Output = Option<String>> + Send;

    /// Browsers of live workers, each with every platform that its worker takes; none if nobody knows.
    fn web_places(&self) -> impl Future<Output = Vec<(Platform, String)>> + Send;
}

/// What a learner did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LearnerReport {
    /// The runs that it submitted.
    pub runs: Vec<RunId>,
    /// Jobs in them.
    pub jobs: usize,
    /// Jobs that were measured.
    pub measured: usize,
    /// Seconds that all jobs were expected to take.
    pub expected_seconds: f64,
}

impl Planned {
    /// The proposals as a suite: each job carries what was predicted of it.
    pub fn to_suite(&self, name: &str, priority: Priority) -> Suite {
        let prediction = |proposal: &Proposal| {
            let release = self.release.as_ref()?;
            Some(proposal.predicted.to_prediction(&release.manifest.release_id, &proposal.device))
        };
        let case = |proposal: &Proposal| Case {
            name: proposal.configuration.to_string(),
            priority,
            timeout: TIMEOUT,
            attempts_max: Dispatch::ATTEMPTS_DEFAULT,
            requirements: Requirements::default(),
            unique_key: None,
            spec: case_spec(BenchmarkSpec {
                prediction: prediction(proposal),
                ..BenchmarkSpec::usual(proposal.configuration.clone())
            }),
        };
        Suite { name: name.to_owned(), path: String::new(), cases: self.proposals.iter().map(case).collect() }
    }

    /// The platforms that are to measure.
    pub fn platforms(&self) -> BTreeSet<Platform> {
        self.proposals.iter().map(|proposal| proposal.configuration.platform).collect()
    }

    /// What is proposed.
    pub fn configurations(&self) -> impl Iterator<Item = &Configuration> {
        self.proposals.iter().map(|proposal| &proposal.configuration)
    }
}

/// A benchmark, natively or in the browser of its configuration.
fn case_spec(benchmark: BenchmarkSpec) -> CaseSpec {
    match benchmark.configuration.browser.clone() {
        Some(browser) => CaseSpec::Web(Box::new(WebSpec::new(benchmark, vec![browser]))),
        None => CaseSpec::Benchmark(Box::new(benchmark)),
    }
}

/// Proposes, publishes and waits, batch after batch, until the budget is spent, nothing is left to propose, or `stop`.
///
/// # Errors
///
/// As [`plan_next`] and [`crate::submit`]; [`PipelineError::Unserved`] if no worker for a proposed platform appears.
pub async fn learn(
    url: &AmqpUrl,
    settings: LearnerSettings,
    models: ModelCache,
    roster: &impl Roster,
    stop: CancellationToken,
) -> Result<LearnerReport, PipelineError> {
    let mut learner = Learner::start(url, settings, models, stop).await?;
    learner.await_first_release().await?;
    while learner.report.jobs < learner.settings.budget && !learner.stop.is_cancelled() {
        let planned = learner.plan(roster).await?;
        if planned.proposals.is_empty() {
            for (reason, count) in &planned.passed_over {
                info!(count, %reason, "candidates were not proposed");
            }
            info!("nothing is left to propose");
            break;
        }
        for platform in planned.platforms() {
            learner.await_worker(roster, platform).await?;
        }
        if learner.stop.is_cancelled() {
            break;
        }
        let passed = learner.measure(&planned).await?;
        if passed > 0 && !learner.await_release().await {
            break;
        }
    }
    Ok(learner.report)
}

/// The state of the daemon.
struct Learner {
    url: AmqpUrl,
    publisher: Publisher,
    releases: Subscription,
    settings: LearnerSettings,
    models: ModelCache,
    report: LearnerReport,
    stop: CancellationToken,
}

impl Learner {
    async fn start(
        url: &AmqpUrl,
        settings: LearnerSettings,
        models: ModelCache,
        stop: CancellationToken,
    ) -> Result<Self, PipelineError> {
        let failed = || PipelineError::broker("learner");
        let patience = settings.patience;
        let publisher =
            Publisher::start(url, "augur learner publish", patience, stop.clone()).await.map_err(failed())?;
        let news =
            Subscription::start(url, "augur learner read", names::RELEASES, Start::StreamNext, 10, patience, &stop);
        let releases = news.await.map_err(failed())?;
        info!(budget = settings.budget, strategy = settings.strategy.as_str(), "learner ready");
        Ok(Self { url: url.clone(), publisher, releases, settings, models, report: LearnerReport::default(), stop })
    }

    /// Where nothing is released yet and enough is measured, a release is on its way: waits for it.
    async fn await_first_release(&mut self) -> Result<(), PipelineError> {
        let directory = self.settings.releases_directory.clone();
        let is_coming = tokio::task::spawn_blocking(move || -> Result<bool, PipelineError> {
            let releases = Releases::open(&directory).and_then(|releases| releases.current_id());
            let is_there = releases.map_err(PipelineError::predictors("learner"))?.is_some();
            Ok(!is_there && training_table(&directory)?.len() >= ROWS_NEEDED)
        });
        if is_coming.await.map_err(|source| PipelineError::Panicked { stage: "learner", source })?? {
            info!("there is no release yet, but enough to train one; waiting for it");
            if tokio::time::timeout(RELEASE_WAIT_MAX, next_release(&mut self.releases)).await.is_err() {
                info!(waited_s = RELEASE_WAIT_MAX.as_secs(), "no release; beginning without one");
            }
        }
        Ok(())
    }

    /// Plans the next batch within what is left of the budgets.
    async fn plan(&self, roster: &impl Roster) -> Result<Planned, PipelineError> {
        let web_places = roster.web_places().await;
        let (settings, models) = (self.settings.clone(), self.models.clone());
        let LearnerReport { jobs, expected_seconds, .. } = self.report;
        tokio::task::spawn_blocking(move || {
            let mut constraints = settings.constraints;
            // What is left may be nothing; then no candidate fits.
            constraints.budget_seconds = constraints.budget_seconds.map(|budget| budget - expected_seconds);
            let request = PlanRequest {
                search: settings.search,
                strategy: settings.strategy,
                count: settings.batch.min(settings.budget - jobs),
                constraints,
                withheld: Ledger::open(&settings.releases_directory, Timestamp::now())?.withheld(),
                first_device: settings.first_device,
                web_places,
            };
            plan_next(&settings.releases_directory, &request, &models)
        })
        .await
        .map_err(|source| PipelineError::Panicked { stage: "learner", source })?
    }

    /// Waits until a worker lives that takes jobs of a platform, or until the stop.
    async fn await_worker(&self, roster: &impl Roster, platform: Platform) -> Result<(), PipelineError> {
        let deadline = tokio::time::Instant::now() + WORKER_WAIT_MAX;
        while let Some(reason) = roster.unserved(platform).await {
            if self.stop.is_cancelled() {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(PipelineError::Unserved { platform, reason });
            }
            warn!(%platform, reason, "nobody would measure the proposals; waiting for a worker");
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(WORKER_WAIT) => {}
            }
        }
        Ok(())
    }

    /// Submits a batch and waits for its end; says how many were measured.
    async fn measure(&mut self, planned: &Planned) -> Result<usize, PipelineError> {
        let suite = planned.to_suite("active-learning", self.settings.search.priority);
        let submission = Submission::new(suite, Origin::Learner, RunContext::default());
        let (run_id, total) = (submission.run.run_id, submission.jobs.len());
        let mut follower = RunFollower::start(&self.url, &submission.run, self.settings.patience, &self.stop).await?;
        self.note(planned.configurations(), Withheld::Queued)?;
        submit(&self.publisher, &submission).await?;
        let release_id = planned.release.as_ref().map(|release| release.manifest.release_id.to_string());
        info!(%run_id, jobs = total, release_id, "proposals submitted");
        self.report.runs.push(run_id);
        self.report.jobs += total;
        self.report.expected_seconds += planned.proposals.iter().map(|proposal| proposal.expected_seconds).sum::<f64>();
        while let Some(news) = follower.next().await {
            match news {
                RunNews::Ended(result) if result.status() == Status::Passed => {}
                RunNews::Ended(result) => {
                    warn!(job_id = %result.job.job_id, case = result.job.case, "proposal was not measured");
                    match &result.job.spec {
                        JobSpec::Benchmark(spec) => self.note([&spec.configuration], Withheld::Failed)?,
                        JobSpec::Web(spec) => self.note([&spec.benchmark.configuration], Withheld::Failed)?,
                        JobSpec::Test(_) => {}
                    }
                }
                RunNews::Dead(job) => {
                    warn!(job_id = %job.job_id, case = job.name(), "proposal became a dead letter");
                    let name = job.name();
                    self.note(planned.configurations().filter(|of| of.to_string() == name), Withheld::Failed)?;
                }
                RunNews::Cancelled => info!(%run_id, "run is being cancelled"),
                RunNews::Retried(_) | RunNews::Replayed(_) => {}
            }
        }
        let passed = follower.progress().passed;
        self.report.measured += passed;
        Ok(passed)
    }

    fn note<'a>(
        &self,
        configurations: impl IntoIterator<Item = &'a Configuration>,
        what: Withheld,
    ) -> Result<(), PipelineError> {
        let now = Timestamp::now();
        Ledger::open(&self.settings.releases_directory, now)?.note(configurations, what, now)
    }

    /// Waits for the release of a batch if another follows; whether there is any use in going on.
    async fn await_release(&mut self) -> bool {
        if self.report.jobs >= self.settings.budget {
            return true;
        }
        if let Ok(news) = tokio::time::timeout(RELEASE_WAIT_MAX, next_release(&mut self.releases)).await {
            return news.is_some();
        }
        info!(waited_s = RELEASE_WAIT_MAX.as_secs(), "no new release; going on with the last one");
        true
    }
}

/// Waits for news of a release; `None` after the stop.
async fn next_release(releases: &mut Subscription) -> Option<()> {
    let delivery = releases.next().await?;
    if let Err(error) = delivery.settle(Settlement::Done).await {
        warn!(%error, "news of a release could not be acked");
    }
    Some(())
}
