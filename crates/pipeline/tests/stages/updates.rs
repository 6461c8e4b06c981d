//! The model-update stage over the real stream: releases follow measurements, each learned in the way that they call for.

use std::path::Path;

use broker::{Outgoing, Settlement, Start, Subscription};
use futures_util::future::join_all;
use messages::{AcceptedMeasurement, ReleasePublished, encode};
use pipeline::{PipelineError, UpdaterSettings, update};
use predictors::{Learner, Manifest, Releases, TrainSettings, Update, UpdateStrategy};
use testkit::builders;
use tokio::task::JoinHandle;
use topology::names;

use crate::support::{PATIENCE, World};

/// Small boosters.
const TRAIN: TrainSettings = TrainSettings {
    learner: Learner::GradientBoosting,
    rounds: 150,
    ensemble: 2,
    folds: 3,
    few_shot_below: 0,
    threads: 1,
    seed: 1,
};

/// How long a release may take: training, nine times as long for its rest, and training again.
const RELEASE_MAX: std::time::Duration = std::time::Duration::from_mins(3);

/// Rows of the first release.
const ROWS_FIRST: usize = 80;

/// An updater, and the news of its releases.
struct Updating {
    world: World,
    directory: tempfile::TempDir,
    news: Subscription,
    updater: JoinHandle<Result<(), PipelineError>>,
}

impl Updating {
    async fn new() -> Self {
        let world = World::new().await;
        let directory = tempfile::tempdir().unwrap();
        let start = Start::StreamFirst;
        let news = Subscription::start(&world.url, "test", names::RELEASES, start, 1, PATIENCE, &world.stop);
        let news = news.await.unwrap();
        let settings = UpdaterSettings {
            releases_directory: directory.path().join("releases"),
            lease_directory: directory.path().to_owned(),
            // The first release is of all rows that are fed first, however they arrive.
            rows_new_min: ROWS_FIRST,
            // Nothing comes of waiting: what makes a release is that there are enough rows, or drift.
            quiet: std::time::Duration::from_mins(10),
            strategy: None,
            train: TRAIN,
            version: "0.1.0".to_owned(),
            patience: PATIENCE,
        };
        let (url, stop) = (world.url.clone(), world.stop.clone());
        let updater = tokio::spawn(async move { update(&url, settings, stop).await });
        Self { world, directory, news, updater }
    }

    /// Feeds measurements, and gives the release that comes of them.
    async fn release_of(&mut self, rows: Vec<AcceptedMeasurement>) -> Manifest {
        join_all(rows.iter().map(|row| {
            let outgoing = Outgoing::new(names::MEASUREMENTS, "", row.job_id.to_string(), encode(row).unwrap());
            self.world.publish(outgoing)
        }))
        .await;
        let Ok(delivery) = tokio::time::timeout(RELEASE_MAX, self.news.next()).await else {
            panic!(
                "no release was promoted: {:#?}",
                releases(self.directory.path()).list().map(|all| {
                    all.into_iter().map(|manifest| manifest.map(|manifest| manifest.update)).collect::<Vec<_>>()
                })
            );
        };
        let delivery = delivery.unwrap();
        let published: ReleasePublished = delivery.decode().unwrap();
        delivery.settle(Settlement::Done).await.unwrap();
        let releases = releases(self.directory.path());
        assert_eq!(releases.current_id().unwrap().as_ref(), Some(&published.release_id));
        releases.manifest(&published.release_id).unwrap()
    }
}

fn releases(directory: &Path) -> Releases {
    Releases::open(&directory.join("releases")).unwrap()
}

fn strategy(manifest: &Manifest) -> (UpdateStrategy, &Update) {
    let update = manifest.update.as_ref().unwrap();
    (update.strategy, update)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_learns_in_the_way_that_the_new_measurements_call_for() {
    let mut updating = Updating::new().await;
    let first = updating.release_of(builders::batch_grid((1..=39).step_by(2), 1.0)).await;
    let (how, update) = strategy(&first);
    assert_eq!((how, update.table_rows as usize), (UpdateStrategy::Full, ROWS_FIRST), "{update:?}");
    assert_eq!((first.training_rows as usize, update.held_out.len()), (ROWS_FIRST - 5, 5), "{update:?}");

    // Half as slow again as it was before: what is older no longer counts. So few rows would wait for most of an hour, had
    // predictions not drifted.
    let second = updating.release_of(builders::batch_grid((1..=19).step_by(2), 1.5)).await;
    let (how, update) = strategy(&second);
    assert_eq!(how, UpdateStrategy::Window, "{update:?}");
    assert!(update.reason.contains("by +50 %"), "{update:?}");
    assert_eq!(second.training_rows, update.whole_rows, "{update:?}");
    assert!(second.training_rows <= 40 - 5, "none of the rows before counts: {update:?}");
    assert_eq!((&second.parent, update.judged.len()), (&Some(first.release_id), 1), "{update:?}");
    let judged = &update.judged[0];
    assert!(judged.mape_pct < judged.current_mape_pct / 2.0, "{update:?}");

    updating.world.stop.cancel();
    updating.updater.await.unwrap().unwrap();
}
