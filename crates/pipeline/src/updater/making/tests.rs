use std::{collections::HashSet, ops::RangeInclusive};

use features::{Subject, TrainingTable};
use graphs::ModelCache;
use planner::Constraints;
use testkit::builders;

use super::*;
use crate::{
    PlanRequest, Planned,
    learner::planning::tests::request,
    plan_next,
    updater::files::{Position, save_training},
};

/// Small boosters.
const TRAIN: TrainSettings = TrainSettings {
    learner: predictors::Learner::GradientBoosting,
    rounds: 60,
    ensemble: 2,
    folds: 3,
    few_shot_below: 0,
    threads: 1,
    seed: 1,
};

/// A releases directory whose updater makes releases only when it is told to.
struct World {
    directory: tempfile::TempDir,
    settings: UpdaterSettings,
    releases: Releases,
    /// The training table.
    rows: Vec<AcceptedMeasurement>,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let settings = UpdaterSettings {
            releases_directory: directory.path().join("releases"),
            lease_directory: directory.path().to_owned(),
            rows_new_min: 1,
            quiet: std::time::Duration::ZERO,
            strategy: None,
            train: TRAIN,
            version: "0.1.0".to_owned(),
            patience: broker::Patience::For(std::time::Duration::ZERO),
        };
        let releases = Releases::open(&settings.releases_directory).expect("opened");
        Self { directory, settings, releases, rows: Vec::new() }
    }

    /// Adds rows to the table and makes a release of it.
    fn update(&mut self, rows: impl IntoIterator<Item = AcceptedMeasurement>) -> (Manifest, Update) {
        self.rows.extend(rows);
        let made = make(&self.rows, &self.settings, &self.releases, &CancellationToken::new());
        let manifest = made.expect("made").expect("nobody says stop");
        let update = manifest.update.clone().expect("it is an update");
        (manifest, update)
    }

    fn jobs(&self, manifest: &Manifest) -> KnownJobs {
        self.releases.known_jobs(manifest).expect("whole")
    }

    /// Changes a file of the current release.
    fn damage(&self, file: &str, harm: impl FnOnce(String) -> String) {
        let release_id = self.releases.current_id().expect("readable").expect("there is one");
        let path = self.directory.path().join("releases").join(release_id.as_str()).join(file);
        std::fs::write(&path, harm(std::fs::read_to_string(&path).unwrap_or_default())).expect("written");
    }
}

fn on(platform: Platform, device: &str, mut rows: Vec<AcceptedMeasurement>) -> Vec<AcceptedMeasurement> {
    for row in &mut rows {
        row.configuration.platform = platform;
        device.clone_into(&mut row.device.name);
    }
    rows
}

/// The next whole training learned again from all that a window had left out, and took the change for a new one.
#[test]
fn what_an_update_dropped_stays_dropped() {
    let mut world = World::new();
    let (first, update) = world.update(builders::batch_grid((1..=39).step_by(2), 1.0));
    assert_eq!((update.strategy, first.training_rows), (UpdateStrategy::Full, 75), "{update:?}");
    let (second, update) = world.update(builders::batch_grid((1..=19).step_by(2), 1.5));
    assert_eq!((update.strategy, update.is_promoted), (UpdateStrategy::Window, true), "{update:?}");
    let old: BTreeSet<JobId> = world.rows[..80].iter().map(|row| row.job_id).collect();
    assert_eq!(world.jobs(&second).dropped, old);
    let (third, update) = world.update(builders::batch_grid((1..=19).step_by(2), 1.5));
    assert_eq!(update.strategy, UpdateStrategy::Full, "40 came, and 35 count: {update:?}");
    let jobs = world.jobs(&third);
    assert!(third.training_rows <= 80 && jobs.learned.is_disjoint(&old) && jobs.dropped == old, "{update:?}");
}

#[test]
fn a_weighted_update_learns_from_some_of_what_is_old_and_drops_the_rest_for_good() {
    let mut world = World::new();
    world.update(builders::batch_grid((1..=39).step_by(2), 1.0));
    world.settings.strategy = Some(UpdateStrategy::Weighted);
    let (second, update) = world.update(builders::batch_grid((1..=19).step_by(2), 1.5));
    assert_eq!(update.strategy, UpdateStrategy::Weighted, "{update:?}");
    assert!(update.reason.starts_with("the settings say so"), "{update:?}");
    let old: BTreeSet<JobId> = world.rows[..80].iter().map(|row| row.job_id).collect();
    let KnownJobs { learned, dropped } = world.jobs(&second);
    assert_eq!((second.training_rows, learned.len()), (update.whole_rows, update.whole_rows as usize), "{update:?}");
    let kept = &learned & &old;
    assert!(kept.is_disjoint(&dropped) && &kept | &dropped == old, "{} kept, {} dropped", kept.len(), dropped.len());
    // Chances are 1/4 to 5/8, so about 34.
    assert!((10..60).contains(&kept.len()) && learned.len() > kept.len(), "{} of {}", kept.len(), learned.len());
}

