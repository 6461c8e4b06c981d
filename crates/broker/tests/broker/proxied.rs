//! A network that breaks between us and the broker.

use std::collections::BTreeSet;

use broker::{AmqpUrl, Link, Patience, Publisher, Settlement, Start, Subscription, stream_end};
use futures_util::future::join_all;
use testkit::TcpProxy;
use tokio_util::sync::CancellationToken;
use topology::QueueKind;

use crate::support::{World, bounded, link, publisher, queue, queues, to_queue};

const MESSAGES: usize = 1_000;

/// AMQP's class and method numbers of what opens a subscription and a publisher, step by step.
const OPENING: [(&str, [u8; 4]); 5] = [
    ("channel.open", [0, 20, 0, 10]),
    ("basic.qos", [0, 60, 0, 10]),
    ("basic.consume", [0, 60, 0, 20]),
    ("confirm.select", [0, 85, 0, 10]),
    ("queue.declare", [0, 50, 0, 10]),
];

/// Publishes and consumes everything through a proxy while `trouble` happens to it.
async fn survives(trouble: impl AsyncFn(&TcpProxy)) {
    bounded(async {
        let world = World::with(&queues(vec![queue("lane", QueueKind::Quorum, &[])])).await;
        let proxy = TcpProxy::start_at(world.vhost.node().port()).unwrap();
        // A silent network is noticed after two heartbeats.
        let url: AmqpUrl = format!("{}?heartbeat=1&connection_timeout=1000", world.vhost.url()).parse().unwrap();
        let url = proxy.url_through(&url);
        let publisher = publisher(&url, Patience::Endless).await;
        let mut lane = Subscription::on(&link(&url), "lane", Start::Queue, 50).await.unwrap();
        let publish = |from: usize| {
            let publisher = publisher.clone();
            let ids = from..from + MESSAGES / 2;
            tokio::spawn(async move { join_all(ids.map(|id| publisher.publish(to_queue("lane", id)))).await })
        };
        let first = publish(0);
        let mut seen = BTreeSet::new();
        let mut is_over = false;
        while seen.len() < MESSAGES {
            let delivery = lane.next().await.unwrap();
            seen.insert(delivery.message_id().unwrap().parse::<usize>().unwrap());
            drop(delivery.settle(Settlement::Done).await);
            if seen.len() > MESSAGES / 4 && !is_over {
                is_over = true;
                trouble(&proxy).await;
                for answer in publish(MESSAGES / 2).await.unwrap() {
                    answer.unwrap();
                }
            }
        }
        for answer in first.await.unwrap() {
            answer.unwrap();
        }
        assert_eq!(seen, (0..MESSAGES).collect());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resets_lose_nothing() {
    survives(async |proxy| proxy.reset_all()).await;
}

/// Longer than two heartbeats, so that both ends give the connection up.
#[tokio::test(flavor = "multi_thread")]
async fn silence_loses_nothing() {
    survives(async |proxy| {
        proxy.black_hole(true);
        tokio::time::sleep(std::time::Duration::from_secs(4)).await;
        proxy.black_hole(false);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slowness_loses_nothing() {
    survives(async |proxy| proxy.delay(std::time::Duration::from_millis(50))).await;
}

/// A broker that goes away while something is being opened is one that has to be waited for, like one that is not
/// there yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_while_opening_is_opened_again() {
    bounded(async {
        let world = World::with(&queues(vec![queue("log", QueueKind::Stream, &[])])).await;
        let proxy = TcpProxy::start_at(world.vhost.node().port()).unwrap();
        let url = proxy.url_through(&world.vhost.url().parse().unwrap());
        let patience = Patience::For(std::time::Duration::from_secs(10));
        for (step, method) in OPENING {
            proxy.reset_at(&method);
            let publisher = Publisher::start(&url, "test", patience, CancellationToken::new()).await;
            publisher.expect(step).publish(to_queue("log", 1)).await.expect(step);
            let last = stream_end(&url, "log").await.expect(step);
            assert!(last.is_some(), "{step}");
            let link = Link::new(&url, "test", patience, &CancellationToken::new());
            let mut log = Subscription::on(&link, "log", Start::StreamFirst, 10).await.expect(step);
            log.next().await.expect(step).settle(Settlement::Done).await.expect(step);
            assert!(proxy.has_reset(), "{step}");
        }
    })
    .await;
}
