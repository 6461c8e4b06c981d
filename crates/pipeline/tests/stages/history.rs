//! The history is the same from the stream and from its archive, from wherever it is read.

use std::time::Duration;

use broker::{Outgoing, Start, Subscription};
use messages::{Encoded, Timestamp};
use pipeline::{
    PipelineError, ReplayFrom, ReplayRange, ReplayUntil, export_results, read_archived_results, read_results,
    replay_archive_into, replay_into,
};
use store::{Record, Store};
use testkit::builders;
use topology::{ArgumentValue, Topology, names};

use crate::support::{PATIENCE, World, bounded, garbage, result};

const ALL: ReplayRange = ReplayRange::from(ReplayFrom::First);

/// Offsets of the records of a range.
async fn offsets(world: &World, range: ReplayRange) -> Vec<u64> {
    let mut offsets = Vec::new();
    let take = |offset, _: Record| {
        offsets.push(offset);
        Ok(())
    };
    read_results(&world.url, range, &world.stop, take).await.unwrap();
    offsets
}

/// `queues.yaml`, but for a result stream that keeps a hundred kilobytes, in segments of forty.
fn short_lived() -> Topology {
    let mut topology = Topology::embedded().unwrap();
    let results = topology.queues.iter_mut().find(|queue| queue.name == names::RESULTS).unwrap();
    for (argument, bytes) in [("x-max-length-bytes", 100_000), ("x-stream-max-segment-size-bytes", 40_000)] {
        results.arguments.insert(argument.to_owned(), ArgumentValue::Int(bytes)).unwrap();
    }
    topology
}

