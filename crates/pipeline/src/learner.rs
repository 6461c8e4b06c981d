//! The active learner: proposes what to measure next, publishes it, waits for it, and begins again with the release
//! that came of it.

mod constraints;
mod ledger;
mod measuring;
pub(crate) mod planning;
mod waiting;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use broker::{AmqpUrl, Patience, Publisher, Start, Subscription};
use graphs::ModelCache;
use messages::{
    BenchmarkSpec, Configuration, Device, Dispatch, Job, JobSpec, Platform, Priority, Requirements, RunId, Timestamp,
    WebSpec,
};
use planner::{Barred, Constraints, PassedOver, Proposal, Refusal, Strategy};
use tokio_util::sync::CancellationToken;
use topology::names;
use tracing::info;

use crate::{Case, CaseSpec, PipelineError, Suite};

pub use constraints::read_constraints;
pub use ledger::Ledger;
pub use planning::{PlanRequest, Planned, SearchSettings, plan_next};

/// How long one attempt of a proposed benchmark may take.
const TIMEOUT: Duration = Duration::from_mins(5);

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
    /// Devices to propose for, whichever was measured last on their platforms; the first one of each platform.
    pub preferred_devices: Vec<Device>,
    /// The device to propose for where nothing was measured yet.
    pub first_device: Option<Device>,
    /// Jobs per run.
    pub batch: usize,
    /// Jobs in all; the learner ends when they are done.
    pub budget: usize,
    /// How long a target may be without a live worker before the learner goes on without it.
    pub worker_wait_max: Duration,
    /// How long the broker may take to appear.
    pub patience: Patience,
}

/// Where a job runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The kind of execution target.
    pub platform: Platform,
    /// The browser, if it has to be one of that name.
    pub browser: Option<String>,
}

impl Target {
    fn of(job: &Job) -> Self {
        let browser = match &job.spec {
            JobSpec::Web(web) => web.browsers.first().cloned(),
            JobSpec::Benchmark(_) | JobSpec::Test(_) => None,
        };
        Self { platform: job.platform, browser }
    }
}

/// Who knows which workers live.
pub trait Roster {
    /// Says why no live worker would take jobs of a target; `None` if one would, or if nobody knows.
    fn unserved(&self, target: &Target) -> impl Future<Output = Option<String>> + Send;

    /// Browsers of live workers, each with every platform that its worker takes; none if nobody knows.
    fn web_places(&self) -> impl Future<Output = Vec<(Platform, String)>> + Send;

    /// What waits, runs or failed a short while ago, whoever asked for it, and what devices refuse; nothing if nobody
    /// knows.
    fn barred(&self) -> impl Future<Output = Barred> + Send;
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

    /// Where it is to be measured.
    pub fn targets(&self) -> BTreeSet<Target> {
        let target = |of: &Configuration| Target { platform: of.platform, browser: of.browser.clone() };
        self.configurations().map(target).collect()
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
/// As [`plan_next`] and [`crate::submit`]; [`PipelineError::Unserved`] if nothing is left to propose but for a platform
/// that no worker takes.
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
        let planned = learner.plan_patiently(roster).await?;
        if planned.proposals.is_empty() {
            learner.nothing_left(&planned)?;
            break;
        }
        if !learner.await_workers(roster, planned.targets()).await {
            continue;
        }
        let measured = learner.measure(roster, &planned).await?;
        if !learner.await_release(measured).await? {
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
    /// Targets that no worker takes, and why; nothing is proposed for them.
    unserved: BTreeMap<Target, String>,
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
        Ok(Self {
            url: url.clone(),
            publisher,
            releases,
            settings,
            models,
            report: LearnerReport::default(),
            unserved: BTreeMap::new(),
            stop,
        })
    }

    /// Plans the next batch within what is left of the budgets, for targets that somebody serves.
    async fn plan(&mut self, roster: &impl Roster, is_without_release: bool) -> Result<Planned, PipelineError> {
        self.unserved = waiting::unserved(roster, self.unserved.keys().cloned().collect()).await;
        // Browsers are proposed only where they live.
        let (web_places, mut barred) = (roster.web_places().await, roster.barred().await);
        let native = self.unserved.keys().filter(|target| target.browser.is_none());
        let unserved: Vec<Platform> = native.map(|target| target.platform).collect();
        let (settings, models) = (self.settings.clone(), self.models.clone());
        let LearnerReport { jobs, expected_seconds, .. } = self.report;
        tokio::task::spawn_blocking(move || {
            let mut constraints = settings.constraints;
            // What is left may be nothing; then no candidate fits.
            constraints.budget_seconds = constraints.budget_seconds.map(|budget| budget - expected_seconds);
            constraints.platform_max.extend(unserved.iter().map(|platform| (platform.to_string(), 0)));
            barred.configurations.extend(Ledger::open(&settings.releases_directory, Timestamp::now())?.withheld());
            let request = PlanRequest {
                search: settings.search,
                strategy: settings.strategy,
                count: settings.batch.min(settings.budget - jobs),
                constraints,
                barred,
                preferred_devices: settings.preferred_devices,
                first_device: settings.first_device,
                web_places,
                is_without_release,
            };
            plan_next(&settings.releases_directory, &request, &models)
        })
        .await
        .map_err(|source| PipelineError::Panicked { stage: "learner", source })?
    }

    /// Says why there is no proposal.
    ///
    /// # Errors
    ///
    /// [`PipelineError::Unserved`] if a worker would change that.
    fn nothing_left(&mut self, planned: &Planned) -> Result<(), PipelineError> {
        for (reason, count) in &planned.passed_over {
            info!(count, %reason, "candidates were not proposed");
        }
        let is_refused = |(reason, _): &(PassedOver, usize)| *reason == PassedOver::Refused(Refusal::PlatformFull);
        if planned.passed_over.iter().any(is_refused)
            && let Some((target, reason)) = self.unserved.pop_first()
        {
            return Err(PipelineError::Unserved { platform: target.platform, reason });
        }
        info!("nothing is left to propose");
        Ok(())
    }
}
