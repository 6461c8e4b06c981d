//! A cluster of three nodes, of which one dies.

use std::{
    collections::BTreeSet,
    net::TcpListener,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use broker::{
    AmqpUrl, BrokerError, Patience, Publisher, Settlement, Start, Subscription, connect_once, server_version,
};
use futures_util::{StreamExt, future::join_all, stream};
use testkit::{Cluster, shared_broker};
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;
use topology::QueueKind;

use crate::support::{binding, bounded, crash, declare, fanout, link, publisher, queue, queues, to_exchange, to_queue};

const MESSAGES: usize = 500;
/// Messages on their way at once.
const AT_ONCE: usize = 20;
/// When a confirm is overdue: soon, since a dying leader takes some with it.
const OVERDUE_AFTER: Duration = Duration::from_secs(2);

/// One cluster for all tests here, which take turns at it: to start three nodes is most of what each would take.
async fn cluster() -> MutexGuard<'static, Cluster> {
    static CLUSTER: OnceLock<Mutex<Cluster>> = OnceLock::new();
    let cluster = CLUSTER.get_or_init(|| Mutex::new(Cluster::start(3).unwrap())).lock().await;
    for dead in cluster.nodes().iter().filter(|node| node.pid().is_none()) {
        dead.restart().unwrap();
    }
    cluster
}

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
    let cluster = cluster().await;
    bounded(async {
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

/// RabbitMQ 3.10 dropped and confirmed messages to a stream whose leader had died if the channel had published elsewhere
/// too, or messages had come back on it: it sent again under the wrong numbers, and took later messages for duplicates.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_confirmed_is_on_the_stream_whatever_else_was_published() {
    let cluster = cluster().await;
    bounded(async {
        let [leader, ..] = cluster.nodes() else { panic!("three nodes") };
        // A queue is led by the node that it is declared on.
        let mut topology = queues(vec![queue("other", QueueKind::Quorum, &[]), queue("log", QueueKind::Stream, &[])]);
        topology.exchanges.push(fanout("logs"));
        let on_leader = leader.url().parse().unwrap();
        declare(&on_leader, &topology).await;
        let url: AmqpUrl = cluster.url().parse().unwrap();
        let (patience, stop) = (Patience::Endless, CancellationToken::new());
        let publisher = Publisher::start_with(&url, "test", patience, OVERDUE_AFTER, stop).await.unwrap();
        // Far more than are on their way when the leader dies.
        join_all((0..MESSAGES).map(|id| publisher.publish(to_queue("other", id)))).await;
        let returned = join_all((0..MESSAGES).map(|id| publisher.publish(to_exchange("logs", id)))).await;
        assert!(returned.iter().all(|answer| matches!(answer, Err(BrokerError::Unroutable { .. }))), "{returned:?}");
        topology.bindings.push(binding("logs", "log"));
        declare(&on_leader, &topology).await;
        let confirmed = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&confirmed);
        let publishing = tokio::spawn(async move {
            let publish = async |id: usize| {
                publisher.publish(to_exchange("logs", id)).await.unwrap();
                counting.fetch_add(1, Ordering::Relaxed);
            };
            stream::iter(0..MESSAGES).for_each_concurrent(AT_ONCE, publish).await;
        });
        while confirmed.load(Ordering::Relaxed) < MESSAGES / 4 {
            tokio::task::yield_now().await;
        }
        leader.kill().unwrap();
        publishing.await.unwrap();
        let mut log = Subscription::on(&link(&url), "log", Start::StreamFirst, 500).await.unwrap();
        let mut seen = BTreeSet::new();
        while seen.len() < MESSAGES {
            let delivery = log.next().await.unwrap();
            seen.insert(delivery.message_id().unwrap().parse::<usize>().unwrap());
            drop(delivery.settle(Settlement::Done).await);
        }
        assert_eq!(seen, (0..MESSAGES).collect());
    })
    .await;
}

/// A node takes connections before its replicas are up, and refuses to read a stream of which it has none yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_read_from_a_node_that_has_just_come_back() {
    let cluster = cluster().await;
    bounded(async {
        let url: AmqpUrl = cluster.url().parse().unwrap();
        declare(&url, &queues(vec![queue("diary", QueueKind::Stream, &[])])).await;
        publisher(&url, Patience::Endless).await.publish(to_queue("diary", "first")).await.unwrap();
        for node in cluster.nodes() {
            crash(node);
            node.restart().unwrap();
            let alone: AmqpUrl = node.url().parse().unwrap();
            let mut log = Subscription::on(&link(&alone), "diary", Start::StreamFirst, 10).await.unwrap();
            assert_eq!(log.next().await.unwrap().message_id(), Some("first"));
        }
    })
    .await;
}
