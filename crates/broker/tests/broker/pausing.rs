//! Pauses: nothing more comes, what came stays, and it can be settled.

use std::collections::BTreeSet;

use broker::{Delivery, Settlement, Start, Subscription};
use futures_util::{FutureExt, future::join_all};
use topology::QueueKind;

use crate::{
    streams::read,
    support::{World, bounded, link, queue, queues, to_queue},
};

const PREFETCH: u16 = 20;

async fn lane_with(messages: usize) -> (World, Subscription) {
    lane_at_once(messages, PREFETCH).await
}

async fn lane_at_once(messages: usize, prefetch: u16) -> (World, Subscription) {
    let world = World::with(&queues(vec![queue("lane", QueueKind::Quorum, &[])])).await;
    let publisher = world.publisher().await;
    for answer in join_all((0..messages).map(|id| publisher.publish(to_queue("lane", id)))).await {
        answer.unwrap();
    }
    let lane = Subscription::on(&link(&world.url), "lane", Start::Queue, prefetch).await.unwrap();
    (world, lane)
}

fn in_line(lane: &mut Subscription) -> Vec<Delivery> {
    std::iter::from_fn(|| lane.next_in_line()).collect()
}

fn ids<'a>(deliveries: impl IntoIterator<Item = &'a Delivery>) -> Vec<usize> {
    deliveries.into_iter().map(|delivery| delivery.message_id().unwrap().parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_lane_gives_what_is_in_line_and_nothing_more() {
    bounded(async {
        let (world, mut lane) = lane_with(50).await;
        let first = lane.next().await.unwrap();
        lane.pause().await;
        let rest = in_line(&mut lane);
        let taken = 1 + rest.len();
        assert!(taken <= usize::from(PREFETCH), "{taken}");
        assert_eq!(ids(std::iter::once(&first).chain(&rest)), (0..taken).collect::<Vec<_>>());
        for delivery in std::iter::once(first).chain(rest) {
            delivery.settle(Settlement::Done).await.unwrap();
        }
        // Another consumer gets the others, and this one nothing of what is published now.
        let mut other = world.subscribe("lane", Start::Queue).await;
        for id in taken..50 {
            let delivery = other.next().await.unwrap();
            assert_eq!(ids([&delivery]), [id]);
            delivery.settle(Settlement::Done).await.unwrap();
        }
        assert!(lane.next().now_or_never().is_none());
        drop(other);

        lane.resume().await;
        world.publisher().await.publish(to_queue("lane", 50)).await.unwrap();
        assert_eq!(ids([&lane.next().await.unwrap()]), [50]);
    })
    .await;
}

/// Issue 5927 of RabbitMQ: to cancel and subscribe again with deliveries in flight could close the channel.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_in_hand_before_a_pause_can_be_settled_after_it() {
    const MESSAGES: usize = 2_000;
    bounded(async {
        let (_world, mut lane) = lane_with(MESSAGES).await;
        let mut in_hand = Vec::new();
        let mut seen = BTreeSet::new();
        while seen.len() < MESSAGES {
            let mut arrived = vec![lane.next().await.unwrap()];
            // In the middle of whatever the broker is sending.
            lane.pause().await;
            arrived.extend(in_line(&mut lane));
            lane.resume().await;
            for id in ids(&arrived) {
                assert!(seen.insert(id), "{id} came twice");
            }
            in_hand.extend(arrived);
            // The older half is settled while newer channels are in use already.
            let newer = in_hand.split_off(in_hand.len().div_ceil(2));
            for delivery in std::mem::replace(&mut in_hand, newer) {
                delivery.settle(Settlement::Done).await.unwrap();
            }
        }
        for delivery in in_hand {
            delivery.settle(Settlement::Done).await.unwrap();
        }
        assert_eq!(seen, (0..MESSAGES).collect());
    })
    .await;
}

/// Waits until the broker has so many channels in this virtual host.
async fn channels(world: &World, wanted: &str) {
    // Others come and go meanwhile.
    let ours = format!("(catch rabbit_channel:info(C, [vhost])) =:= [{{vhost, <<\"{}\">>}}]", world.vhost.name());
    let expression = format!("length([C || C <- rabbit_channel:list_local(), {ours}]).");
    while world.vhost.node().evaluate(&expression).unwrap() != wanted {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_goes_once_nothing_on_it_is_unsettled() {
    bounded(async {
        let (world, mut lane) = lane_with(1).await;
        let in_hand = lane.next().await.unwrap();
        lane.pause().await;
        lane.resume().await;
        channels(&world, "2").await;
        in_hand.settle(Settlement::Done).await.unwrap();
        channels(&world, "1").await;
    })
    .await;
}

/// A worker that hands back all that is in line at once got most of it again: its channel was closed behind the last ack,
/// and forgot those that it had kept back from a busy queue.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_settled_at_once_on_a_paused_lane_does_not_come_again() {
    const MESSAGES: u16 = 200;
    bounded(async {
        let (world, mut lane) = lane_at_once(MESSAGES.into(), MESSAGES).await;
        let mut in_hand = Vec::new();
        while in_hand.len() < usize::from(MESSAGES) {
            in_hand.push(lane.next().await.unwrap());
        }
        lane.pause().await;
        for answer in join_all(in_hand.into_iter().map(|delivery| delivery.settle(Settlement::Done))).await {
            answer.unwrap();
        }
        lane.resume().await;
        // Now the paused channel is gone, and what it has forgotten is back in the queue.
        channels(&world, "1").await;
        world.publisher().await.publish(to_queue("lane", "marker")).await.unwrap();
        assert_eq!(lane.next().await.unwrap().message_id(), Some("marker"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_outlasts_a_lost_connection() {
    bounded(async {
        let (world, mut lane) = lane_with(5).await;
        let first = lane.next().await.unwrap();
        world.close_connections();
        lane.pause().await;
        drop((first, in_line(&mut lane)));
        // All are back: this lane has not subscribed again.
        let mut other = world.subscribe("lane", Start::Queue).await;
        let mut seen = BTreeSet::new();
        while seen.len() < 5 {
            let delivery = other.next().await.unwrap();
            seen.extend(ids([&delivery]));
            delivery.settle(Settlement::Done).await.unwrap();
        }
        drop(other);
        assert!(lane.next_in_line().is_none());
        world.publisher().await.publish(to_queue("lane", 5)).await.unwrap();
        lane.resume().await;
        assert_eq!(ids([&lane.next().await.unwrap()]), [5]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_after_a_pause_where_it_was() {
    bounded(async {
        let world = World::with(&queues(vec![queue("log", QueueKind::Stream, &[])])).await;
        let publisher = world.publisher().await;
        for answer in join_all((0..500).map(|id| publisher.publish(to_queue("log", id)))).await {
            answer.unwrap();
        }
        let mut log = world.subscribe("log", Start::StreamFirst).await;
        let mut offsets = Vec::new();
        while offsets.len() < 500 {
            offsets.extend(read(&mut log, 50).await.into_iter().map(|(_, offset)| offset));
            log.pause().await;
            log.resume().await;
        }
        assert!(offsets.is_sorted_by(|before, after| before < after), "{offsets:?}");
    })
    .await;
}
