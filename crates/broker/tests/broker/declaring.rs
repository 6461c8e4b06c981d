//! Observing a broker and applying a plan to it.

use broker::{AmqpUrl, apply, observe, server_version};
use testkit::shared_vhost;
use topology::{Action, Observed, Plan, QueueKind, Topology, plan};

use crate::support::{World, bounded, queue, queues};

async fn plan_for(url: &AmqpUrl, topology: &Topology) -> Plan {
    let version = server_version(url).await.unwrap();
    plan(topology, &version, &observe(url, topology).await.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_broker_gets_everything_and_then_nothing_more() {
    bounded(async {
        let vhost = shared_vhost().unwrap();
        let url = vhost.url().parse().unwrap();
        let topology = Topology::embedded().unwrap();
        assert_eq!(observe(&url, &topology).await.unwrap(), Observed::absent(&topology));

        let first = plan_for(&url, &topology).await;
        assert_eq!(first.count('+'), topology.exchanges.len() + topology.queues.len());
        apply(&url, &first).await.unwrap();
        let second = plan_for(&url, &topology).await;
        assert!(second.is_clean(), "{second}");
        apply(&url, &second).await.unwrap();

        let name = vhost.name();
        let count = |what: &str| vhost.node().evaluate(&format!("length({what}(<<\"{name}\">>)).")).unwrap();
        assert_eq!(count("rabbit_amqqueue:list"), topology.queues.len().to_string());
        // RabbitMQ adds one binding per queue, to the default exchange.
        assert_eq!(count("rabbit_binding:list"), (topology.bindings.len() + topology.queues.len()).to_string());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_differs_is_shown_and_left_alone() {
    bounded(async {
        let there = queues(vec![queue("lane", QueueKind::Quorum, &[("x-max-length", "10")])]);
        let wanted = queues(vec![
            queue("lane", QueueKind::Quorum, &[("x-max-length", "20")]),
            queue("other", QueueKind::Classic, &[]),
        ]);
        let world = World::with(&there).await;
        let steps = plan_for(&world.url, &wanted).await;
        assert!(
            matches!(&steps.steps[0].action, Action::Drift { detail } if detail.contains("x-max-length")),
            "{steps}"
        );
        assert_eq!(steps.steps[1].action, Action::Create);
        apply(&world.url, &steps).await.unwrap();
        assert!(plan_for(&world.url, &there).await.is_clean());
        assert_eq!(plan_for(&world.url, &wanted).await.count('='), 1);
    })
    .await;
}
