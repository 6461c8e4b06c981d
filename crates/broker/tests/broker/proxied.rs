//! A network that breaks between us and the broker.

use std::collections::BTreeSet;

use broker::{AmqpUrl, Patience, Settlement, Start, Subscription};
use futures_util::future::join_all;
use testkit::TcpProxy;
use topology::QueueKind;

use crate::support::{World, bounded, link, publisher, queue, queues, to_queue};

const MESSAGES: usize = 1_000;

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
