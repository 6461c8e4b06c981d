//! Reading a stream from its start, from an offset, and finding its end.

use std::collections::BTreeSet;

use broker::{Settlement, Start, Subscription, last_offset};
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
        assert_eq!(last_offset(&world.url, "log").await.unwrap(), None);

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
        assert_eq!(last_offset(&world.url, "log").await.unwrap(), all.last().map(|(_, offset)| *offset));

        let mut coming = world.subscribe("log", Start::StreamNext).await;
        publisher.publish(to_queue("log", "new")).await.unwrap();
        assert_eq!(read(&mut coming, 1).await[0].0, "new");
    })
    .await;
}
