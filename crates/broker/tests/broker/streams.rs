//! Reading a stream from its start, from an offset, and finding its end.

use std::collections::BTreeSet;

use broker::{Continuity, Settlement, Start, Subscription, continuity, resume, stream_end};
use futures_util::future::join_all;
use topology::QueueKind;

use crate::support::{World, bounded, queue, queues, to_queue};

const MESSAGES: usize = 3_000;

/// Ids and offsets of the next deliveries.
pub(crate) async fn read(subscription: &mut Subscription, count: usize) -> Vec<(String, u64)> {
    let mut read = Vec::new();
    while read.len() < count {
        let delivery = subscription.next().await.unwrap();
        read.push((delivery.message_id().unwrap().to_owned(), delivery.stream_offset().unwrap()));
        delivery.settle(Settlement::Done).await.unwrap();
    }
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_read_in_order_from_anywhere() {
    bounded(async {
        let world = World::with(&queues(vec![queue("log", QueueKind::Stream, &[])])).await;
        assert_eq!(stream_end(&world.url, "log").await.unwrap(), None);

        let publisher = world.publisher().await;
        for answer in join_all((0..MESSAGES).map(|id| publisher.publish(to_queue("log", id)))).await {
            answer.unwrap();
        }
        let all = read(&mut world.subscribe("log", Start::StreamFirst).await, MESSAGES).await;
        let ids: BTreeSet<_> = all.iter().map(|(id, _)| id.parse::<usize>().unwrap()).collect();
        assert!(ids == (0..MESSAGES).collect(), "{} ids", ids.len());
        assert!(all.is_sorted_by(|before, after| before.1 < after.1));
        let again = read(&mut world.subscribe("log", Start::StreamFirst).await, MESSAGES).await;
        assert!(again == all, "another reader sees something else");

        let middle = &all[MESSAGES / 2];
        let from_middle = read(&mut world.subscribe("log", Start::StreamOffset(middle.1)).await, 10).await;
        assert_eq!(from_middle, all[MESSAGES / 2..][..10]);
        let end = stream_end(&world.url, "log").await.unwrap();
        assert_eq!(end.map(|end| end.offset), all.last().map(|(_, offset)| *offset));

        let mut coming = world.subscribe("log", Start::StreamNext).await;
        publisher.publish(to_queue("log", "new")).await.unwrap();
        assert_eq!(read(&mut coming, 1).await[0].0, "new");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_resumed_and_another_one_of_its_name_is_read_whole() {
    bounded(async {
        let world = World::with(&queues(vec![queue("log", QueueKind::Stream, &[])])).await;
        let publisher = world.publisher().await;
        for id in ["a", "b", "c"] {
            publisher.publish(to_queue("log", id)).await.unwrap();
        }
        let mut log = world.subscribe("log", Start::StreamFirst).await;
        let mut fingerprints = Vec::new();
        for _ in 0..3 {
            let delivery = log.next().await.unwrap();
            fingerprints.push(delivery.stream_fingerprint().unwrap());
            delivery.settle(Settlement::Done).await.unwrap();
        }
        assert_eq!(fingerprints, ["0:a", "1:b", "2:c"]);
        for (next_offset, last_message, expected) in [
            (None, None, Start::StreamFirst),
            (Some(0), Some("ignored"), Start::StreamOffset(0)),
            (Some(2), None, Start::StreamOffset(2)),
            (Some(2), Some("1:b"), Start::StreamOffset(2)),
            (Some(3), Some("2:c"), Start::StreamOffset(3)),
            (Some(2), Some("1:x"), Start::StreamFirst),
            (Some(4), Some("3:d"), Start::StreamFirst),
        ] {
            let start = resume(&world.url, "log", next_offset, last_message).await.unwrap();
            assert_eq!(start, expected, "{next_offset:?} {last_message:?}");
        }
        assert!(resume(&world.url, "nowhere", Some(1), None).await.is_err());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_took_is_told_from_another_stream() {
    /// Messages of a few hundred bytes each: several segments.
    const LOGGED: u64 = 300;
    /// Looks, each of which takes half a second; reached only by a failing test.
    const LOOKS_MAX: usize = 100;
    bounded(async {
        let small = [("x-max-length-bytes", "4000"), ("x-stream-max-segment-size-bytes", "4000")];
        let world = World::with(&queues(vec![queue("log", QueueKind::Stream, &small)])).await;
        let publisher = world.publisher().await;
        publisher.publish(to_queue("log", "a")).await.unwrap();
        let look = |last_message| continuity(&world.url, "log", 0, Some(last_message));
        assert_eq!(look("0:a").await.unwrap(), Continuity::Unbroken);
        assert_eq!(look("0:x").await.unwrap(), Continuity::Other { found: Some("0:a".to_owned()) });
        let beyond = continuity(&world.url, "log", LOGGED, None).await.unwrap();
        assert_eq!(beyond, Continuity::Other { found: None });

        for id in 0..LOGGED {
            publisher.publish(to_queue("log", id)).await.unwrap();
        }
        for _ in 0..LOOKS_MAX {
            match look("0:a").await.unwrap() {
                Continuity::Unbroken => {}
                // Retention may take everything but a segment that has just begun, and is empty.
                Continuity::Other { found: None } => publisher.publish(to_queue("log", "next")).await.unwrap(),
                Continuity::Cut { first_offset } => return assert!(first_offset > 0),
                other @ Continuity::Other { found: Some(_) } => panic!("{other:?}"),
            }
        }
        panic!("retention took nothing");
    })
    .await;
}
