//! Several subscriptions on one connection.

use std::{collections::BTreeSet, time::Duration};

use broker::{Link, PrivateNode, PrivateNodeOptions, Settlement, Start, Subscription, connect_once};
use lapin::{options::QueueDeclareOptions, types::FieldTable};
use testkit::TcpProxy;
use tokio_util::sync::CancellationToken;
use topology::QueueKind;

use crate::support::{PATIENCE, World, bounded, declare, link, publisher, queue, queues, to_queue};

const LANES: [&str; 4] = ["critical", "high", "normal", "low"];

async fn world() -> World {
    World::with(&queues(LANES.iter().map(|name| queue(name, QueueKind::Quorum, &[])).collect())).await
}

async fn subscribe_all(link: &Link) -> Vec<Subscription> {
    let mut lanes = Vec::new();
    for lane in LANES {
        lanes.push(Subscription::on(link, lane, Start::Queue, 10).await.unwrap());
    }
    lanes
}

#[tokio::test(flavor = "multi_thread")]
async fn all_subscriptions_come_back_over_one_new_connection() {
    bounded(async {
        let world = world().await;
        let mut lanes = subscribe_all(&link(&world.url)).await;
        world.until_connections(1).await;
        for round in 0..3 {
            let publisher = world.publisher().await;
            for (name, lane) in LANES.iter().zip(&mut lanes) {
                publisher.publish(to_queue(name, round)).await.unwrap();
                // One that was not settled before the connection was lost comes again.
                loop {
                    let delivery = lane.next().await.unwrap();
                    let id = delivery.message_id().unwrap().to_owned();
                    if delivery.settle(Settlement::Done).await.is_ok() && id == round.to_string() {
                        break;
                    }
                }
            }
            drop(publisher);
            while world.connections() > 1 {
                tokio::task::yield_now().await;
            }
            world.close_connections();
        }
        drop(lanes);
        while world.connections() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_connects_when_it_is_needed_and_not_after_the_stop() {
    bounded(async {
        let world = world().await;
        let stop = CancellationToken::new();
        let link = Link::new(&world.url, "test", PATIENCE, &stop);
        world.until_connections(0).await;
        stop.cancel();
        let error = Subscription::on(&link, LANES[0], Start::Queue, 1).await.unwrap_err();
        assert!(matches!(error, broker::BrokerError::Closed), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_not_there_is_named_and_the_link_lives_on() {
    bounded(async {
        let world = world().await;
        let link = link(&world.url);
        let error = Subscription::on(&link, "nowhere", Start::Queue, 1).await.unwrap_err();
        assert_eq!(error.to_string(), "the broker has no queue `nowhere`; run `augur topology apply`");
        let mut lane = Subscription::on(&link, LANES[0], Start::Queue, 1).await.unwrap();
        world.publisher().await.publish(to_queue(LANES[0], "here")).await.unwrap();
        assert_eq!(lane.next().await.unwrap().message_id(), Some("here"));
    })
    .await;
}

/// A lane whose subscription is gone may have a job at work, whose end is settled as long as others go on.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_hand_can_be_settled_until_the_last_subscription_goes() {
    bounded(async {
        let world = world().await;
        let publisher = world.publisher().await;
        for id in ["settled", "kept"] {
            publisher.publish(to_queue("high", id)).await.unwrap();
        }
        let link = link(&world.url);
        let mut high = Subscription::on(&link, "high", Start::Queue, 10).await.unwrap();
        let low = Subscription::on(&link, "low", Start::Queue, 10).await.unwrap();
        let (settled, kept) = (high.next().await.unwrap(), high.next().await.unwrap());
        drop(high);
        settled.settle(Settlement::Done).await.unwrap();
        drop(low);
        let mut high = world.subscribe("high", Start::Queue).await;
        let again = high.next().await.unwrap();
        assert_eq!((again.message_id(), again.returns()), (Some("kept"), 1));
        assert!(kept.settle(Settlement::Done).await.is_err());
    })
    .await;
}

/// RabbitMQ closes the channel whose delivery is not settled in time; the others must not notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_times_out_is_reopened_alone() {
    bounded(async {
        let options = PrivateNodeOptions {
            consumer_timeout_ms: Some(3_000),
            channel_tick_interval_ms: Some(200),
            ..PrivateNodeOptions::default()
        };
        let node = PrivateNode::start_with(&options).unwrap();
        let url = node.url().parse().unwrap();
        declare(&url, &queues(LANES.iter().map(|name| queue(name, QueueKind::Quorum, &[])).collect())).await;
        let publisher = publisher(&url, PATIENCE).await;
        let mut lanes = subscribe_all(&link(&url)).await;
        let connections = || node.evaluate("lists:sort(rabbit_networking:connections_local()).").unwrap();
        // The one that declared may be on its way out.
        while (node.connections().unwrap(), node.channels().unwrap()) != (2, 1 + LANES.len()) {
            tokio::task::yield_now().await;
        }
        let before = connections();

        publisher.publish(to_queue("high", "slow")).await.unwrap();
        let slow = lanes[1].next().await.unwrap();
        let again = lanes[1].next().await.unwrap();
        assert_eq!((again.message_id(), again.is_redelivered()), (Some("slow"), true));
        assert!(slow.settle(Settlement::Done).await.is_err());
        again.settle(Settlement::Done).await.unwrap();
        assert_eq!(connections(), before, "a connection was lost too");

        let mut seen = BTreeSet::new();
        for (name, lane) in LANES.iter().zip(&mut lanes) {
            publisher.publish(to_queue(name, name)).await.unwrap();
            let delivery = lane.next().await.unwrap();
            seen.insert(delivery.message_id().unwrap().to_owned());
            delivery.settle(Settlement::Done).await.unwrap();
        }
        assert_eq!(seen, LANES.map(str::to_owned).into());
    })
    .await;
}

/// One consumer less than there was is what the broker must see, or messages stay with nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_given_up_halfway_holds_no_message() {
    bounded(async {
        let world = World::with(&queues(vec![queue("lane", QueueKind::Quorum, &[])])).await;
        let proxy = TcpProxy::start_at(world.vhost.node().port()).unwrap();
        let link = link(&proxy.url_through(&world.url));
        let _keeps_it_connected = Subscription::on(&link, "lane", Start::Queue, 1).await.unwrap();
        let looking = connect_once(&world.url, "test").await.unwrap();
        let channel = looking.create_channel().await.unwrap();
        let consumers = async || {
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
            channel.queue_declare("lane".into(), options, FieldTable::default()).await.unwrap().consumer_count()
        };
        // Late enough for the broker to have subscribed us before we know; where it was not, later.
        let mut delay = Duration::from_millis(300);
        loop {
            proxy.delay(delay);
            let is_given_up = tokio::select! {
                subscribed = Subscription::on(&link, "lane", Start::Queue, 10) => {
                    drop(subscribed.unwrap());
                    false
                }
                () = async { while consumers().await < 2 {} } => true,
            };
            proxy.delay(Duration::ZERO);
            while consumers().await > 1 {}
            if is_given_up {
                break;
            }
            delay *= 2;
        }
    })
    .await;
}
