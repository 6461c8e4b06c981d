//! What a publisher is told: stored, unroutable, refused, unconfirmed, closed.

use std::time::Duration;

use broker::{BrokerError, Patience, PrivateNode, Publisher, Settlement, Start};
use futures_util::future::join_all;
use messages::{Job, encode};
use testkit::builders;
use tokio_util::sync::CancellationToken;
use topology::{QueueKind, Topology};

use crate::support::{
    PATIENCE, World, binding, bounded, crash, declare, fanout, publisher, queue, queues, to_exchange, to_queue,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_arrives_as_it_was_sent_and_goes_once_settled() {
    bounded(async {
        let world = World::with(&queues(vec![queue("lane", QueueKind::Quorum, &[])])).await;
        let publisher = world.publisher().await;
        let job = builders::benchmark_job();
        let mut outgoing = to_queue("lane", job.job_id);
        outgoing.message = encode(&job).unwrap();
        outgoing.attempt = Some(3);
        outgoing.returns = 2;
        publisher.publish(outgoing).await.unwrap();

        let mut subscription = world.subscribe("lane", Start::Queue).await;
        let delivery = subscription.next().await.unwrap();
        assert_eq!(delivery.message_type(), Some("job"));
        assert_eq!(delivery.schema_version(), Some(1));
        assert_eq!((delivery.attempt(), delivery.returns()), (3, 2));
        assert_eq!(delivery.message_id(), Some(job.job_id.to_string().as_str()));
        assert_eq!((delivery.exchange(), delivery.routing_key()), ("", "lane"));
        assert!(!delivery.is_redelivered());
        assert_eq!(delivery.stream_offset(), None);
        assert_eq!(delivery.decode::<Job>().unwrap(), job);
        delivery.settle(Settlement::Done).await.unwrap();
        drop(subscription);

        publisher.publish(to_queue("lane", "next")).await.unwrap();
        let mut subscription = world.subscribe("lane", Start::Queue).await;
        assert_eq!(subscription.next().await.unwrap().message_id(), Some("next"));
    })
    .await;
}

/// lapin gives a returned message to whichever confirm comes next, so that a lost message looked stored.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_messages_each_learns_its_own_fate() {
    const MESSAGES: usize = 3_000;
    bounded(async {
        let world = World::with(&Topology {
            exchanges: vec![fanout("bound"), fanout("loose")],
            queues: vec![queue("lane", QueueKind::Quorum, &[])],
            bindings: vec![binding("bound", "lane")],
        })
        .await;
        let publisher = world.publisher().await;
        let publish =
            |id: usize| publisher.publish(to_exchange(if id.is_multiple_of(3) { "loose" } else { "bound" }, id));
        let answers = join_all((0..MESSAGES).map(publish)).await;
        for (id, answer) in answers.iter().enumerate() {
            match answer {
                Ok(()) => assert_ne!(id % 3, 0, "message {id} is lost and was called stored"),
                Err(BrokerError::Unroutable { exchange, .. }) => {
                    assert_eq!((id % 3, exchange.as_str()), (0, "loose"), "message {id} is stored and was called lost");
                }
                Err(error) => panic!("message {id}: {error}"),
            }
        }
    })
    .await;
}

