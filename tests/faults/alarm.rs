//! A broker out of memory: it blocks whoever publishes.

use broker::{Outgoing, Patience, Publisher};
use messages::Encoded;
use testkit::PrivateNode;
use tokio_util::sync::CancellationToken;
use topology::names;

use crate::support::{LIMIT, World, assert_counts, block_on, text};

/// Every worker's lease, in seconds: long enough for the aggregator to hear of the alarm within a second or two.
const LEASE_S: &str = "8";
/// Looks at a lane, each of which starts a process; reached only by a failing test.
const LOOKS_MAX: usize = 100;
/// RabbitMQ's usual limit, as a share of the machine's memory.
const WATERMARK: &str = "0.4";

/// A lane that only the worker of the alarm's time takes from.
const LANE: &str = "jobs.openvino.low";

/// Publishes what nobody can read.
fn publish_garbage(world: &World, exchange: &str, routing_key: &str) {
    block_on(async {
        let url = world.url().parse().expect("a URL");
        let publisher = Publisher::start(&url, "test", Patience::For(LIMIT), CancellationToken::new()).await;
        let message = Encoded { message_type: "job", schema_version: 1, body: b"no MessagePack map".to_vec() };
        let garbage = Outgoing::new(exchange, routing_key, "garbage", message);
        publisher.expect("a broker").publish(garbage).await.expect("stored");
    });
}

/// Looks until the lane has this many messages, settled by nobody yet; the node counts them every few seconds.
#[track_caller]
fn wait_for_lane(node: &PrivateNode, messages: &str) {
    let look = || {
        let listed = node.ctl(&["list_queues", "--quiet", "--no-table-headers", "name", "messages"]).expect("listed");
        listed.lines().any(|line| line.strip_prefix(LANE).is_some_and(|found| found.trim() == messages))
    };
    assert!(std::iter::repeat_with(look).take(LOOKS_MAX).any(|found| found), "{LANE} never has {messages} messages");
}

fn limit_memory(node: &PrivateNode, watermark: &str) {
    node.ctl(&["set_vm_memory_high_watermark", watermark]).expect("set");
}

#[test]
fn an_alarm_longer_than_the_lease_neither_ends_nor_charges_a_claimed_job_and_acks_go_on() {
    let node = PrivateNode::start().expect("a node");
    let world = World::bare(&node.url(), None);
    world.augur(&["topology", "apply"]).expect(0);
    world.set("AUGUR_WORKER__CLAIM_AFTER_S", "0");
    world.set("AUGUR_WORKER__LEASE_S", LEASE_S);
    let mut aggregator = world.aggregator();
    let mut worker = world.worker("w1", &[]);
    let (job, run) = world.submit_hold("long");
    world.holds().next();
    worker.wait_for_line("job claimed", LIMIT).expect("claimed");
    publish_garbage(&world, names::DEAD_LETTERS, "");
    publish_garbage(&world, names::JOBS, "openvino.low");
    wait_for_lane(&node, "1");

    limit_memory(&node, "0");
    aggregator.wait_for_line("no lease lapses", LIMIT).expect("it hears of the alarm");
    let purged = world.augur(&["dead-letter", "purge", "--all", "--yes"]);
    assert!(purged.code == Some(0), "{purged:?}");
    assert_eq!(world.augur(&["dead-letter", "list", "--format", "json"]).json(), serde_json::json!([]), "acks arrived");
    let mut other = world.worker("w2", &["--platforms", "openvino"]);
    other.wait_for_line("it becomes a dead letter", LIMIT).expect("it takes the job");
    wait_for_lane(&node, "0");
    // Four come in a lease's time, so six are past what the aggregator grants.
    for _ in 0..6 {
        worker.wait_for_line("leased jobs go on", LIMIT).expect("it looks again");
    }
    limit_memory(&node, WATERMARK);
    aggregator.wait_for_line("all leases begin anew", LIMIT).expect("it hears of the end");

    world.holds().let_go(1);
    assert_counts(&world.complete(&run), 1, [1, 0, 0, 0]);
    assert_eq!(world.results(&run)[0]["attempt"], 1);
    let shown = world.augur(&["job", "show", &job, "--format", "json"]).json();
    assert_eq!(text(&shown, "worker_id"), "w1");
    assert!(!aggregator.stderr().contains("lease lapsed"), "{}", aggregator.stderr());
}
