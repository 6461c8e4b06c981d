//! Plans the next benchmarks for the devices that measure: search space, what is known, proposals.

use std::path::Path;

use features::Subject;
use graphs::{ModelCache, ShapeInput, ZooEntry, zoo, zoo_entry};
use messages::{Backend, Device, Platform, Precision, Priority};
use planner::{
    Barred, Candidate, Constraints, PassedOver, Past, Plan, Proposal, SearchModel, SearchSpace, Shape, Strategy, Wish,
    candidate_grid, propose,
};
use predictors::{PredictorError, Predictors, Release, Releases, Update};

use crate::{PipelineError, costs::Costs, updater::training_table};

/// Largest model of the zoo that is proposed where nothing is measured and no model is named, in parameters: what every
/// machine can run and builds in seconds.
const PARAMETERS_FIRST_MAX: u64 = 30_000_000;

/// How far apart the batches of two seeds are: further than tables have rows.
const SEED_STEP: u64 = 1_000_000_007;

/// What the learner may propose.
#[derive(Debug, Clone)]
pub struct SearchSettings {
    /// Models by name; if empty every model that was measured already, or small ones of the zoo if none was.
    pub models: Vec<String>,
    /// Items per batch.
    pub batch_sizes: Vec<u32>,
    /// Tokens per item, for models with such a dimension; the usual length of each if empty.
    pub sequence_lengths: Vec<u32>,
    /// Threads of the session; those above what the device runs at once are left out.
    pub threads: Vec<u32>,
    /// Platforms of browsers that may be proposed where a live worker has them.
    pub web_platforms: Vec<Platform>,
    /// The lane of proposed jobs.
    pub priority: Priority,
    /// Changes what is chosen by chance.
    pub seed: u64,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct PlanRequest {
    /// What may be proposed.
    pub search: SearchSettings,
    /// How to choose.
    pub strategy: Strategy,
    /// How many at most.
    pub count: usize,
    /// What the batch must keep to.
    pub constraints: Constraints,
    /// What is not to be proposed now.
    pub barred: Barred,
    /// Devices to propose for, whichever was measured last on their platforms; the first one of each platform.
    pub preferred_devices: Vec<Device>,
    /// The device to propose for where nothing was measured yet.
    pub first_device: Option<Device>,
    /// Browsers of live workers, each with a platform that it may give.
    pub web_places: Vec<(Platform, String)>,
    /// Whether to plan as before the first release, though there is one, because that is of no use.
    pub is_without_release: bool,
}

/// What was proposed, by which release.
#[derive(Debug)]
pub struct Planned {
    /// The release that was asked; `None` before the first one.
    pub release: Option<Release>,
    /// The devices that are to measure.
    pub devices: Vec<Device>,
    /// The platforms that the last update asked for, because its predictions are still astray there; then only their
    /// devices are to measure. None if nothing could be proposed for those.
    pub asked_for: Vec<Platform>,
    /// The proposals, the most wanted first.
    pub proposals: Vec<Proposal>,
    /// How many candidates could not be proposed, by reason.
    pub passed_over: Vec<(PassedOver, usize)>,
}

/// Proposes configurations for one device of each platform: the one that is preferred, or else the one that was measured
/// last.
///
/// # Errors
///
/// [`PipelineError::NoDevice`] if nothing was measured and no device is named, [`PipelineError::Graph`] if a model
/// cannot be described.
pub fn plan_next(
    releases_directory: &Path,
    request: &PlanRequest,
    models: &ModelCache,
) -> Result<Planned, PipelineError> {
    let releases = Releases::open(releases_directory).map_err(PipelineError::predictors("learner"))?;
    let release = if request.is_without_release {
        None
    } else {
        releases.current().map_err(PipelineError::predictors("learner"))?
    };
    let table = training_table(releases_directory)?;
    let (web, mut measured): (Vec<Subject>, Vec<Subject>) =
        table.measurements().iter().map(Subject::from).partition(|subject| subject.configuration.platform.is_web());
    let mut devices: Vec<Device> = Vec::new();
    let measured_last = measured.iter().rev().map(|subject| &subject.device);
    for device in request.preferred_devices.iter().chain(measured_last).chain(&request.first_device) {
        if devices.iter().all(|known| known.platform != device.platform) {
            devices.push(device.clone());
        }
    }
    let in_browsers = web_devices(request, &web, &devices);
    if devices.is_empty() && in_browsers.is_empty() {
        return Err(PipelineError::NoDevice { directory: releases_directory.to_owned() });
    }
    if !in_browsers.is_empty() {
        measured.extend(web);
    }
    let native = devices.into_iter().map(|device| (device, None));
    let places: Vec<Place> =
        native.chain(in_browsers.into_iter().map(|(device, browser)| (device, Some(browser)))).collect();
    let mut asked_for = astray(&releases).map_err(PipelineError::predictors("learner"))?;
    asked_for.retain(|platform| places.iter().any(|(device, _)| device.platform == *platform));
    let asked: Vec<Place> = places.iter().filter(|(device, _)| asked_for.contains(&device.platform)).cloned().collect();
    let ground = Ground { request, models, measured, rows: table.len() };
    let predictors = release.as_ref().map(|release| &release.predictors);
    // Where nothing that was asked for can be proposed, the others are no worse for it.
    let of_asked = if asked.is_empty() { Plan::default() } else { ground.plan(predictors, &asked)? };
    let (plan, places) = if of_asked.proposals.is_empty() {
        asked_for.clear();
        (ground.plan(predictors, &places)?, places)
    } else {
        (of_asked, asked)
    };
    let mut devices: Vec<Device> = places.into_iter().map(|(device, _)| device).collect();
    devices.dedup_by(|a, b| (&a.name, a.platform) == (&b.name, b.platform));
    let Plan { proposals, passed_over } = plan;
    Ok(Planned { release, devices, asked_for, proposals, passed_over: passed_over.into_iter().collect() })
}

/// A device, and the browser that it is seen from, if from one.
type Place = (Device, Option<String>);

/// What every plan of a request rests on.
struct Ground<'a> {
    request: &'a PlanRequest,
    models: &'a ModelCache,
    measured: Vec<Subject>,
    /// Of the training table.
    rows: usize,
}

