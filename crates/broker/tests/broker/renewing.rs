//! Silence: what a queue counts as delivered and nobody has got comes again.

use std::time::{Duration, Instant};

use broker::{Settlement, Start, Subscription};
use topology::QueueKind;

use crate::support::{World, bounded, link, queue, queues, to_queue};

/// Short, so that the test is.
const SILENCE_MAX: Duration = Duration::from_millis(200);

/// A cluster that changes the leader of a quorum queue may lose deliveries on their way. To the broker one that the
/// client drops looks the same: delivered, not settled, and nobody has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_got_lost_comes_again_after_silence() {
    bounded(async {
        let world = World::with(&queues(vec![queue("lane", QueueKind::Quorum, &[])])).await;
        let link = link(&world.url).with_silence_max(SILENCE_MAX);
        let began = Instant::now();
        let mut lane = Subscription::on(&link, "lane", Start::Queue, 10).await.unwrap();
        let standing = lane.standing();
        world.publisher().await.publish(to_queue("lane", "lost")).await.unwrap();
        drop(lane.next().await.unwrap());
        let again = lane.next().await.unwrap();
        assert_eq!((again.message_id(), again.returns()), (Some("lost"), 1));
        again.settle(Settlement::Done).await.unwrap();
        // One that takes longer than two seconds counts as a loss.
        assert!(began.elapsed() >= Duration::from_secs(2) || !standing.has_changed().unwrap(), "a renewal is no loss");
        world.publisher().await.publish(to_queue("lane", "next")).await.unwrap();
        assert_eq!(lane.next().await.unwrap().message_id(), Some("next"));
    })
    .await;
}
