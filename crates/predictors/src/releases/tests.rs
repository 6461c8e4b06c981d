use std::sync::LazyLock;

use messages::Metric;

use super::*;
use crate::{
    Judged, Learner, Source, TrainSettings, Update, UpdateStrategy,
    synthetic::{measurements, subject, train},
};

static PREDICTORS: LazyLock<Predictors> = LazyLock::new(|| {
    let learner = Learner::GradientBoosting;
    let settings =
        TrainSettings { learner, rounds: 20, ensemble: 2, folds: 3, few_shot_below: 50, threads: 2, seed: 5 };
    train(&measurements(0..4), &settings).expect("trained")
});

fn created_at() -> Timestamp {
    Timestamp::from_micros(1_700_000_000_123_456)
}

fn of_jobs() -> Provenance {
    Provenance { source: Source::Jobs, jobs: KnownJobs::default(), update: None }
}

fn publish(releases: &Releases) -> Manifest {
    releases.publish(&PREDICTORS, of_jobs(), created_at(), "0.1.0").expect("published")
}

fn releases() -> (tempfile::TempDir, Releases) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let releases = Releases::open(&directory.path().join("releases")).expect("opened");
    (directory, releases)
}

/// Publishes a release, does something to one of its files, and gives the error of loading it.
fn damage(file: &str, harm: impl FnOnce(&Path)) -> PredictorError {
    let (_directory, releases) = releases();
    let release = publish(&releases).release_id;
    harm(&releases.directory.join(release.as_str()).join(file));
    releases.load(&release).expect_err("damaged")
}

fn edit(from: &str, to: &str) -> impl FnOnce(&Path) {
    let (from, to) = (from.to_owned(), to.to_owned());
    move |path| {
        let text = fs::read_to_string(path).expect("read");
        assert!(text.contains(&from), "`{from}` is in {text}");
        fs::write(path, text.replace(&from, &to)).expect("written");
    }
}

#[test]
fn a_loaded_release_predicts_what_the_trained_one_did() {
    let (_directory, releases) = releases();
    assert!(releases.current().expect("readable").is_none());
    let manifest = publish(&releases);
    let release = releases.current().expect("readable").expect("published");
    assert_eq!(release.manifest, manifest);
    let subjects = [subject(1, 3, 2), subject(9, 1, 1)];
    let trained = PREDICTORS.predict_subjects(&subjects).expect("described");
    assert_eq!(trained[0].metrics.len(), 3);
    assert_eq!(release.predictors.predict_subjects(&subjects).expect("described"), trained);
    assert_eq!((release.predictors.training_rows(), manifest.source, manifest.models), (48, Source::Jobs, 4));
}

#[test]
fn releases_count_up_and_name_their_parents() {
    let (_directory, releases) = releases();
    let (first, second) = (publish(&releases), publish(&releases));
    assert!(first.release_id.as_str().starts_with("r000001-"), "{}", first.release_id);
    assert!(second.release_id.as_str().starts_with("r000002-"), "{}", second.release_id);
    assert_eq!((first.parent.as_ref(), second.parent.as_ref()), (None, Some(&first.release_id)));
    assert_eq!(releases.current_id().expect("readable"), Some(second.release_id.clone()));
    releases.promote(&first.release_id).expect("promoted");
    assert_eq!(releases.current().expect("readable").expect("promoted").manifest.release_id, first.release_id);
    let third = publish(&releases);
    assert_eq!(third.parent, Some(first.release_id.clone()));
    let listed: Vec<_> =
        releases.list().expect("listed").into_iter().map(|of| of.expect("readable").release_id).collect();
    assert_eq!(listed, [first.release_id, second.release_id, third.release_id]);
}

#[test]
fn nothing_half_written_counts() {
    let (_directory, releases) = releases();
    let release = publish(&releases);
    // What a crash in the middle of publishing leaves.
    fs::create_dir(releases.directory.join(".tmp-r000002-00000000-1")).expect("made");
    fs::write(releases.directory.join("notes.txt"), "a stray file").expect("written");
    let listed: Vec<_> = releases.list().expect("listed").into_iter().map(|of| of.expect("readable")).collect();
    assert_eq!(listed, [release]);
    assert!(publish(&releases).release_id.as_str().starts_with("r000002-"));
    let names = fs::read_dir(&releases.directory).expect("listed").map(|entry| entry.expect("entry").file_name());
    let left: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with(".tmp-")).collect();
    assert_eq!(left, [".tmp-r000002-00000000-1"], "publishing leaves nothing of its own");
}

