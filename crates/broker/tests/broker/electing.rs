//! One active process at a time.

use broker::{AmqpUrl, BrokerError, SoleConsumer};
use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use topology::{Queue, QueueKind, Topology, names};

use crate::support::{PATIENCE, World, bounded, queues};

/// The queue as `queues.yaml` has it.
fn leader() -> Queue {
    let all = Topology::embedded().unwrap().queues;
    all.into_iter().find(|queue| queue.name == names::AGGREGATOR_LEADER).unwrap()
}

async fn acquire(url: &AmqpUrl, stop: &CancellationToken) -> Result<SoleConsumer, BrokerError> {
    SoleConsumer::acquire(url, names::AGGREGATOR_LEADER, "test leader", PATIENCE, stop).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_one_follows_when_the_first_one_goes() {
    bounded(async {
        assert_eq!(leader().kind, QueueKind::Quorum);
        let world = World::with(&queues(vec![leader()])).await;
        let stop = CancellationToken::new();
        let mut active = acquire(&world.url, &stop).await.unwrap();
        for _ in 0..3 {
            let (url, stop) = (world.url.clone(), stop.clone());
            let next = tokio::spawn(async move { acquire(&url, &stop).await });
            // Both connections of the candidate, so that its tokens come before the first one resigns.
            while world.connections() < 3 {
                tokio::task::yield_now().await;
            }
            assert!(!next.is_finished());
            assert!(active.lost().now_or_never().is_none());
            drop(active);
            active = next.await.unwrap().unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_ends_it() {
    bounded(async {
        let world = World::with(&queues(vec![leader()])).await;
        let stop = CancellationToken::new();
        let active = acquire(&world.url, &stop).await.unwrap();
        world.close_connections();
        active.lost().await;
        acquire(&world.url, &stop).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_stops_and_a_missing_queue_is_named() {
    bounded(async {
        let world = World::with(&queues(vec![leader()])).await;
        let stop = CancellationToken::new();
        let _active = acquire(&world.url, &CancellationToken::new()).await.unwrap();
        let (candidate, ()) = tokio::join!(acquire(&world.url, &stop), async { stop.cancel() });
        assert!(matches!(candidate, Err(BrokerError::Closed)), "{candidate:?}");

        let empty = World::with(&queues(Vec::new())).await;
        let error = acquire(&empty.url, &CancellationToken::new()).await.unwrap_err();
        assert!(matches!(&error, BrokerError::NoQueue { queue } if queue == names::AGGREGATOR_LEADER), "{error}");
    })
    .await;
}
