//! A cluster of three nodes, of which one dies.

use std::{collections::BTreeSet, net::TcpListener};

use broker::{AmqpUrl, Patience, Settlement, Start, Subscription, connect_once, server_version};
use futures_util::future::join_all;
use testkit::{Cluster, shared_broker};
use topology::QueueKind;

use crate::support::{bounded, crash, declare, link, publisher, queue, queues, to_queue};

const MESSAGES: usize = 500;

#[tokio::test(flavor = "multi_thread")]
async fn one_dead_address_of_three_is_passed_over() {
    bounded(async {
        let dead = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let alive = shared_broker().port();
        let url = format!("amqp://guest:guest@{},127.0.0.1:{alive},{}/%2f", dead(), dead()).parse().unwrap();
        // From whichever address it begins.
        for _ in 0..3 {
            connect_once(&url, "test").await.unwrap().close(200, "done".into()).await.unwrap();
        }
        assert!(server_version(&url).await.is_ok());
    })
    .await;
}

/// Each node in turn, so that among them are those that lead the queue and hold the connections.
#[tokio::test(flavor = "multi_thread")]
async fn killing_one_node_after_the_other_loses_nothing() {
    bounded(async {
        let cluster = Cluster::start(3).unwrap();
        let url: AmqpUrl = cluster.url().parse().unwrap();
        declare(&url, &queues(vec![queue("lane", QueueKind::Quorum, &[])])).await;
        let publisher = publisher(&url, Patience::Endless).await;
        let mut lane = Subscription::on(&link(&url), "lane", Start::Queue, 50).await.unwrap();
        let mut seen = BTreeSet::new();
        for (round, node) in cluster.nodes().iter().enumerate() {
            let ids = round * MESSAGES..(round + 1) * MESSAGES;
            let clone = publisher.clone();
            let answers =
                tokio::spawn(async move { join_all(ids.map(|id| clone.publish(to_queue("lane", id)))).await });
            while seen.len() < (round + 1) * MESSAGES {
                let delivery = lane.next().await.unwrap();
                let is_first = seen.insert(delivery.message_id().unwrap().parse::<usize>().unwrap());
                drop(delivery.settle(Settlement::Done).await);
                if is_first && seen.len() == round * MESSAGES + MESSAGES / 4 {
                    node.kill().unwrap();
                }
            }
            for answer in answers.await.unwrap() {
                answer.unwrap();
            }
            node.restart().unwrap();
        }
        assert_eq!(seen, (0..3 * MESSAGES).collect());
    })
    .await;
}

/// A node takes connections before its replicas are up, and refuses to read a stream of which it has none yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_read_from_a_node_that_has_just_come_back() {
    bounded(async {
        let cluster = Cluster::start(3).unwrap();
        let url: AmqpUrl = cluster.url().parse().unwrap();
        declare(&url, &queues(vec![queue("log", QueueKind::Stream, &[])])).await;
        publisher(&url, Patience::Endless).await.publish(to_queue("log", "first")).await.unwrap();
        for node in cluster.nodes() {
            crash(node);
            node.restart().unwrap();
            let alone: AmqpUrl = node.url().parse().unwrap();
            let mut log = Subscription::on(&link(&alone), "log", Start::StreamFirst, 10).await.unwrap();
            assert_eq!(log.next().await.unwrap().message_id(), Some("first"));
        }
    })
    .await;
}
