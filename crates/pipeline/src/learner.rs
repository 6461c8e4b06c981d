//! The active learner: proposes what to measure next, publishes it, waits for it, and begins again with the release
//! that came of it.

use std::{collections::HashSet, path::PathBuf, time::Duration};

use broker::{AmqpUrl, Patience, Publisher, Settlement, Start, Subscription};
use graphs::{ModelCache, ShapeInput, zoo_entry};
use messages::{
    Backend, BenchmarkSpec, Configuration, Device, Dispatch, Origin, Precision, Priority, Requirements, RunId, Status,
};
use planner::{Proposal, SearchModel, SearchSpace, Strategy, candidate_grid, propose};
use predictors::{Release, Releases};
use tokio_util::sync::CancellationToken;
use topology::names;
use tracing::{info, warn};

use crate::{
    Case, CaseSpec, PipelineError, RunContext, RunFollower, RunNews, Submission, Suite, client::submit,
    updater::training_table,
};

/// How long one attempt of a proposed benchmark may take.
const TIMEOUT: Duration = Duration::from_mins(5);

/// How long the updater may take to make a release of a batch. Few new measurements make none; then the next batch is
/// planned with the release that is there, and without what was measured since.
const RELEASE_WAIT_MAX: Duration = Duration::from_mins(1);

/// What the learner may propose.
#[derive(Debug, Clone)]
pub struct SearchSettings {
    /// Models by name; every model that was measured already if empty.
    pub models: Vec<String>,
    /// Items per batch.
    pub batch_sizes: Vec<u32>,
    /// Tokens per item, for models with such a dimension; the usual length of each if empty.
    pub sequence_lengths: Vec<u32>,
    /// Threads of the session; those above what the device runs at once are left out.
    pub threads: Vec<u32>,
    /// The lane of proposed jobs.
    pub priority: Priority,
}

/// How the learner works.
#[derive(Debug, Clone)]
pub struct LearnerSettings {
    /// Where the updater keeps its releases and its training table.
    pub releases_directory: PathBuf,
    /// What may be proposed.
    pub search: SearchSettings,
    /// How to choose.
    pub strategy: Strategy,
    /// Jobs per run.
    pub batch: usize,
    /// Jobs in all; the learner ends when they are done.
    pub budget: usize,
    /// How long the broker may take to appear.
    pub patience: Patience,
}

/// What was proposed, by which release.
#[derive(Debug)]
pub struct Planned {
    /// The release that was asked.
    pub release: Release,
    /// The device that is to measure.
    pub device: Device,
    /// The proposals, the most wanted first.
    pub proposals: Vec<Proposal>,
}

/// What a learner did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LearnerReport {
    /// The runs that it submitted.
    pub runs: Vec<RunId>,
    /// Jobs in them.
    pub jobs: usize,
    /// Jobs that were measured.
    pub measured: usize,
}

/// Proposes up to `count` configurations for the device that was measured last.
///
/// # Errors
///
/// [`PipelineError::NoRelease`] before the first release, [`PipelineError::Graph`] if a model cannot be described.
pub fn plan_next(
    releases_directory: &std::path::Path,
    search: &SearchSettings,
    strategy: Strategy,
    count: usize,
    models: &ModelCache,
) -> Result<Planned, PipelineError> {
    let no_release = || PipelineError::NoRelease { directory: releases_directory.to_owned() };
    let release = Releases::open(releases_directory)
        .and_then(|releases| releases.current())
        .map_err(PipelineError::predictors("learner"))?
        .ok_or_else(no_release)?;
    let table = training_table(releases_directory)?;
    // What it proposes is measured natively: browsers are measured by suites.
    let native = || table.measurements().iter().filter(|row| !row.configuration.platform.is_web());
    let device = native().next_back().ok_or_else(no_release)?.device.clone();
    let measured: HashSet<Configuration> =
        native().filter(|row| row.device.name == device.name).map(|row| row.configuration.clone()).collect();
    let space = search_space(search, &device, &measured, models)?;
    let mut graphs = std::collections::HashMap::new();
    let candidates = candidate_grid(&space, |model, shape| -> Result<_, graphs::GraphError> {
        let graph = match graphs.entry(model.clone()) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => {
                new.insert(graphs::OnnxModel::read(&models.locate(model, Precision::Fp32)?.path)?)
            }
        };
        graph.costs(&graphs::Shape {
            batch_size: shape.batch_size,
            sequence_length: shape.sequence_length,
            image_size: shape.image_size,
        })
    })?;
    let seed = table.len() as u64;
    let proposals = propose(strategy, &release.predictors, &candidates, &measured, count, seed)?;
    Ok(Planned { release, device, proposals })
}