#[test]
fn a_failed_publication_changes_nothing() {
    let (_directory, releases) = releases();
    let release = publish(&releases);
    let taken = Manifest { release_id: release.release_id.clone(), ..release.clone() };
    let error = releases.write_release(&taken, &[("latency_ms.cbor".to_owned(), Vec::new())]).expect_err("taken");
    assert!(matches!(error, PredictorError::File { .. }), "{error}");
    assert_eq!(releases.current().expect("still whole").expect("published").manifest, release);
}

#[test]
fn the_news_of_a_release_has_one_evaluation_per_metric() {
    let (_directory, releases) = releases();
    let manifest = publish(&releases);
    let news = manifest.to_published();
    assert_eq!((news.release_id, news.training_rows), (manifest.release_id.clone(), 48));
    let metrics: Vec<_> = news.evaluation.iter().map(|evaluation| evaluation.metric).collect();
    assert_eq!(metrics, [Metric::LatencyMs, Metric::ThroughputItemsPerSecond, Metric::MemoryPeakMb]);
    let on_new_models = manifest.evaluation.iter().find(|found| found.grouping == crate::Grouping::Model);
    assert_eq!(Some(news.evaluation[0].mape_pct), on_new_models.map(|found| found.mape_pct));
}

#[test]
fn a_truncated_file_is_named() {
    let error = damage("latency_ms.cbor", |path| {
        let bytes = fs::read(path).expect("read");
        fs::write(path, &bytes[..bytes.len() / 2]).expect("truncated");
    });
    assert!(error.to_string().ends_with("is damaged: `latency_ms.cbor` is not what was published"), "{error}");
}

#[test]
fn a_missing_file_is_named() {
    let error = damage("memory_peak_mb.cbor", |path| fs::remove_file(path).expect("removed"));
    assert!(error.to_string().contains("is damaged: `memory_peak_mb.cbor` cannot be read"), "{error}");
}

#[test]
fn a_broken_manifest_is_an_error() {
    let error = damage("manifest.json", |path| fs::write(path, "{\"format_version\": 6, \"rel").expect("written"));
    assert!(matches!(error, PredictorError::Manifest { .. }), "{error}");
    let error = damage("manifest.json", edit("\"training_rows\"", "\"surprise\": 1, \"training_rows\""));
    assert!(error.to_string().contains("surprise"), "{error}");
    let error = damage("manifest.json", edit("\"release_id\": \"r000001", "\"release_id\": \"r000009"));
    assert!(error.to_string().contains("it says that it is `r000009"), "{error}");
}

#[test]
fn an_unknown_format_or_schema_is_an_error_with_both_sides() {
    let error = damage("manifest.json", edit("\"format_version\": 6", "\"format_version\": 5"));
    assert!(matches!(error, PredictorError::ManifestVersion { found: 5, supported: 6, .. }), "{error}");
    let schema = features::schema_id();
    let error = damage("manifest.json", edit(&schema, "0123456789abcdef"));
    let PredictorError::FeatureSchema { found, expected, .. } = error else { panic!("{error}") };
    assert_eq!((found.as_str(), expected), ("0123456789abcdef", schema));
}

#[test]
fn a_release_that_is_not_there_is_an_error() {
    let (_directory, releases) = releases();
    publish(&releases);
    for name in ["r000009-00000000", "..", "current"] {
        let error = releases.load(&ReleaseId::parse(name).expect("a name")).expect_err("not there");
        assert!(matches!(error, PredictorError::UnknownRelease { .. }), "{error}");
    }
    let current = releases.directory.join(CURRENT_FILE);
    fs::write(&current, "no such name!\n").expect("written");
    let error = releases.current().expect_err("nonsense");
    assert!(matches!(error, PredictorError::Current { .. }), "{error}");
}

#[test]
fn a_release_of_another_form_does_not_hide_the_others() {
    let (_directory, releases) = releases();
    let (old, new) = (publish(&releases), publish(&releases));
    let path = releases.directory.join(old.release_id.as_str()).join(MANIFEST_FILE);
    edit("\"format_version\": 6", "\"format_version\": 1")(&path);
    let listed = releases.list().expect("listed");
    let [Err(PredictorError::ManifestVersion { release, found: 1, .. }), Ok(found)] = &listed[..] else {
        panic!("{listed:?}")
    };
    assert_eq!((release, found), (&old.release_id, &new));
    let third = publish(&releases);
    assert_eq!(third.parent, Some(new.release_id));
}