/// The broker closes the channel for it; the message must not be tried for ever, and the others must not suffer.
#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_is_not_there_fails_its_own_messages_only() {
    bounded(async {
        let world = World::with(&queues(vec![queue("lane", QueueKind::Quorum, &[])])).await;
        let publisher = world.publisher().await;
        let publish =
            |id: usize| publisher.publish(if id == 50 { to_exchange("nowhere", id) } else { to_queue("lane", id) });
        for (id, answer) in join_all((0..100).map(publish)).await.into_iter().enumerate() {
            match answer {
                Ok(()) => assert_ne!(id, 50),
                Err(BrokerError::Unroutable { exchange, reply, .. }) => {
                    assert_eq!((id, exchange.as_str()), (50, "nowhere"));
                    assert!(reply.contains("no exchange 'nowhere'"), "{reply}");
                }
                Err(error) => panic!("message {id}: {error}"),
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_until_there_is_room() {
    bounded(async {
        let full = queue("full", QueueKind::Classic, &[("x-max-length", "1"), ("x-overflow", "reject-publish")]);
        let world = World::with(&queues(vec![full])).await;
        let publisher = publisher(&world.url, Patience::For(Duration::from_secs(5))).await;
        publisher.publish(to_queue("full", "first")).await.unwrap();
        let refused = publisher.publish(to_queue("full", "second")).await.unwrap_err();
        assert!(matches!(&refused, BrokerError::Refused { routing_key, .. } if routing_key == "full"), "{refused}");
        assert!(refused.is_transient());
        let publisher = publisher.patient();
        let second = tokio::spawn(async move { publisher.publish(to_queue("full", "second")).await });
        let mut taking = world.subscribe("full", Start::Queue).await;
        for id in ["first", "second"] {
            let delivery = taking.next().await.unwrap();
            assert_eq!(delivery.message_id(), Some(id));
            delivery.settle(Settlement::Done).await.unwrap();
        }
        second.await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_published_after_the_stop() {
    bounded(async {
        let world = World::with(&queues(vec![queue("lane", QueueKind::Quorum, &[])])).await;
        let stop = CancellationToken::new();
        let publisher = Publisher::start(&world.url, "test", crate::support::PATIENCE, stop.clone()).await.unwrap();
        publisher.publish(to_queue("lane", "before")).await.unwrap();
        stop.cancel();
        let closed = publisher.publish(to_queue("lane", "after")).await.unwrap_err();
        assert!(matches!(closed, BrokerError::Closed), "{closed}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_clone_takes_the_connection_with_it() {
    bounded(async {
        let world = World::with(&queues(vec![queue("lane", QueueKind::Quorum, &[])])).await;
        let publisher = world.publisher().await;
        let clone = publisher.clone();
        drop(publisher);
        clone.publish(to_queue("lane", "still there")).await.unwrap();
        world.until_connections(1).await;
        drop(clone);
        world.until_connections(0).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn patience_ends_while_the_broker_stays_away_and_the_publisher_outlives_it() {
    bounded(async {
        let node = PrivateNode::start().unwrap();
        let url = node.url().parse().unwrap();
        declare(&url, &queues(vec![queue("lane", QueueKind::Quorum, &[])])).await;
        let patient = publisher(&url, Patience::Endless).await;
        let hasty = publisher(&url, Patience::For(Duration::from_millis(200))).await;

        crash(&node);
        let error = hasty.publish(to_queue("lane", "hasty")).await.unwrap_err();
        assert!(matches!(error, BrokerError::Unconfirmed { waited_ms: 200, .. }), "{error}");
        let waiting = tokio::spawn(async move { patient.publish(to_queue("lane", "patient")).await });
        node.restart().unwrap();
        waiting.await.unwrap().unwrap();
    })
    .await;
}

/// A cluster that loses the leader of a stream may forget a confirm on a channel that stays open. A queue whose process
/// is suspended owes one as well, for as long as the test wants.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_does_not_confirm_is_published_again() {
    bounded(async {
        let world = World::with(&queues(vec![queue("lane", QueueKind::Quorum, &[])])).await;
        let overdue_after = Duration::from_millis(300);
        let publisher =
            Publisher::start_with(&world.url, "test", PATIENCE, overdue_after, CancellationToken::new()).await.unwrap();
        publisher.publish(to_queue("lane", "first")).await.unwrap();
        let node = world.vhost.node();
        let leader = format!("{}_lane", world.vhost.name());
        node.evaluate(&format!("sys:suspend('{leader}').")).unwrap();
        let waiting = tokio::spawn(async move { publisher.publish(to_queue("lane", "late")).await });
        // A new channel makes itself known to the queue before it publishes to it, and waits in its mailbox.
        let again = format!(
            "Wait = fun Wait() -> {{messages, All}} = process_info(whereis('{leader}'), messages), \
             case string:find(io_lib:format(\"~p\", [All]), \"register_enqueuer\") of \
             nomatch -> timer:sleep(50), Wait(); _ -> ok end end, Wait()."
        );
        assert_eq!(tokio::task::spawn_blocking(move || node.evaluate(&again)).await.unwrap().unwrap(), "ok");
        assert!(!waiting.is_finished());
        node.evaluate(&format!("sys:resume('{leader}').")).unwrap();
        waiting.await.unwrap().unwrap();
    })
    .await;
}

/// One that is stuck on the broker's side neither confirms nor closes, and its connection lives on.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_does_not_close_is_left_behind() {
    bounded(async {
        let world = World::with(&queues(vec![queue("lane", QueueKind::Quorum, &[])])).await;
        let (overdue_after, stop) = (Duration::from_millis(300), CancellationToken::new());
        let publisher = Publisher::start_with(&world.url, "test", PATIENCE, overdue_after, stop).await.unwrap();
        publisher.publish(to_queue("lane", "first")).await.unwrap();
        let (node, name) = (world.vhost.node(), world.vhost.name());
        let ours = format!("(catch rabbit_channel:info(C, [vhost])) =:= [{{vhost, <<\"{name}\">>}}]");
        node.evaluate(&format!("[sys:suspend(C) || C <- rabbit_channel:list(), {ours}].")).unwrap();
        publisher.publish(to_queue("lane", "late")).await.unwrap();
        node.evaluate("[catch sys:resume(C) || C <- rabbit_channel:list()].").unwrap();
    })
    .await;
}