/// A platform of which little was new had no judge, and what was learned from the beginning was promoted however bad it was
/// there.
#[test]
fn a_platform_of_which_nothing_is_new_is_judged_by_rows_that_were_spared() {
    let mut world = World::new();
    let odd = || builders::batch_grid((1..=39).step_by(2), 1.0);
    let (first, update) = world.update([odd(), on(Platform::Wasm, "EPYC", odd())].concat());
    assert_eq!((first.training_rows, update.held_out.len()), (150, 10), "five of each: {update:?}");
    // Two trees learn hardly anything.
    (world.settings.strategy, world.settings.train.rounds) = (Some(UpdateStrategy::Full), 2);
    let (_, update) = world.update(builders::batch_grid((2..=40).step_by(4), 1.0));
    let of = |platform: Platform| update.judged.iter().find(|judged| judged.platform == platform.as_str());
    assert!(of(Platform::Cpu).is_some(), "{update:?}");
    assert!(of(Platform::Wasm).is_some_and(|judged| judged.is_worse && judged.rows >= 5), "{update:?}");
    assert!(!update.is_promoted && update.reason.contains("on wasm"), "{update:?}");
    assert_eq!(world.releases.current_id().expect("readable"), Some(first.release_id));
}

/// Of 12 new rows 5 were held back, a sixth of all that there was.
#[test]
fn a_small_table_is_learned_whole_and_judged_by_what_stands_in_for_its_release() {
    let mut world = World::new();
    world.update(builders::batch_grid(1..=5, 1.0));
    let (second, update) = world.update(builders::batch_grid(6..=8, 1.0));
    assert_eq!((update.strategy, second.training_rows), (UpdateStrategy::Full, 32), "{update:?}");
    assert!(update.held_out.is_empty() && update.judged.iter().all(|judged| judged.rows == 12), "{update:?}");
    assert!(update.is_promoted && !update.judged.is_empty(), "{update:?}");
    // As few as a learner's batch of which some were disturbed.
    let (third, update) = world.update(builders::batch_grid([12, 13], 1.0));
    assert_eq!((update.strategy, third.training_rows), (UpdateStrategy::Full, 40), "{update:?}");
    // Two trees learn hardly anything.
    world.settings.train.rounds = 2;
    world.settings.strategy = Some(UpdateStrategy::Full);
    let (_, update) = world.update(builders::batch_grid([9, 10], 1.0));
    assert!(!update.is_promoted && update.reason.contains("not promoted"), "{update:?}");
}

#[test]
fn after_the_stop_nothing_is_released() {
    let world = World::new();
    let stop = CancellationToken::new();
    stop.cancel();
    let made = make(&builders::batch_grid(1..=10, 1.0), &world.settings, &world.releases, &stop);
    assert!(made.expect("learned").is_none() && world.releases.list().expect("readable").is_empty());
}

/// It counted from the number of rows that it had had, and was silent for as many.
#[test]
fn an_updater_that_lost_its_table_counts_from_what_is_there() {
    let mut world = World::new();
    world.update(builders::batch_grid(1..=20, 1.0));
    let rows_trained = |rows| super::super::found(&world.releases, rows).expect("readable").0.rows_trained();
    assert_eq!([rows_trained(100), rows_trained(80), rows_trained(30)], [80, 80, 30]);
}

/// The rows of a new table that lie where the old one's had been learned were taken for them, and left out for ever.
#[test]
fn what_is_new_in_a_table_that_is_shorter_than_the_last_is_learned_where_a_device_has_changed() {
    let mut world = World::new();
    world.update(builders::batch_grid((1..=39).step_by(2), 1.0));
    world.rows.drain(..40);
    let (second, update) = world.update(builders::batch_grid((21..=39).step_by(2), 1.5).into_iter().take(30));
    let dropped = world.jobs(&second).dropped;
    assert!(world.rows[40..].iter().all(|row| !dropped.contains(&row.job_id)), "{update:?}");
}