#[test]
fn a_candidate_is_kept_with_its_reasons_and_the_current_release_stays() {
    let (_directory, releases) = releases();
    let current = publish(&releases).release_id;
    let judged = Judged {
        metric: Metric::LatencyMs,
        platform: "cpu".to_owned(),
        rows: 12,
        mape_pct: 12.0,
        current_mape_pct: 8.0,
        inside_pct: 75.0,
        is_worse: true,
    };
    let update = Update {
        strategy: UpdateStrategy::Incremental,
        reason: "errors are what was promised".to_owned(),
        table_rows: 60,
        whole_rows: 48,
        held_out: vec![messages::JobId::new()],
        judged: vec![judged],
        is_promoted: false,
    };
    let provenance = Provenance { update: Some(update.clone()), ..of_jobs() };
    let candidate = releases.publish(&PREDICTORS, provenance, created_at(), "0.1.0").expect("written").release_id;
    assert_eq!(releases.current_id().expect("readable"), Some(current.clone()));
    let kept = releases.manifest(&candidate).expect("readable");
    assert_eq!((kept.parent, kept.update), (Some(current), Some(update)));
    releases.promote(&candidate).expect("whoever knows better may");
    assert_eq!(releases.current_id().expect("readable"), Some(candidate));
}

#[test]
fn a_release_knows_its_jobs_also_where_its_features_are_of_another_schema() {
    let (_directory, releases) = releases();
    let ids = |count| std::iter::repeat_with(messages::JobId::new).take(count).collect();
    let jobs = KnownJobs { learned: ids(3), dropped: ids(2) };
    let provenance = Provenance { jobs: jobs.clone(), ..of_jobs() };
    let release = releases.publish(&PREDICTORS, provenance, created_at(), "0.1.0").expect("published").release_id;
    let directory = releases.directory.join(release.as_str());
    edit(&features::schema_id(), "0123456789abcdef")(&directory.join(MANIFEST_FILE));
    let manifest = releases.manifest(&release).expect("readable");
    assert_eq!(releases.known_jobs(&manifest).expect("whole"), jobs);
    fs::write(directory.join("jobs-dropped.bin"), [1; 15]).expect("written");
    let error = releases.known_jobs(&manifest).expect_err("damaged");
    assert!(error.to_string().contains("`jobs-dropped.bin` is not what was published"), "{error}");
}

#[test]
fn a_crash_before_a_release_became_the_current_one_is_made_good() {
    let (_directory, releases) = releases();
    let (first, second) = (publish(&releases).release_id, publish(&releases).release_id);
    let current = || releases.current_id().expect("readable");
    // What a crash leaves between the release's own rename and that of `current`.
    releases.begin_promotion(&second).expect("written");
    replace(&releases.directory.join(CURRENT_FILE), format!("{first}\n").as_bytes()).expect("written");
    releases.recover().expect("recovered");
    assert_eq!(current(), Some(second.clone()));
    // Whoever goes back since then is not overruled.
    assert_eq!(releases.rollback().expect("there is one before"), first);
    releases.recover().expect("nothing to do");
    assert_eq!(current(), Some(first.clone()));
    // The crash came before the release was whole.
    releases.begin_promotion(&ReleaseId::parse("r000003-00000000").expect("a name")).expect("written");
    releases.recover().expect("nothing to do");
    assert_eq!(current(), Some(first));
}

#[test]
fn old_temporary_files_are_removed_and_young_ones_may_be_someones() {
    let (_directory, releases) = releases();
    let names = [".tmp-r000001-00000000-1", ".tmp-current-1", ".tmp-r000002-00000000-2"];
    let paths = names.map(|name| releases.directory.join(name));
    fs::create_dir(&paths[0]).expect("made");
    fs::write(paths[0].join("latency_ms.cbor"), "half").expect("written");
    fs::write(&paths[1], "r00").expect("written");
    fs::create_dir(&paths[2]).expect("made");
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_hours(2);
    for path in &paths[..2] {
        fs::File::open(path).and_then(|file| file.set_modified(long_ago)).expect("changed");
    }
    releases.recover().expect("recovered");
    assert_eq!(paths.map(|path| path.exists()), [false, false, true]);
}