impl Ground<'_> {
    fn plan(&self, predictors: Option<&Predictors>, places: &[Place]) -> Result<Plan, PipelineError> {
        let Self { request, models, measured, rows } = self;
        let mut costs = Costs::new(models);
        let mut candidates: Vec<Candidate> = Vec::new();
        for (device, browser) in places {
            let mut space = search_space(&request.search, device, measured, models)?;
            if let Some(browser) = browser {
                space = web_space(space, browser.clone());
            }
            candidates.extend(candidate_grid(&space, |model, shape| {
                let Shape { batch_size, sequence_length, image_size } = *shape;
                costs.of(model, Precision::Fp32, graphs::Shape { batch_size, sequence_length, image_size })
            })?);
        }
        let wish = Wish {
            strategy: request.strategy,
            count: request.count,
            constraints: &request.constraints,
            seed: request.search.seed.wrapping_mul(SEED_STEP).wrapping_add(*rows as u64),
        };
        Ok(propose(predictors, &candidates, Past { measured, barred: &request.barred }, wish)?)
    }
}

/// The platforms where the last update did not help.
fn astray(releases: &Releases) -> Result<Vec<Platform>, PredictorError> {
    let last = releases.list()?.into_iter().flatten().filter_map(|manifest| manifest.update).next_back();
    Ok(last.iter().flat_map(Update::astray).filter_map(|platform| platform.parse().ok()).collect())
}

/// What each browser of live workers computes on: what it was measured on last; for WebAssembly, else the processor.
///
/// Another platform of a browser that was never measured there has no device that anybody could name.
fn web_devices(request: &PlanRequest, measured: &[Subject], native: &[Device]) -> Vec<(Device, String)> {
    let processor = native.iter().find(|device| device.platform == Platform::Cpu);
    let device = |platform: Platform, browser: &String| {
        let is_there = |subject: &&Subject| {
            subject.configuration.platform == platform && subject.configuration.browser.as_ref() == Some(browser)
        };
        let known = measured.iter().rev().find(is_there).map(|subject| subject.device.clone());
        known.or_else(|| {
            let processor = processor.filter(|_| platform == Platform::Wasm)?;
            Some(Device { platform, ..processor.clone() })
        })
    };
    let wanted = request.web_places.iter().filter(|(platform, _)| request.search.web_platforms.contains(platform));
    wanted.filter_map(|(platform, browser)| Some((device(*platform, browser)?, browser.clone()))).collect()
}

/// The space of a device, seen from a browser; only WebAssembly has threads there.
fn web_space(space: SearchSpace, browser: String) -> SearchSpace {
    let threads = if space.device.platform == Platform::Wasm { space.threads } else { vec![1] };
    SearchSpace { backend: Backend::OrtWeb, browser: Some(browser), threads, ..space }
}

/// Names of the models that may be proposed.
fn wanted_models(search: &SearchSettings, measured: &[Subject]) -> Vec<String> {
    if !search.models.is_empty() {
        return search.models.clone();
    }
    let mut names: Vec<String> = measured.iter().map(|subject| subject.configuration.model.name.clone()).collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        let small = |entry: &&ZooEntry| entry.published_parameters <= PARAMETERS_FIRST_MAX;
        names = zoo().iter().filter(small).map(|entry| entry.name.to_owned()).collect();
    }
    names
}

fn search_space(
    search: &SearchSettings,
    device: &Device,
    measured: &[Subject],
    models: &ModelCache,
) -> Result<SearchSpace, PipelineError> {
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
        browser: None,
        models: wanted_models(search, measured).iter().map(model).collect::<Result<_, PipelineError>>()?,
        precisions: vec![Precision::Fp32],
        batch_sizes: search.batch_sizes.clone(),
        threads: search.threads.iter().copied().filter(|threads| *threads <= threads_max).collect(),
    })
}

#[cfg(test)]
pub(crate) mod tests;
