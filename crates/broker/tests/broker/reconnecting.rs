//! Connections that break in the middle.

use std::{collections::BTreeSet, sync::Arc};

use broker::{Delivery, Patience, PrivateNode, Settlement, Start, Subscription};
use futures_util::future::join_all;
use topology::QueueKind;

use crate::{
    streams::read,
    support::{World, bounded, crash, declare, publisher, queue, queues, subscribe, to_queue},
};

const MESSAGES: usize = 2_000;

/// Takes deliveries into `seen` until it holds `count` ids; one whose channel is gone comes again.
async fn consume(subscription: &mut Subscription, seen: &mut BTreeSet<usize>, count: usize) {
    while seen.len() < count {
        let delivery: Delivery = subscription.next().await.unwrap();
        seen.insert(delivery.message_id().unwrap().parse().unwrap());
        drop(delivery.settle(Settlement::Done).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_is_lost_with_the_connections() {
    bounded(async {
        let world = World::with(&queues(vec![queue("lane", QueueKind::Quorum, &[])])).await;
        let publisher = world.publisher().await;
        let publish = |ids: std::ops::Range<usize>| {
            let publisher = publisher.clone();
            tokio::spawn(async move { join_all(ids.map(|id| publisher.publish(to_queue("lane", id)))).await })
        };
        let mut lane = world.subscribe("lane", Start::Queue).await;
        let mut seen = BTreeSet::new();

        let first = publish(0..MESSAGES / 2);
        consume(&mut lane, &mut seen, MESSAGES / 10).await;
        let second = publish(MESSAGES / 2..MESSAGES);
        world.close_connections();
        consume(&mut lane, &mut seen, MESSAGES).await;

        let answers: Vec<_> = first.await.unwrap().into_iter().chain(second.await.unwrap()).collect();
        assert_eq!(answers.len(), MESSAGES);
        for answer in answers {
            answer.unwrap();
        }
        assert_eq!(seen, (0..MESSAGES).collect());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_says_when_it_is_lost_and_when_it_stands_again() {
    bounded(async {
        let world = World::with(&queues(vec![queue("lane", QueueKind::Quorum, &[])])).await;
        let mut lane = world.subscribe("lane", Start::Queue).await;
        let mut standing = lane.standing();
        assert!(*standing.borrow_and_update());
        world.close_connections();
        standing.changed().await.unwrap();
        standing.wait_for(|standing| *standing).await.unwrap();
        lane.pause().await;
        standing.wait_for(|standing| !standing).await.unwrap();
        lane.resume().await;
        standing.wait_for(|standing| *standing).await.unwrap();
        drop(lane);
        while standing.changed().await.is_ok() {}
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_where_it_was_when_the_broker_comes_back() {
    bounded(async {
        let node = Arc::new(PrivateNode::start().unwrap());
        let url = node.url().parse().unwrap();
        let declared = queues(vec![queue("log", QueueKind::Stream, &[]), queue("lane", QueueKind::Quorum, &[])]);
        declare(&url, &declared).await;
        let publisher = publisher(&url, Patience::Endless).await;
        for answer in join_all((0..200).map(|id| publisher.publish(to_queue("log", id)))).await {
            answer.unwrap();
        }
        let mut log = subscribe(&url, "log", Start::StreamFirst).await;
        let before = read(&mut log, 200).await;

        let confirmed = join_all((0..MESSAGES).map(|id| publisher.publish(to_queue("lane", id))));
        let killed = tokio::task::spawn_blocking({
            let node = Arc::clone(&node);
            move || {
                crash(&node);
                node.restart()
            }
        });
        let (confirmed, killed) = tokio::join!(confirmed, killed);
        killed.unwrap().unwrap();
        for answer in confirmed {
            answer.unwrap();
        }
        let mut seen = BTreeSet::new();
        consume(&mut subscribe(&url, "lane", Start::Queue).await, &mut seen, MESSAGES).await;
        assert_eq!(seen, (0..MESSAGES).collect());

        publisher.publish(to_queue("log", "after")).await.unwrap();
        let after = read(&mut log, 1).await;
        assert_eq!(after[0].0, "after");
        assert!(after[0].1 > before[199].1);
    })
    .await;
}