#[test]
fn a_release_of_no_use_is_replaced_and_says_why() {
    let mut world = World::new();
    world.update(builders::batch_grid((1..=39).step_by(2), 1.0));
    let (second, _) = world.update(builders::batch_grid((1..=19).step_by(2), 1.5));
    world.damage("manifest.json", |text| text.replace(&second.feature_schema, "0123456789abcdef"));
    let (third, update) = world.update([]);
    assert_eq!((update.strategy, update.is_promoted), (UpdateStrategy::Full, true), "{update:?}");
    assert!(update.reason.contains("was trained on feature schema 0123456789abcdef"), "{update:?}");
    assert_eq!((third.training_rows, world.jobs(&third).dropped.len()), (40, 80), "what was dropped stays so");
    world.damage("latency_ms.cbor", |_| String::new());
    let (_, update) = world.update([]);
    assert!(update.reason.contains("`latency_ms.cbor` is not what was published"), "{update:?}");
    world.damage("../current", |_| "no such name!".to_owned());
    let (fifth, update) = world.update([]);
    assert!(update.is_promoted && update.reason.contains("names no release"), "{update:?}");
    assert_eq!(world.releases.current_id().expect("readable"), Some(fifth.release_id));
}

/// A release of tables lost their devices, or was never replaced because jobs do not measure all that tables have.
#[test]
fn a_release_of_tables_learns_more_and_keeps_what_they_say() {
    let mut world = World::new();
    let elsewhere = on(Platform::Cuda, "H200", builders::batch_grid((1..=39).step_by(2), 0.1));
    let predictors = learn(&elsewhere, &TRAIN).expect("learned");
    let of_tables = Provenance { source: Source::Tables, jobs: KnownJobs::default(), update: None };
    world.releases.publish(&predictors, of_tables, Timestamp::now(), "0.1.0").expect("published");
    let of_tables = world.releases.current().expect("whole").expect("published");
    let (next, update) = world.update(builders::batch_grid((1..=39).step_by(2), 1.0));
    assert_eq!((update.strategy, next.source), (UpdateStrategy::Incremental, Source::Tables), "{update:?}");
    let release = world.releases.load(&next.release_id).expect("loaded").predictors;
    assert_eq!(release.platforms(), ["cpu", "cuda"]);
    assert!(release.devices().any(|device| device == "H200") && release.devices().count() == 2);
    assert_eq!(world.jobs(&next).learned.len(), 80 - update.held_out.len());
    // Without a sample of the tables' rows everything was taken for as slow as this machine is.
    let elsewhere = tables(&elsewhere);
    let error_pct = |predictors: &Predictors| {
        let misses = predictors.hold_against(&elsewhere).expect("described");
        misses.iter().map(predictors::Miss::error_pct).sum::<f64>() / misses.len() as f64
    };
    let (before, after) = (error_pct(&of_tables.predictors), error_pct(&release));
    assert!(after < before + 3.0, "{after} after {before}");

    for size in (2..).step_by(2).take(AMENDMENTS_MAX) {
        world.update(builders::batch_grid([size], 1.0));
    }
    let current = world.releases.current().expect("whole").expect("published").predictors;
    assert_eq!((current.amendments(), current.platforms().len()), (1, 2), "it begins anew from the tables' release");

    world.settings.strategy = Some(UpdateStrategy::Full);
    let (_, update) = world.update([]);
    assert!(!update.is_promoted, "{update:?}");
    assert!(update.reason.contains("it knows nothing of cuda, H200, as the current release does"), "{update:?}");
}

#[test]
fn a_release_that_loses_a_platform_is_a_candidate() {
    let mut world = World::new();
    let web = on(Platform::Wasm, "EPYC", builders::batch_grid((1..=9).step_by(2), 3.0));
    world.update([builders::batch_grid((1..=39).step_by(2), 1.0), web].concat());
    let both = Current::load(&world.releases).expect("loaded").expect("there is one").release.predictors;
    let native = learn(&world.rows[..80], &TRAIN).expect("learned");
    let found = lost(&native, &both, Source::Jobs);
    assert_eq!(found.as_deref(), Some("it knows nothing of wasm, as the current release does"));
    assert_eq!(lost(&both, &native, Source::Jobs), None);
}

/// What a weighted update keeps of old rows, by the number of new ones.
fn weighted(rows: &[AcceptedMeasurement], seen: &[&AcceptedMeasurement], new: usize) -> HashSet<JobId> {
    let evidence = Evidence::default();
    Old { rows, seen, judges: &[], evidence: &evidence }.weighted(new).into_iter().map(|row| row.job_id).collect()
}

