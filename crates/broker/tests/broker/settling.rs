//! How deliveries end: dead letters, returns, and settling after the stop.

use broker::{Link, Settlement, Start, Subscription};
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;
use topology::{QueueKind, Topology};

use crate::support::{PATIENCE, World, binding, bounded, fanout, queue, queues, to_queue};

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_message_becomes_a_dead_letter() {
    bounded(async {
        let arguments = [
            ("x-dead-letter-exchange", "dead-letters"),
            ("x-dead-letter-strategy", "at-least-once"),
            ("x-overflow", "reject-publish"),
        ];
        let world = World::with(&Topology {
            exchanges: vec![fanout("dead-letters")],
            queues: vec![queue("lane", QueueKind::Quorum, &arguments), queue("dead-letters", QueueKind::Quorum, &[])],
            bindings: vec![binding("dead-letters", "dead-letters")],
        })
        .await;
        world.publisher().await.publish(to_queue("lane", "bad")).await.unwrap();
        let mut lane = world.subscribe("lane", Start::Queue).await;
        lane.next().await.unwrap().settle(Settlement::DeadLetter).await.unwrap();

        let mut dead_letters = world.subscribe("dead-letters", Start::Queue).await;
        let dead = dead_letters.next().await.unwrap();
        assert_eq!((dead.message_id(), dead.message_type(), dead.routing_key()), (Some("bad"), Some("test"), "lane"));
        assert_eq!(dead.exchange(), "dead-letters");
        dead.settle(Settlement::Done).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_returned_message_comes_again_and_says_so() {
    bounded(async {
        let world = World::with(&queues(vec![queue("lane", QueueKind::Quorum, &[])])).await;
        world.publisher().await.publish(to_queue("lane", "again")).await.unwrap();
        let mut lane = world.subscribe("lane", Start::Queue).await;
        let first = lane.next().await.unwrap();
        assert!(!first.is_redelivered());
        first.settle(Settlement::Return).await.unwrap();
        let second = lane.next().await.unwrap();
        assert_eq!(second.message_id(), Some("again"));
        assert!(second.is_redelivered());
        second.settle(Settlement::Done).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settling_through_one_message_settles_those_before_it() {
    bounded(async {
        let world = World::with(&queues(vec![queue("lane", QueueKind::Quorum, &[])])).await;
        let publisher = world.publisher().await;
        for id in 0..4 {
            publisher.publish(to_queue("lane", id)).await.unwrap();
        }
        let mut lane = world.subscribe("lane", Start::Queue).await;
        let mut deliveries = Vec::new();
        for _ in 0..4 {
            deliveries.push(lane.next().await.unwrap());
        }
        deliveries.swap_remove(2).settle(Settlement::DoneThrough).await.unwrap();
        drop(lane);
        let mut lane = world.subscribe("lane", Start::Queue).await;
        let left = lane.next().await.unwrap();
        assert_eq!((left.message_id(), left.is_redelivered()), (Some("3"), true));
    })
    .await;
}

/// Whoever drains finishes the job in hand; its delivery must not come again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_hand_can_be_settled_after_the_stop() {
    bounded(async {
        let world = World::with(&queues(vec![queue("lane", QueueKind::Quorum, &[])])).await;
        let publisher = world.publisher().await;
        publisher.publish(to_queue("lane", "in hand")).await.unwrap();
        let stop = CancellationToken::new();
        let mut lane =
            Subscription::start(&world.url, "test", "lane", Start::Queue, 10, PATIENCE, &stop).await.unwrap();
        let in_hand = lane.next().await.unwrap();
        stop.cancel();
        assert!(lane.next().await.is_none());
        in_hand.settle(Settlement::Done).await.unwrap();
        drop(lane);

        publisher.publish(to_queue("lane", "marker")).await.unwrap();
        let mut lane = world.subscribe("lane", Start::Queue).await;
        assert_eq!(lane.next().await.unwrap().message_id(), Some("marker"));
    })
    .await;
}

/// A worker that ended right behind its last acks took some of them along.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_settled_before_its_link_closed_does_not_come_again() {
    // Many more than a channel lets be under way to a quorum queue.
    const MESSAGES: u16 = 500;
    bounded(async {
        let world = World::with(&queues(vec![queue("lane", QueueKind::Quorum, &[])])).await;
        let publisher = world.publisher().await;
        for answer in join_all((0..MESSAGES).map(|id| publisher.publish(to_queue("lane", id)))).await {
            answer.unwrap();
        }
        let stop = CancellationToken::new();
        let link = Link::new(&world.url, "test", PATIENCE, &stop);
        let mut lane = Subscription::on(&link, "lane", Start::Queue, MESSAGES).await.unwrap();
        let mut held = Vec::new();
        for _ in 0..MESSAGES {
            held.push(lane.next().await.unwrap());
        }
        for answer in join_all(held.into_iter().map(|delivery| delivery.settle(Settlement::Done))).await {
            answer.unwrap();
        }
        stop.cancel();
        drop(lane);
        link.close().await;
        publisher.publish(to_queue("lane", "marker")).await.unwrap();
        let mut lane = world.subscribe("lane", Start::Queue).await;
        assert_eq!(lane.next().await.unwrap().message_id(), Some("marker"));
    })
    .await;
}
