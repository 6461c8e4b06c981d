//! Policies that make queues other than they were declared.

use std::net::TcpListener;

use testkit::{PrivateNode, PrivateNodeOptions};

use crate::support::World;

/// Each starts a process; reached only by a failing test.
const CHECKS_MAX: usize = 200;

/// AMQP does not show policies: a lane that dropped its oldest jobs looked as declared.
#[test]
fn a_policy_that_drops_messages_is_drift() {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let listen = ["ip = 127.0.0.1".to_owned(), format!("port = {port}")].map(|line| format!("management.tcp.{line}"));
    let plugins = vec!["rabbitmq_management".to_owned()];
    let options = PrivateNodeOptions { plugins, configuration: listen.to_vec(), ..PrivateNodeOptions::default() };
    let node = PrivateNode::start_with(&options).expect("a node");
    let world = World::bare(&node.url(), None);
    world.augur(&["topology", "apply"]).expect(0);
    let unseen = world.augur(&["topology", "check"]);
    assert!(unseen.stderr.contains("policies were not looked at"), "{unseen:?}");
    unseen.expect(0);

    world.set("AUGUR_BROKER__MANAGEMENT_URL", &format!("http://guest:guest@127.0.0.1:{port}"));
    world.augur(&["topology", "check"]).expect(0);
    let policy = ["set_policy", "--apply-to", "queues", "drop", "^jobs\\.cpu\\.high$", "{\"overflow\":\"drop-head\"}"];
    node.ctl(&policy).expect("set");
    // The management API looks at queues every five seconds.
    let mut checks = std::iter::repeat_with(|| world.augur(&["topology", "check"])).take(CHECKS_MAX);
    let checked = checks.find(|checked| checked.code != Some(0)).expect("it is found").expect(1);
    assert!(checked.contains("queue jobs.cpu.high: policy `drop` sets overflow to \"drop-head\""), "{checked}");

    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    world.set("AUGUR_BROKER__MANAGEMENT_URL", &format!("http://guest:guest@{closed}"));
    let unreached = world.augur(&["topology", "check"]);
    assert!(unreached.stderr.contains("RabbitMQ's management API did not list queues"), "{unreached:?}");
    let plan = unreached.expect(3);
    assert!(plan.contains("jobs.cpu.high"), "what AMQP shows is told all the same: {plan}");
}
