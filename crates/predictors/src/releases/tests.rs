use std::sync::LazyLock;

use messages::Metric;

use super::*;
use crate::{
    Judged, Learner, TrainSettings, UpdateStrategy,
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

fn publish(releases: &Releases) -> Manifest {
    releases.publish(&PREDICTORS, Source::Jobs, created_at(), "0.1.0").expect("published")
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
    let error = damage("manifest.json", |path| fs::write(path, "{\"format_version\": 5, \"rel").expect("written"));
    assert!(matches!(error, PredictorError::Manifest { .. }), "{error}");
    let error = damage("manifest.json", edit("\"training_rows\"", "\"surprise\": 1, \"training_rows\""));
    assert!(error.to_string().contains("surprise"), "{error}");
    let error = damage("manifest.json", edit("\"release_id\": \"r000001", "\"release_id\": \"r000009"));
    assert!(error.to_string().contains("it says that it is `r000009"), "{error}");
}

#[test]
fn an_unknown_format_or_schema_is_an_error_with_both_sides() {
    let error = damage("manifest.json", edit("\"format_version\": 5", "\"format_version\": 4"));
    assert!(matches!(error, PredictorError::ManifestVersion { found: 4, supported: 5, .. }), "{error}");
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
    edit("\"format_version\": 5", "\"format_version\": 1")(&path);
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
    let made = releases.publish_update(&PREDICTORS, Source::Jobs, created_at(), "0.1.0", Some(update.clone()));
    let candidate = made.expect("written").release_id;
    assert_eq!(releases.current_id().expect("readable"), Some(current.clone()));
    let kept = releases.manifest(&candidate).expect("readable");
    assert_eq!((kept.parent, kept.update), (Some(current), Some(update)));
    releases.promote(&candidate).expect("whoever knows better may");
    assert_eq!(releases.current_id().expect("readable"), Some(candidate));
}
