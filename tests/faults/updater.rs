//! An updater that dies or is told to end while it makes a release.

use std::ops::RangeInclusive;

use broker::{AmqpUrl, Outgoing, Patience, Publisher, Settlement, Start, Subscription};
use hardware::{DeviceLease, LeaseMode};
use messages::{Platform, ReleasePublished, encode};
use nix::sys::signal::Signal;
use pipeline::failpoint::{UPDATER_BEFORE_NEWS, UPDATER_BEFORE_RELEASE};
use serde_json::Value;
use testkit::builders;
use tokio_util::sync::CancellationToken;
use topology::names;

use crate::support::{LIMIT, World, block_on, text};

/// Publishes four measurements of each batch size.
pub(super) fn publish_measurements(url: &AmqpUrl, batch_sizes: RangeInclusive<u32>) {
    block_on(async {
        let publisher = Publisher::start(url, "test", Patience::For(LIMIT), CancellationToken::new()).await;
        let publisher = publisher.expect("a broker");
        for row in builders::batch_grid(batch_sizes, 1.0) {
            let outgoing = Outgoing::new(names::MEASUREMENTS, "", row.job_id.to_string(), encode(&row).expect("small"));
            publisher.publish(outgoing).await.expect("stored");
        }
    });
}

/// The first release that everyone was told of.
fn announced(url: &AmqpUrl) -> ReleasePublished {
    block_on(async {
        let (stop, patience) = (CancellationToken::new(), Patience::For(LIMIT));
        let subscribed =
            Subscription::start(url, "test", names::RELEASES, Start::StreamFirst, 1, patience, &stop).await;
        let delivery = subscribed.expect("a broker").next().await.expect("news");
        let release = delivery.decode().expect("decodes");
        delivery.settle(Settlement::Done).await.expect("settled");
        release
    })
}

/// Starts an updater that dies at this place, and gives the releases that it leaves.
fn releases_after_death(world: &World, failpoint: &str) -> Vec<Value> {
    world.set("AUGUR_TEST_FAILPOINT", &format!("{failpoint}:1"));
    let mut updater = world.spawn("updater", &["updater", "start"]);
    updater.wait_for_line("fail point: aborting", LIMIT).expect("it trains");
    assert!(!updater.wait(LIMIT).expect("an end").success());
    world.set("AUGUR_TEST_FAILPOINT", "");
    listed(world)
}

/// All releases, the oldest first.
fn listed(world: &World) -> Vec<Value> {
    world.augur(&["predictor", "list", "--format", "json"]).json().as_array().expect("a list").clone()
}

#[test]
fn an_updater_killed_in_training_makes_its_release_when_it_is_back_and_tells_of_it() {
    let world = World::new();
    world.set("AUGUR_UPDATER__ROUNDS", "50");
    world.set("AUGUR_UPDATER__ENSEMBLE", "2");
    world.set("AUGUR_UPDATER__ROWS_NEW_MIN", "28");
    let url: AmqpUrl = world.url().parse().expect("a URL");
    publish_measurements(&url, 1..=7);

    assert_eq!(releases_after_death(&world, UPDATER_BEFORE_RELEASE), [] as [Value; 0], "nothing half-made");
    // All measurements are taken in by now: nothing but the release that is missing calls for one.
    let releases = releases_after_death(&world, UPDATER_BEFORE_NEWS);
    let [release] = &releases[..] else { panic!("one release: {releases:#?}") };
    assert_eq!((&release["is_current"], &release["training_rows"]), (&Value::Bool(true), &Value::from(28)));

    let mut updater = world.updater();
    assert_eq!(announced(&url).release_id.as_str(), text(release, "release"));
    assert_eq!(listed(&world), releases, "no second one of the same rows");
    updater.signal(Signal::SIGTERM).expect("sent");
    assert_eq!(updater.wait(LIMIT).expect("an end").code(), Some(0), "{}", updater.stderr());

    publish_measurements(&url, 8..=14);
    assert_eq!(releases_after_death(&world, UPDATER_BEFORE_RELEASE), releases, "the one before is current and whole");
    world.augur(&["predictor", "show"]).expect(0);
    let mut updater = world.updater();
    updater.wait_for_line("release made", LIMIT).expect("the release that is missing");
    let after = listed(&world);
    let [before, made, ..] = &after[..] else { panic!("two releases: {after:#?}") };
    assert_eq!((text(before, "release"), text(made, "parent")), (text(release, "release"), text(release, "release")));
    assert!(made["update"]["strategy"].is_string(), "{made:#}");
}

/// It waited for up to ten minutes, deaf to the signal.
#[test]
fn an_updater_told_to_end_waits_for_no_benchmark() {
    let world = World::new();
    let leases = world.cache().join("leases");
    let benchmark = DeviceLease::try_now(&leases, Platform::Cpu, LeaseMode::Exclusive).expect("locking");
    assert!(benchmark.is_some(), "nobody else is there");
    publish_measurements(&world.url().parse().expect("a URL"), 1..=7);
    let mut updater = world.updater();
    updater.wait_for_line("training waits for the benchmarks of this machine", LIMIT).expect("it waits");
    updater.signal(Signal::SIGTERM).expect("sent");
    assert_eq!(updater.wait(LIMIT).expect("an end").code(), Some(0), "{}", updater.stderr());
    assert_eq!(world.augur(&["predictor", "list", "--format", "json"]).json(), Value::Array(Vec::new()));
}
