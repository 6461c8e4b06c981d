//! Looking through a queue, and what dead letters tell.

use std::collections::HashSet;

use broker::{BrokerError, Delivery, Outgoing, QueueReader, Settlement, Start};
use futures_util::future::join_all;
use messages::Timestamp;
use topology::{QueueKind, Topology};

use crate::support::{PATIENCE, World, binding, bounded, fanout, queue, queues, to_exchange, to_queue};

const LETTERS: usize = 300;
/// A run's id.
const RUN: &str = "0190b5a0-0000-7000-8000-000000000002";
/// More than one channel of a reader holds.
const LETTERS_MANY: usize = 10_300;

async fn dead_letters() -> World {
    let world = World::with(&queues(vec![queue("dead-letters", QueueKind::Quorum, &[])])).await;
    let publisher = world.publisher().await;
    for id in 0..LETTERS {
        publisher.publish(to_queue("dead-letters", id)).await.unwrap();
    }
    world
}

async fn read_all(reader: &mut QueueReader) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    while let Some(delivery) = reader.next().await.unwrap() {
        deliveries.push(delivery);
    }
    deliveries
}

fn ids(deliveries: &[Delivery]) -> Vec<usize> {
    deliveries.iter().map(|delivery| delivery.message_id().unwrap().parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_read_and_goes_back_in_order_except_what_is_settled() {
    bounded(async {
        let world = dead_letters().await;
        let mut reader = QueueReader::open(&world.url, "dead-letters", u64::MAX, PATIENCE).await.unwrap();
        assert_eq!(reader.messages(), LETTERS as u64);
        let letters = read_all(&mut reader).await;
        assert_eq!(ids(&letters), (0..LETTERS).collect::<Vec<_>>());
        assert!(reader.next().await.unwrap().is_none());
        for letter in letters {
            if letter.message_id().unwrap().ends_with('7') {
                letter.settle(Settlement::Done).await.unwrap();
            }
        }
        reader.close().await.unwrap();

        let left: Vec<_> = (0..LETTERS).filter(|id| id % 10 != 7).collect();
        for looks in 1..3 {
            let mut reader = QueueReader::open(&world.url, "dead-letters", u64::MAX, PATIENCE).await.unwrap();
            let letters = read_all(&mut reader).await;
            assert_eq!(ids(&letters), left);
            let returns: Vec<_> = letters.iter().map(Delivery::returns).collect();
            assert_eq!(returns, vec![looks; left.len()]);
            reader.close().await.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_past_what_it_holds() {
    bounded(async {
        let world = World::with(&queues(vec![queue("dead-letters", QueueKind::Quorum, &[])])).await;
        let publisher = world.publisher().await;
        for answer in join_all((0..LETTERS_MANY).map(|id| publisher.publish(to_queue("dead-letters", id)))).await {
            answer.unwrap();
        }
        let open = || QueueReader::open(&world.url, "dead-letters", u64::MAX, PATIENCE);
        let mut reader = open().await.unwrap();
        // Published together, they came in any order.
        let mut order = ids(&read_all(&mut reader).await);
        assert_eq!(order.iter().collect::<HashSet<_>>().len(), LETTERS_MANY);
        reader.close().await.unwrap();
        // One channel holds the first, another one the last.
        for at in [0, LETTERS_MANY - 2] {
            let mut reader = open().await.unwrap();
            let mut letters = read_all(&mut reader).await;
            assert!(ids(&letters) == order, "another order");
            letters.remove(at).settle(Settlement::Done).await.unwrap();
            order.remove(at);
            reader.close().await.unwrap();
        }
        assert!(ids(&read_all(&mut open().await.unwrap()).await) == order, "another order at last");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_one_and_an_empty_queue_is_empty() {
    bounded(async {
        let world = dead_letters().await;
        let mut reader = QueueReader::open(&world.url, "dead-letters", 7, PATIENCE).await.unwrap();
        assert_eq!((reader.messages(), ids(&read_all(&mut reader).await)), (300, (0..7).collect()));
        drop(reader);
        let mut lane = world.subscribe("dead-letters", Start::Queue).await;
        for _ in 0..LETTERS {
            lane.next().await.unwrap().settle(Settlement::Done).await.unwrap();
        }
        drop(lane);
        let mut reader = QueueReader::open(&world.url, "dead-letters", 7, PATIENCE).await.unwrap();
        assert!(reader.next().await.unwrap().is_none());

        let missing = QueueReader::open(&world.url, "nowhere", 7, PATIENCE).await.err().unwrap();
        assert!(matches!(&missing, BrokerError::NoQueue { queue } if queue == "nowhere"), "{missing}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_tells_where_it_died_and_why() {
    bounded(async {
        let lane = |name, extra: &[(&str, &str)]| {
            let mut arguments = vec![
                ("x-dead-letter-exchange", "dead-letters"),
                ("x-dead-letter-strategy", "at-least-once"),
                ("x-overflow", "reject-publish"),
            ];
            arguments.extend(extra);
            queue(name, QueueKind::Quorum, &arguments)
        };
        let world = World::with(&Topology {
            exchanges: vec![fanout("dead-letters")],
            queues: vec![lane("lane", &[]), lane("delay", &[]), queue("dead-letters", QueueKind::Quorum, &[])],
            bindings: vec![binding("dead-letters", "dead-letters")],
        })
        .await;
        let publisher = world.publisher().await;
        let before = Timestamp::now().as_seconds();
        let run_id = RUN.parse().unwrap();
        publisher.publish(to_queue("lane", "rejected").of_run(run_id, 2)).await.unwrap();
        let mut lane = world.subscribe("lane", Start::Queue).await;
        lane.next().await.unwrap().settle(Settlement::DeadLetter).await.unwrap();
        let mut letters = world.subscribe("dead-letters", Start::Queue).await;
        let rejected = letters.next().await.unwrap();
        let death = rejected.death().unwrap();
        assert_eq!((death.queue.as_str(), death.reason.as_str(), death.count), ("lane", "rejected", 1));
        assert!((before..=Timestamp::now().as_seconds()).contains(&death.at.unwrap().as_seconds()));
        assert!((before..=Timestamp::now().as_seconds()).contains(&rejected.published_at().unwrap().as_seconds()));
        assert_eq!((rejected.reason(), rejected.returns()), (None, 0));
        assert_eq!((rejected.run_id(), rejected.replays()), (Some(run_id), 2), "the broker keeps what we said of it");

        // A time of its own, shorter than the queue's.
        publisher.publish(to_queue("delay", "expired").expiration_ms(50)).await.unwrap();
        let expired = letters.next().await.unwrap();
        assert_eq!(expired.death().map(|death| death.reason).as_deref(), Some("expired"));

        let ours: Outgoing = to_exchange("dead-letters", "ours").attempt(5).reason("timeout");
        publisher.publish(ours).await.unwrap();
        let ours = letters.next().await.unwrap();
        assert_eq!((ours.run_id(), ours.replays()), (None, 0));
        assert_eq!((ours.reason(), ours.death(), ours.attempt()), (Some("timeout"), None, 5));
    })
    .await;
}