fn search_space(
    search: &SearchSettings,
    device: &Device,
    measured: &HashSet<Configuration>,
    models: &ModelCache,
) -> Result<SearchSpace, PipelineError> {
    let mut wanted = search.models.clone();
    if wanted.is_empty() {
        wanted = measured.iter().map(|configuration| configuration.model.name.clone()).collect();
        wanted.sort();
        wanted.dedup();
    }
    let model = |name: &String| {
        let model = models.obtain(name, Precision::Fp32);
        let model = model.map_err(|source| PipelineError::Graph { model: name.clone(), source })?.model;
        let (mut sequence_lengths, mut image_sizes) = (Vec::new(), Vec::new());
        match zoo_entry(name).map(|entry| &entry.shape) {
            Some(ShapeInput::Sequence { default, max }) => {
                sequence_lengths = search.sequence_lengths.iter().copied().filter(|length| length <= max).collect();
                if sequence_lengths.is_empty() {
                    sequence_lengths.push(*default);
                }
            }
            Some(ShapeInput::Samples { default, min }) => {
                sequence_lengths = search.sequence_lengths.iter().copied().filter(|length| length >= min).collect();
                if sequence_lengths.is_empty() {
                    sequence_lengths.push(*default);
                }
            }
            Some(ShapeInput::Image { default, .. }) => image_sizes.push(*default),
            Some(ShapeInput::AudioFrames { .. }) | None => {}
        }
        Ok(SearchModel { model, sequence_lengths, image_sizes })
    };
    let threads_max = device.hardware_threads.unwrap_or(1);
    Ok(SearchSpace {
        device: device.clone(),
        backend: Backend::Onnxruntime,
        models: wanted.iter().map(model).collect::<Result<_, PipelineError>>()?,
        precisions: vec![Precision::Fp32],
        batch_sizes: search.batch_sizes.clone(),
        threads: search.threads.iter().copied().filter(|threads| *threads <= threads_max).collect(),
    })
}

impl Planned {
    /// The proposals as a suite: each job carries what was predicted of it.
    pub fn to_suite(&self, name: &str, priority: Priority) -> Suite {
        let case = |proposal: &Proposal| Case {
            name: proposal.configuration.to_string(),
            priority,
            timeout: TIMEOUT,
            attempts_max: Dispatch::ATTEMPTS_DEFAULT,
            requirements: Requirements::default(),
            unique_key: None,
            spec: CaseSpec::Benchmark(Box::new(BenchmarkSpec {
                prediction: Some(proposal.predicted.to_prediction(&self.release.manifest.release_id)),
                ..BenchmarkSpec::usual(proposal.configuration.clone())
            })),
        };
        Suite { name: name.to_owned(), path: String::new(), cases: self.proposals.iter().map(case).collect() }
    }
}

/// Proposes, publishes and waits, batch after batch, until the budget is spent, nothing is left to propose, or `stop`.
///
/// # Errors
///
/// As [`plan_next`] and [`crate::submit`]; before the first release it waits for one.
pub async fn learn(
    url: &AmqpUrl,
    settings: LearnerSettings,
    models: ModelCache,
    stop: CancellationToken,
) -> Result<LearnerReport, PipelineError> {
    let failed = || PipelineError::broker("learner");
    let publisher =
        Publisher::start(url, "augur learner publish", settings.patience, stop.clone()).await.map_err(failed())?;
    let mut releases = Subscription::start(
        url,
        "augur learner read",
        names::RELEASES,
        Start::StreamNext,
        10,
        settings.patience,
        &stop,
    )
    .await
    .map_err(failed())?;
    let mut report = LearnerReport::default();
    info!(budget = settings.budget, strategy = settings.strategy.as_str(), "learner ready");
    while report.jobs < settings.budget && !stop.is_cancelled() {
        let count = settings.batch.min(settings.budget - report.jobs);
        let planned = match plan(&settings, count, &models).await {
            Ok(planned) => planned,
            Err(PipelineError::NoRelease { .. }) => {
                info!("there is no release yet; waiting for the first");
                if await_release(&mut releases).await.is_none() {
                    break;
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        if planned.proposals.is_empty() {
            info!("everything in the search space is measured");
            break;
        }
        let suite = planned.to_suite("active-learning", settings.search.priority);
        let submission = Submission::new(suite, Origin::Learner, RunContext::default());
        let (run_id, total) = (submission.run.run_id, submission.jobs.len());
        let mut follower = RunFollower::start(url, run_id, total, settings.patience, &stop).await?;
        submit(&publisher, &submission).await?;
        info!(%run_id, jobs = total, release_id = %planned.release.manifest.release_id, "proposals submitted");
        report.runs.push(run_id);
        report.jobs += total;
        while let Some(news) = follower.next().await {
            match news {
                RunNews::Ended(result) if result.status() == Status::Passed => {}
                RunNews::Ended(result) => {
                    warn!(job_id = %result.job.job_id, case = result.job.case, "proposal was not measured");
                }
                RunNews::Dead(job) => warn!(job_id = %job.job_id, case = job.name(), "proposal became a dead letter"),
                RunNews::Cancelled => info!(%run_id, "run is being cancelled"),
                RunNews::Retried(_) | RunNews::Replayed(_) => {}
            }
        }
        report.measured += follower.progress().passed;
        if report.jobs < settings.budget && follower.progress().passed > 0 {
            match tokio::time::timeout(RELEASE_WAIT_MAX, await_release(&mut releases)).await {
                Ok(Some(())) => {}
                Ok(None) => break,
                Err(_) => info!(waited_s = RELEASE_WAIT_MAX.as_secs(), "no new release; going on with the last one"),
            }
        }
    }
    Ok(report)
}

async fn plan(settings: &LearnerSettings, count: usize, models: &ModelCache) -> Result<Planned, PipelineError> {
    let (settings, models) = (settings.clone(), models.clone());
    tokio::task::spawn_blocking(move || {
        plan_next(&settings.releases_directory, &settings.search, settings.strategy, count, &models)
    })
    .await
    .map_err(|source| PipelineError::Panicked { stage: "learner", source })?
}

/// Waits for news of a release; `None` after the stop.
async fn await_release(releases: &mut Subscription) -> Option<()> {
    let delivery = releases.next().await?;
    if let Err(error) = delivery.settle(Settlement::Done).await {
        warn!(%error, "news of a release could not be acked");
    }
    Some(())
}
