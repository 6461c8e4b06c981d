//! The learner where not every platform has a worker, and the one that has loses it; where its release is of no use; and
//! where another appears meanwhile.

use std::{
    collections::{BTreeSet, HashSet},
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use broker::Subscription;
use features::{OwnTables, TrainingTable};
use graphs::ModelCache;
use messages::{AcceptedMeasurement, Job, JobId, JobResult, Metric, Platform, Priority, ReleaseId, Timestamp};
use pipeline::{
    LearnerReport, LearnerSettings, Ledger, PipelineError, PlanRequest, Planned, Roster, SearchSettings, Target, learn,
    plan_next, training_table,
};
use planner::{Barred, Constraints, Strategy};
use predictors::{KnownJobs, Learner, Predictors, Provenance, Releases, Source, TrainSettings, Update, UpdateStrategy};
use tempfile::TempDir;
use testkit::builders;
use tokio::sync::watch;

use crate::support::{PATIENCE, World, bounded};

/// Jobs of the batch.
const BATCH: usize = 4;

/// Nobody takes `cuda`; whoever takes `cpu` dies right behind the submission, which follows the second plan.
#[derive(Default)]
struct Dying {
    plans: AtomicUsize,
    is_asked: AtomicBool,
}

impl Roster for Dying {
    async fn unserved(&self, target: &Target) -> Option<String> {
        let lives = || self.plans.load(Ordering::Relaxed) < 2 || !self.is_asked.swap(true, Ordering::Relaxed);
        let is_served = target.platform == Platform::Cpu && lives();
        (!is_served).then(|| format!("no live worker takes {}", target.platform))
    }

    async fn web_places(&self) -> Vec<(Platform, String)> {
        Vec::new()
    }

    async fn barred(&self) -> Barred {
        self.plans.fetch_add(1, Ordering::Relaxed);
        Barred::default()
    }
}

fn on(platform: Platform, mut row: AcceptedMeasurement) -> AcceptedMeasurement {
    (row.configuration.platform, row.device.platform) = (platform, platform);
    row
}

/// Keeps the training table as the updater does.
fn keep(directory: &Path, table: &TrainingTable) {
    let (training, offset) = (directory.join("training"), table.len());
    std::fs::create_dir_all(&training).unwrap();
    table.write(&training.join(format!("{offset}.parquet"))).unwrap();
    std::fs::write(training.join("position"), format!("{offset}\n")).unwrap();
}

/// A broker, a directory with a training table that has a measurement on each of the two platforms, and models.
async fn measured() -> (World, TempDir, ModelCache) {
    let rows = [Platform::Cpu, Platform::Cuda].map(|platform| on(platform, builders::batch_grid([1], 1.0).remove(0)));
    let mut table = TrainingTable::empty();
    table.append(&rows);
    let directory = tempfile::tempdir().unwrap();
    keep(directory.path(), &table);
    let models = ModelCache::open(&directory.path().join("models")).unwrap();
    (World::new().await, directory, models)
}

fn settings(directory: &Path) -> LearnerSettings {
    LearnerSettings {
        releases_directory: directory.to_owned(),
        search: SearchSettings {
            models: vec!["bert-tiny".to_owned()],
            batch_sizes: vec![1, 2, 4],
            sequence_lengths: vec![16, 32],
            threads: vec![1],
            web_platforms: Vec::new(),
            priority: Priority::Low,
            seed: 1,
        },
        strategy: Strategy::Random,
        constraints: Constraints { model_max: Some(BATCH), ..Constraints::default() },
        preferred_devices: Vec::new(),
        first_device: None,
        batch: BATCH,
        budget: 2 * BATCH,
        worker_wait_max: Duration::from_millis(100),
        patience: PATIENCE,
    }
}

/// One platform without a worker ended the learner for all, and a worker that died kept it waiting for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_platform_without_a_worker_is_passed_over_and_nobody_is_waited_for_for_ever() {
    let (world, directory, models) = measured().await;
    let roster = Dying::default();
    let learned = bounded(learn(&world.url, settings(directory.path()), models, &roster, world.stop.clone())).await;
    let Err(PipelineError::Unserved { platform, .. }) = learned else { panic!("{learned:?}") };
    assert_eq!(platform, Platform::Cpu, "it went on to the next batch, for which nobody is left");
    let mut lane = world.lane("jobs.cpu.low").await;
    for _ in 0..BATCH {
        let job: Job = bounded(lane.next()).await.unwrap().decode().unwrap();
        assert_eq!(job.platform, Platform::Cpu, "the whole batch, and nothing for the platform without a worker");
    }
}

/// Somebody takes everything.
#[derive(Default)]
struct Everybody {
    /// What has a result: device and configuration.
    measured: HashSet<(String, String)>,
}

impl Roster for Everybody {
    async fn unserved(&self, _target: &Target) -> Option<String> {
        None
    }

    async fn web_places(&self) -> Vec<(Platform, String)> {
        Vec::new()
    }

    async fn barred(&self) -> Barred {
        Barred { measured: self.measured.clone(), ..Barred::default() }
    }
}