#[test]
fn the_older_a_row_is_the_likelier_it_is_left_out_and_never_to_come_back() {
    let row = |_| AcceptedMeasurement { job_id: JobId::new(), ..builders::accepted_measurement() };
    let rows: Vec<_> = (0..1_200).map(row).collect();
    let seen: Vec<_> = rows.iter().collect();
    let kept = weighted(&rows[..1_000], &seen[..1_000], 100);
    let old = rows[..500].iter().filter(|row| kept.contains(&row.job_id)).count();
    // Chances are 1/4 to 1/2 for the older half, 1/2 to 1 for the newer one.
    assert!((120..240).contains(&old) && (300..430).contains(&(kept.len() - old)), "{old} of {}", kept.len());
    let later = weighted(&rows, &seen, 100);
    assert!(rows[..1_000].iter().all(|row| !later.contains(&row.job_id) || kept.contains(&row.job_id)));
}

#[test]
fn only_where_errors_have_grown_rows_are_left_out() {
    let rows =
        [builders::batch_grid(1..=20, 1.0), on(Platform::Wasm, "EPYC", builders::batch_grid(1..=20, 3.0))].concat();
    let seen: Vec<_> = rows.iter().collect();
    let evidence = Evidence::drifted(Platform::Wasm);
    let kept = Old { rows: &rows, seen: &seen, judges: &[], evidence: &evidence }.weighted(10);
    let count = |platform| kept.iter().filter(|row| row.configuration.platform == platform).count();
    assert!(count(Platform::Cpu) == 80 && count(Platform::Wasm) < 80, "{}", kept.len());
}

#[test]
fn only_what_is_not_worse_anywhere_is_promoted() {
    let judged = |platform: &str, is_worse| Judged {
        metric: Metric::LatencyMs,
        platform: platform.to_owned(),
        rows: 12,
        mape_pct: 12.0,
        current_mape_pct: 8.0,
        inside_pct: 75.0,
        is_worse,
    };
    let made = || update(Choice { strategy: UpdateStrategy::Full, reason: "new devices: X".to_owned() }, 100, 88);
    let latency = || BTreeSet::from([Metric::LatencyMs]);
    let places = BTreeMap::from([(Platform::Cpu, latency()), (Platform::Wasm, latency())]);
    let decide = |judged, lost| decided(made(), judged, &places, lost);
    let good = decide(vec![judged("cpu", false), judged("wasm", false)], None);
    assert!(good.is_promoted && good.reason == "new devices: X", "{good:?}");
    let bad = decide(vec![judged("cpu", false), judged("wasm", true)], None);
    assert!(!bad.is_promoted, "{bad:?}");
    assert!(bad.reason.ends_with("latency_ms on wasm, 12.0 % after 8.0 % on 12 rows"), "{bad:?}");
    let poorer = decide(vec![judged("cpu", false)], Some("it knows nothing of memory_peak_mb".to_owned()));
    assert!(!poorer.is_promoted && poorer.reason.ends_with("knows nothing of memory_peak_mb"), "{poorer:?}");
    let few = decide(vec![judged("cpu", false), Judged { rows: 4, ..judged("wasm", false) }], None);
    assert!(few.is_promoted && few.reason.ends_with("too few new rows to judge it on wasm"), "{few:?}");

    // Of memory and power there were rows before; none of power is new, and too few of memory.
    let most = BTreeSet::from([Metric::LatencyMs, Metric::MemoryPeakMb, Metric::PowerW]);
    let places = BTreeMap::from([(Platform::Cpu, most.clone()), (Platform::Wasm, most)]);
    let memory = Judged { metric: Metric::MemoryPeakMb, rows: 4, ..judged("cpu", false) };
    let part = decided(made(), vec![judged("cpu", false), memory], &places, None);
    let expected = "new devices: X; too few new rows to judge it in memory_peak_mb and power_w on cpu, on wasm";
    assert!(part.is_promoted && part.reason == expected, "{part:?}");
}

/// It was promoted without a word about the metric that no row had judged.
#[test]
fn a_metric_that_nothing_new_was_measured_of_is_named_as_not_judged() {
    let with_memory = |mut row: AcceptedMeasurement| {
        row.memory_peak_mb = Some(300.0 + f64::from(row.configuration.batch_size));
        row
    };
    let mut world = World::new();
    world.update(builders::batch_grid(1..=10, 1.0).into_iter().map(with_memory));
    world.settings.strategy = Some(UpdateStrategy::Incremental);
    let (next, update) = world.update(builders::batch_grid(11..=20, 1.5));
    assert!(next.metrics.contains(&Metric::MemoryPeakMb) && update.is_promoted, "{update:?}");
    let expected = "the settings say so; too few new rows to judge it in memory_peak_mb on cpu";
    assert_eq!(update.reason, expected, "nothing of power, which nobody measured: {update:?}");
}

