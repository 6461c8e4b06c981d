//! Streams that retention cut before they were read.

use broker::{AmqpUrl, Outgoing, Patience, Publisher, Start, Subscription, apply};
use messages::{Job, JobId, JobResult, encode};
use nix::sys::signal::Signal;
use testkit::{AugurProcess, builders, shared_vhost};
use tokio_util::sync::CancellationToken;
use topology::{Observed, ServerVersion, Topology, names, plan};

use super::updater::publish_measurements;
use crate::support::{LIMIT, World, block_on};

/// A world whose `stream`, which keeps `usual` otherwise, keeps a hundred kilobytes, in segments of twenty.
fn with_short_lived(stream: &str, usual: &str) -> (World, AmqpUrl) {
    let vhost = shared_vhost().expect("a virtual host");
    let world = World::bare(&vhost.url(), Some(vhost));
    let url: AmqpUrl = world.url().parse().expect("a URL");
    let entry = format!("- name: {stream}\n    kind: stream");
    let (before, rest) = Topology::EMBEDDED_YAML.split_once(&entry).expect("it is there");
    let rest = rest.replacen(usual, "100 kB", 1).replacen("50 MB", "20 kB", 1);
    let topology = Topology::from_yaml(&format!("{before}{entry}{rest}")).expect("as good as the other");
    let steps = plan(&topology, &ServerVersion::OLDEST, &Observed::absent(&topology)).expect("a plan");
    block_on(apply(&url, &steps)).expect("declared");
    (world, url)
}

/// Waits until retention has taken what lies before this offset and at it.
fn cut_behind(url: &AmqpUrl, stream: &str, offset: u64) {
    block_on(async {
        let (stop, patience) = (CancellationToken::new(), Patience::For(LIMIT));
        let mut first = None;
        while first.is_none_or(|first| first <= offset) {
            let subscribed = Subscription::start(url, "test", stream, Start::StreamFirst, 1, patience, &stop).await;
            first = subscribed.expect("a broker").next().await.expect("a message").stream_offset();
        }
    });
}

fn stop(mut daemon: AugurProcess) {
    daemon.signal(Signal::SIGTERM).expect("sent");
    assert_eq!(daemon.wait(LIMIT).expect("an end").code(), Some(0), "{}", daemon.stderr());
}

fn publish_results(url: &AmqpUrl, count: usize) {
    block_on(async {
        let publisher = Publisher::start(url, "test", Patience::For(LIMIT), CancellationToken::new()).await;
        let publisher = publisher.expect("a broker");
        // One after the other: a segment ends between two writes, and many messages at once are one.
        for _ in 0..count {
            let job = Job { job_id: JobId::new(), ..builders::test_job() };
            let id = job.job_id.to_string();
            let result = JobResult { job, ..builders::test_result() };
            let outgoing = Outgoing::new(names::RESULTS, "", id, encode(&result).expect("small"));
            publisher.publish(outgoing).await.expect("stored");
        }
    });
}

#[test]
fn an_updater_whose_stream_was_cut_says_what_is_lost_and_learns_of_the_rest() {
    let (world, url) = with_short_lived(names::MEASUREMENTS, "10 GB");
    world.set("AUGUR_UPDATER__ROUNDS", "50");
    world.set("AUGUR_UPDATER__ENSEMBLE", "2");
    publish_measurements(&url, 1..=7);
    let mut updater = world.updater();
    updater.wait_for_line("release made", LIMIT).expect("of 28 measurements");
    stop(updater);
    publish_measurements(&url, 8..=60);
    cut_behind(&url, names::MEASUREMENTS, 28);

    let mut updater = world.updater();
    let warning = updater.wait_for_line("retention took measurements", LIMIT).expect("a warning");
    assert!(warning.contains("offsets_missing=") && warning.contains("augur predictor train --db"), "{warning}");
    updater.wait_for_line("release made", LIMIT).expect("of what is left");
}

#[test]
fn an_aggregator_whose_stream_was_cut_says_what_is_lost_and_how_it_comes_back() {
    let (world, url) = with_short_lived(names::RESULTS, "20 GB");
    let aggregator = world.aggregator();
    let _worker = world.worker("w1", &[]);
    world.complete(&world.submit("tests:\n  - {name: before, profile: noop}"));
    stop(aggregator);
    publish_results(&url, 600);
    // Beyond what the one job left there.
    cut_behind(&url, names::RESULTS, 20);

    let mut aggregator = world.aggregator();
    let warning = aggregator.wait_for_line("retention took results", LIMIT).expect("a warning");
    assert!(warning.contains("offsets_missing=") && warning.contains("augur result replay --archive"), "{warning}");
}

#[test]
fn an_export_whose_stream_was_cut_says_which_offsets_are_lost() {
    let (world, url) = with_short_lived(names::RESULTS, "20 GB");
    let export = || world.augur(&["result", "export", "--output", "history", "--format", "json"]);
    publish_results(&url, 1);
    let archived = export().json();
    assert!(archived["gap"].is_null(), "{archived:#}");
    let last = archived["last_offset"].as_u64().expect("an offset");
    publish_results(&url, 600);
    cut_behind(&url, names::RESULTS, last);

    let cut = export();
    let stderr = cut.stderr.clone();
    let cut = cut.json();
    let first = cut["gap"][1].as_u64().unwrap_or_else(|| panic!("no gap in {cut:#}"));
    assert!(cut["gap"][0] == last && first > last + 1, "archived until {last}: {cut:#}");
    let told = format!("what came between offsets {last} and {first} is not in the archive");
    assert!(stderr.contains(&told), "`{told}` is not in\n{stderr}");
}