/// All that may be proposed, asked for at once.
fn all(settings: &LearnerSettings, models: &ModelCache) -> Planned {
    let request = PlanRequest {
        search: settings.search.clone(),
        strategy: settings.strategy,
        count: 100,
        constraints: Constraints { model_max: Some(100), ..Constraints::default() },
        barred: Barred::default(),
        preferred_devices: Vec::new(),
        first_device: None,
        web_places: Vec::new(),
        is_without_release: false,
    };
    tokio::task::block_in_place(|| plan_next(&settings.releases_directory, &request, models)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_candidate_is_left_the_learner_ends_without_a_job() {
    let (world, directory, models) = measured().await;
    let learned = async |settings: LearnerSettings, roster: Everybody| {
        let learning = Box::pin(learn(&world.url, settings, models.clone(), &roster, world.stop.clone()));
        bounded(learning).await.unwrap()
    };
    let settings = settings(directory.path());
    let constraints = Constraints { budget_seconds: Some(1e-9), ..Constraints::default() };
    let poor = LearnerSettings { constraints, ..settings.clone() };
    assert_eq!(learned(poor, Everybody::default()).await, LearnerReport::default(), "no candidate is so cheap");

    let planned = all(&settings, &models);
    let name = |of: &planner::Proposal| (of.device.clone(), of.configuration.to_string());
    let roster = Everybody { measured: planned.proposals.iter().map(name).collect() };
    assert!(roster.measured.len() > settings.budget, "{:?}", planned.passed_over);
    assert_eq!(learned(settings, roster).await, LearnerReport::default(), "everything is measured");
}

/// The batch was taken for queued, and so not proposed again for a day.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_could_not_be_submitted_may_be_proposed_again() {
    let (world, directory, models) = measured().await;
    for platform in ["cpu", "cuda"] {
        let lane = format!("jobs.{platform}.low");
        world.vhost.node().ctl(&["delete_queue", "-p", world.vhost.name(), &lane]).unwrap();
    }
    let learned =
        bounded(learn(&world.url, settings(directory.path()), models, &Everybody::default(), world.stop.clone())).await;
    assert!(matches!(learned, Err(PipelineError::Incomplete { confirmed: 0, .. })), "{learned:?}");
    let ledger = Ledger::open(directory.path(), Timestamp::now()).unwrap();
    assert!(ledger.withheld().is_empty(), "{ledger:?}");
}

/// Nobody takes anything; counts the plans.
struct Nobody {
    plans: watch::Sender<usize>,
}

impl Roster for Nobody {
    async fn unserved(&self, target: &Target) -> Option<String> {
        Some(format!("no live worker takes {}", target.platform))
    }

    async fn web_places(&self) -> Vec<(Platform, String)> {
        Vec::new()
    }

    async fn barred(&self) -> Barred {
        self.plans.send_modify(|plans| *plans += 1);
        Barred::default()
    }
}

/// The learner ended, and the updater, which would have made another release, waited for measurements.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_of_no_use_is_waited_for_until_another_is_there() {
    let (world, directory, models) = measured().await;
    let current = directory.path().join("current");
    std::fs::write(&current, "no such name!\n").unwrap();
    let (plans, mut planned) = watch::channel(0);
    let roster = Nobody { plans };
    let learning = Box::pin(learn(&world.url, settings(directory.path()), models, &roster, world.stop.clone()));
    let mending = async {
        // The first plan failed where there is a second.
        planned.wait_for(|plans| *plans >= 2).await.unwrap();
        std::fs::remove_file(&current).unwrap();
    };
    let (learned, ()) = bounded(async { tokio::join!(learning, mending) }).await;
    assert!(matches!(learned, Err(PipelineError::Unserved { .. })), "it went on: {learned:?}");
}

/// What 40 measurements on each of the two platforms teach.
fn taught() -> Predictors {
    let grid = |platform| builders::batch_grid(1..=10, 1.0).into_iter().map(move |row| on(platform, row));
    let rows: Vec<AcceptedMeasurement> = grid(Platform::Cpu).chain(grid(Platform::Cuda)).collect();
    let OwnTables { rows, devices, operators } = OwnTables::of(&rows, |_| None);
    let learner = Learner::GradientBoosting;
    let settings = TrainSettings { learner, rounds: 20, few_shot_below: 0, ..TrainSettings::default() };
    Predictors::train(rows, &devices, &operators, &[Metric::LatencyMs], &settings, |_| ()).unwrap()
}

/// Publishes a release, as the updater does that learned from these jobs.
fn released(releases: &Releases, predictors: &Predictors, learned: BTreeSet<JobId>) -> ReleaseId {
    let update = Update {
        strategy: UpdateStrategy::Full,
        reason: "a test".to_owned(),
        table_rows: 2,
        whole_rows: 2,
        held_out: Vec::new(),
        judged: Vec::new(),
        is_promoted: true,
    };
    let jobs = KnownJobs { learned, dropped: BTreeSet::new() };
    let provenance = Provenance { source: Source::Jobs, jobs, update: Some(update) };
    releases.publish(predictors, provenance, Timestamp::now(), "0.1.0").unwrap().release_id
}