/// Few machines tell what power they draw.
#[test]
fn power_is_predicted_where_jobs_measured_it_and_nowhere_else() {
    let predicted = |measured: RangeInclusive<u32>| {
        let with_power = |mut row: AcceptedMeasurement| {
            let threads = f64::from(row.configuration.threads);
            row.power_w = measured.contains(&row.configuration.batch_size).then_some(100.0 + 5.0 * threads);
            row
        };
        let mut world = World::new();
        let (manifest, _) = world.update(builders::batch_grid(1..=10, 1.0).into_iter().map(with_power));
        let predictors = world.releases.current().expect("whole").expect("published").predictors;
        let answers = predictors.predict_subjects(&[Subject::from(&world.rows[0])]).expect("described");
        (manifest, answers[0].metric(Metric::PowerW).copied())
    };
    let (manifest, power) = predicted(1..=6);
    let power = power.expect("predicted");
    assert!(power.lower <= power.value && power.value <= power.upper, "{power:?}");
    assert!((90.0..135.0).contains(&power.value), "all were between 105 and 120 W: {power:?}");
    let tested = manifest.evaluation.iter().filter(|of| of.metric == Metric::PowerW);
    assert!(matches!(tested.map(|of| of.rows).max(), Some(1..=24)), "only what was measured: {manifest:?}");
    let (manifest, power) = predicted(0..=0);
    assert!(power.is_none() && !manifest.metrics.contains(&Metric::PowerW), "{power:?}");
}

/// What is proposed next for the devices of a world.
fn planned(world: &World) -> Planned {
    let directory = &world.settings.releases_directory;
    let mut table = TrainingTable::empty();
    table.append(&world.rows);
    save_training(directory, &table, &Position { next_offset: 1, last_message: None }).expect("saved");
    let request = PlanRequest {
        count: 4,
        constraints: Constraints { model_max: Some(4), ..Constraints::default() },
        ..request()
    };
    let models = ModelCache::open(&world.directory.path().join("models")).expect("opened");
    plan_next(directory, &request, &models).expect("planned")
}

#[test]
fn an_update_that_learned_nothing_of_chaos_on_a_platform_leads_the_learner_there() {
    let on_gpu = |mut rows: Vec<AcceptedMeasurement>| {
        for row in &mut rows {
            row.device.platform = Platform::Cuda;
        }
        on(Platform::Cuda, "GPU", rows)
    };
    let mut world = World::new();
    let odd = || builders::batch_grid((1..=19).step_by(2), 1.0);
    world.update([odd(), on_gpu(odd())].concat());
    let before = planned(&world);
    assert_eq!((before.asked_for.len(), before.proposals.len()), (0, 4), "two for each device");
    // What learns more keeps its intervals, which are narrow.
    world.settings.strategy = Some(UpdateStrategy::Incremental);
    let mut random = fastrand::Rng::with_seed(1);
    let mut chaos = on_gpu(builders::batch_grid((2..=18).step_by(2), 1.0));
    for row in &mut chaos {
        row.latency_ms *= 100_f64.powf(random.f64());
    }
    let (_, update) = world.update(chaos);
    assert_eq!(update.astray().collect::<Vec<_>>(), ["cuda"], "{update:?}");
    let planned = planned(&world);
    assert_eq!((&planned.asked_for[..], planned.proposals.len()), (&[Platform::Cuda][..], 2));
    assert!(planned.proposals.iter().all(|proposal| proposal.device == "GPU"), "{:?}", planned.proposals);
}

#[test]
fn a_release_is_judged_in_what_was_measured_on_each_platform() {
    let mut rows =
        [builders::batch_grid([1], 1.0), on(Platform::Wasm, "EPYC", builders::batch_grid([1], 3.0))].concat();
    rows[2].memory_peak_mb = Some(300.0);
    let seen: Vec<_> = rows.iter().collect();
    let of = |metrics: &[Metric]| predicted_there(&seen, metrics);
    let (latency, memory) = (Metric::LatencyMs, Metric::MemoryPeakMb);
    let both = BTreeSet::from([latency, memory]);
    let expected = BTreeMap::from([(Platform::Cpu, both), (Platform::Wasm, BTreeSet::from([latency]))]);
    assert_eq!(of(&[latency, memory, Metric::PowerW]), expected);
    assert_eq!(of(&[memory])[&Platform::Wasm], BTreeSet::new(), "still a platform");
}