/// Waits until retention has taken the result at this offset.
async fn cut_behind(world: &World, offset: u64) {
    let mut first = 0;
    while first <= offset {
        let from_first =
            Subscription::start(&world.url, "test", names::RESULTS, Start::StreamFirst, 1, PATIENCE, &world.stop);
        first = from_first.await.unwrap().next().await.unwrap().stream_offset().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_replays_as_the_stream_does() {
    bounded(async {
        let world = World::new().await;
        world.record("run", &builders::run_submitted()).await;
        world.record("1", &result(1)).await;
        world.publish(Outgoing::new(names::RESULTS, "", "garbage", garbage())).await;
        let directory = tempfile::tempdir().unwrap();
        let archive = directory.path().join("archive");
        let export = || async { export_results(&world.url, &archive, None, &world.stop, |_| {}).await.unwrap() };
        let first = export().await;
        assert_eq!((first.messages, first.files.len()), (3, 1));
        assert_eq!(export().await.messages, 0, "what is archived was archived again");
        world.record("2", &result(2)).await;
        world.record("2 again", &result(2)).await;
        let second = export().await;
        assert_eq!((second.messages, second.first_offset > first.last_offset), (2, true));

        let (from_stream, from_archive) = (Store::in_memory().unwrap(), Store::in_memory().unwrap());
        let streamed = replay_into(&world.url, ALL, &from_stream, &world.stop, |_| {}).await.unwrap();
        let archived = replay_archive_into(&archive, ALL, &from_archive, &world.stop, |_| {}).unwrap();
        assert_eq!(streamed, archived);
        assert_eq!((streamed.messages, streamed.results, streamed.undecodable, streamed.results_new), (5, 3, 1, 2));
        assert_eq!(from_stream.digest().unwrap(), from_archive.digest().unwrap());
        let again = replay_archive_into(&archive, ALL, &from_stream, &world.stop, |_| {}).unwrap();
        assert_eq!(again.results_new, 0);

        let all = offsets(&world, ALL).await;
        let until = Some(ReplayUntil::Offset(all[2]));
        let middle = ReplayRange { until, ..ReplayRange::from(ReplayFrom::Offset(all[1])) };
        assert_eq!(offsets(&world, middle).await, all[1..=2]);
        // A range that ends needs no end of the stream, also when what comes is followed.
        assert_eq!(offsets(&world, ReplayRange { follow: true, ..middle }).await, all[1..=2]);
        let mut archived = Vec::new();
        read_archived_results(&archive, middle, &world.stop, |offset, _| {
            archived.push(offset);
            Ok(())
        })
        .unwrap();
        assert_eq!(archived, all[1..=2]);
        let last = ReplayRange::from(ReplayFrom::Last);
        assert_eq!(offsets(&world, last).await, all[3..]);
        // The broker would wait for the first message from then on.
        let in_an_hour = u64::try_from(Timestamp::now().as_seconds()).unwrap() + 3_600;
        assert!(offsets(&world, ReplayRange::from(ReplayFrom::Timestamp(in_an_hour))).await.is_empty());
        assert_eq!(offsets(&world, ReplayRange::from(ReplayFrom::ago(Duration::from_hours(1)))).await, all);
        let long_ago = ReplayRange { until: Some(ReplayUntil::Timestamp(1)), ..ALL };
        assert!(offsets(&world, long_ago).await.is_empty());
        assert!(
            offsets(&world, ReplayRange { follow: true, ..long_ago }).await.is_empty(),
            "and nothing is waited for"
        );
        assert_eq!(offsets(&world, ReplayRange::from(ReplayFrom::Timestamp(1))).await, all);
    })
    .await;
}

/// It went on behind the archive's last offset, and left out what the new stream had before.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_a_stream_that_was_declared_anew_is_left_alone() {
    bounded(async {
        let world = World::new().await;
        for number in 1..=3 {
            world.record(&number.to_string(), &result(number)).await;
        }
        let directory = tempfile::tempdir().unwrap();
        let export = || export_results(&world.url, directory.path(), None, &world.stop, |_| {});
        assert_eq!(export().await.unwrap().messages, 3);

        let other = World::new().await;
        let export = || export_results(&other.url, directory.path(), None, &other.stop, |_| {});
        for (number, found) in
            [(4, "has nothing there"), (5, "has nothing there"), (6, "has 2:6 there"), (7, "has 2:6 there")]
        {
            other.record(&number.to_string(), &result(number)).await;
            let refused = export().await.unwrap_err();
            assert!(matches!(refused, PipelineError::OtherStream { .. }), "{refused}");
            assert!(refused.to_string().contains(found), "{refused}");
        }
        let from_offset = export_results(&other.url, directory.path(), Some(1), &other.stop, |_| {}).await;
        assert_eq!(from_offset.unwrap().messages, 3, "who says where to begin is not asked");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_retention_was_faster_than_says_what_is_missing_and_goes_on_behind_it() {
    /// Three fill a segment.
    const LARGE_BYTES: usize = 15_000;
    /// Several times what the stream keeps.
    const LARGE: usize = 20;
    bounded(async {
        let world = World::with(&short_lived()).await;
        let directory = tempfile::tempdir().unwrap();
        let export =
            || async { export_results(&world.url, directory.path(), None, &world.stop, |_| {}).await.unwrap() };
        world.record("1", &result(1)).await;
        let before = export().await;
        assert_eq!((before.messages, before.gap), (1, None));
        let archived = before.last_offset.unwrap();

        // One after the other: many messages at once are written as one, and retention takes whole segments.
        for number in 0..LARGE {
            let large = Encoded { body: vec![0; LARGE_BYTES], ..garbage() };
            world.publish(Outgoing::new(names::RESULTS, "", format!("large {number}"), large)).await;
        }
        // Small, so that it fills no segment: RabbitMQ shows no end of a stream whose last segment is empty.
        world.record("2", &result(2)).await;
        cut_behind(&world, archived).await;
        let behind = export().await;
        let (last, first) = behind.gap.expect("retention was faster");
        assert!(last == archived && first > last + 1, "a gap from {last} to {first}, archived until {archived}");
        assert!((1..=LARGE).contains(&behind.messages), "{behind:?}");
        // Retention may have gone on between the look at the stream and its reading.
        assert!(behind.first_offset >= Some(first), "{behind:?}");
        let again = export().await;
        assert_eq!((again.messages, again.gap), (0, None), "it is said once");
        let (store, replayed) = (Store::in_memory().unwrap(), 1 + behind.messages);
        let summary = replay_archive_into(directory.path(), ALL, &store, &world.stop, |_| {}).unwrap();
        assert_eq!((summary.messages, summary.results_new), (replayed, 2), "the archive has both sides of the gap");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_run_is_replayed_into_a_database_from_the_stream_and_from_its_archive() {
    bounded(async {
        let world = World::new().await;
        let (one, two) = (builders::run_id(1), builders::run_id(2));
        let mut of_two = result(2);
        of_two.job.run.run_id = two;
        world.record("run", &builders::run_submitted()).await;
        world.record("1", &result(1)).await;
        world.record("2", &of_two).await;
        let directory = tempfile::tempdir().unwrap();
        export_results(&world.url, directory.path(), None, &world.stop, |_| {}).await.unwrap();

        for (run, other, job) in [(one, two, 1), (two, one, 2)] {
            let range = ReplayRange { run: Some(run), ..ALL };
            let (from_stream, from_archive) = (Store::in_memory().unwrap(), Store::in_memory().unwrap());
            let streamed = replay_into(&world.url, range, &from_stream, &world.stop, |_| {}).await.unwrap();
            let archived = replay_archive_into(directory.path(), range, &from_archive, &world.stop, |_| {}).unwrap();
            assert_eq!(streamed, archived);
            assert_eq!((streamed.messages, streamed.results, streamed.results_new), (3, 1, 1));
            assert_eq!(from_stream.digest().unwrap(), from_archive.digest().unwrap());
            assert!(from_stream.run(other).unwrap().is_none(), "another run came along");
            let rows = from_stream.run_results(run).unwrap();
            assert_eq!((rows.len(), &rows[0].job_id), (1, &builders::job_id(job).to_string()));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_whose_connection_breaks_goes_on_behind_its_last_message() {
    const MESSAGES: usize = 12_000;
    bounded(async {
        let world = World::new().await;
        let body = messages::encode(&result(1)).unwrap();
        let publish = (0..MESSAGES)
            .map(|number| world.publish(Outgoing::new(names::RESULTS, "", number.to_string(), body.clone())));
        futures_util::future::join_all(publish).await;
        let mut offsets = Vec::new();
        let take = |offset, _: Record| {
            offsets.push(offset);
            if offsets.len() == 1_000 {
                let close = ["close_all_connections", "--vhost", world.vhost.name(), "test"];
                tokio::task::block_in_place(|| world.vhost.node().ctl(&close)).unwrap();
            }
            Ok(())
        };
        let summary = read_results(&world.url, ALL, &world.stop, take).await.unwrap();
        assert_eq!((summary.messages, offsets.len()), (MESSAGES, MESSAGES));
        assert!(offsets.is_sorted_by(|before, after| before < after));
    })
    .await;
}