/// Takes half a batch, each job of which carries what this release predicts of it.
async fn taken(lane: &mut Subscription, release_id: &ReleaseId) -> Vec<Job> {
    let mut jobs = Vec::new();
    for _ in 0..BATCH / 2 {
        let job: Job = lane.next().await.unwrap().decode().unwrap();
        let prediction = job.spec.benchmark().unwrap().prediction.as_ref();
        assert_eq!(prediction.map(|of| &of.release_id), Some(release_id), "{job:?}");
        jobs.push(job);
    }
    jobs
}

async fn measure(world: &World, jobs: Vec<Job>) {
    for job in jobs {
        let result = JobResult { job, ..builders::job_result() };
        world.record(&result.job.job_id.to_string(), &result).await;
    }
}

/// A learner that kept the release that it began with would have nothing of what it measures.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_appears_between_two_batches_predicts_the_second() {
    let (world, directory, models) = measured().await;
    let predictors = tokio::task::block_in_place(taught);
    let releases = Releases::open(directory.path()).unwrap();
    let first = released(&releases, &predictors, BTreeSet::new());
    let mut settings = LearnerSettings { batch: BATCH / 2, budget: BATCH, ..settings(directory.path()) };
    // All jobs come from one lane.
    settings.constraints.platform_max = [("cuda".to_owned(), 0)].into();
    let mut lane = world.lane("jobs.cpu.low").await;
    let roster = Everybody::default();
    let learning = Box::pin(learn(&world.url, settings, models, &roster, world.stop.clone()));
    let working = async {
        let jobs = taken(&mut lane, &first).await;
        let second = released(&releases, &predictors, jobs.iter().map(|job| job.job_id).collect());
        measure(&world, jobs).await;
        let jobs = taken(&mut lane, &second).await;
        measure(&world, jobs).await;
    };
    let (learned, ()) = bounded(async { tokio::join!(learning, working) }).await;
    let LearnerReport { runs, jobs, measured, .. } = learned.unwrap();
    assert_eq!((runs.len(), jobs, measured), (2, BATCH, BATCH));
}

/// Measures the next job, which is in the training table before the learner hears of it.
async fn measure_next(world: &World, directory: &Path, lane: &mut Subscription) {
    let job: Job = lane.next().await.unwrap().decode().unwrap();
    let mut table = training_table(directory).unwrap();
    table.append(&[AcceptedMeasurement { job_id: job.job_id, ..builders::accepted_measurement() }]);
    keep(directory, &table);
    measure(world, vec![job]).await;
}

/// Behind each, a release was waited for that could not come yet, for so long that this test would not end.
#[tokio::test(flavor = "multi_thread")]
async fn batches_that_are_too_few_for_a_release_follow_at_once() {
    let (world, directory, models) = measured().await;
    let mut settings = LearnerSettings { batch: 1, budget: BATCH, ..settings(directory.path()) };
    settings.constraints = Constraints { platform_max: [("cuda".to_owned(), 0)].into(), ..Constraints::default() };
    let mut lane = world.lane("jobs.cpu.low").await;
    let roster = Everybody::default();
    let learning = Box::pin(learn(&world.url, settings, models, &roster, world.stop.clone()));
    let working = async {
        for _ in 0..BATCH {
            measure_next(&world, directory.path(), &mut lane).await;
        }
    };
    let (learned, ()) = bounded(async { tokio::join!(learning, working) }).await;
    assert_eq!(learned.unwrap().runs.len(), BATCH);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_in_seconds_is_that_of_all_batches_together() {
    let (world, directory, models) = measured().await;
    let mut settings = LearnerSettings { batch: 1, budget: BATCH, ..settings(directory.path()) };
    (settings.search.batch_sizes, settings.search.sequence_lengths) = (vec![1, 2], vec![16]);
    let planned = all(&settings, &models);
    let on_cpu = planned.proposals.iter().filter(|of| of.configuration.platform == Platform::Cpu);
    let seconds: Vec<f64> = on_cpu.map(|of| of.expected_seconds).collect();
    let [one, other] = seconds[..] else { panic!("{planned:?}") };
    // Enough for either of the two, and not quite for both.
    let budget_seconds = Some(one + other - one.min(other) / 2.0);
    let platform_max = [("cuda".to_owned(), 0)].into();
    settings.constraints = Constraints { budget_seconds, platform_max, ..Constraints::default() };
    let mut lane = world.lane("jobs.cpu.low").await;
    let roster = Everybody::default();
    let learning = Box::pin(learn(&world.url, settings, models, &roster, world.stop.clone()));
    let working = async {
        for _ in 0..2 {
            measure_next(&world, directory.path(), &mut lane).await;
        }
    };
    let ended = async {
        tokio::select! {
            learned = learning => learned.unwrap(),
            () = working => panic!("the second batch had the whole budget again"),
        }
    };
    let LearnerReport { runs, jobs, measured, expected_seconds } = bounded(ended).await;
    assert_eq!((runs.len(), jobs, measured), (1, 1, 1));
    assert!(Some(expected_seconds) <= budget_seconds, "{expected_seconds} of {budget_seconds:?}");
}
