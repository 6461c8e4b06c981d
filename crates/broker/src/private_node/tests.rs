//! What a node leaves behind, and what is said when it does not start.

use std::net::TcpStream;

use super::*;

#[test]
fn lives_dies_restarts_and_leaves_nothing() {
    let node = PrivateNode::start().expect("a node");
    let port = node.port();
    let directory = node.directory().to_owned();
    TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    assert_eq!(node.evaluate("rabbit_vhost:add(<<\"kept\">>, <<\"test\">>).").expect("a new virtual host"), "ok");

    node.kill().expect("it dies");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(node.evaluate("ok.").is_err());
    assert!(matches!(node.pause(), Err(PrivateNodeError::NotRunning)));

    node.restart().expect("it starts again");
    TcpStream::connect(("127.0.0.1", port)).expect("on the same port");
    assert!(node.ctl(&["list_vhosts"]).expect("rabbitmqctl").contains("kept"));
    let error = node.ctl(&["no_such_command"]).expect_err("no such command");
    assert!(error.to_string().contains("no_such_command"), "{error}");

    let epmd = node.ports.epmd;
    drop(node);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(TcpStream::connect(("127.0.0.1", epmd)).is_err(), "its port mapper is still there");
    assert!(!directory.exists());
}

#[test]
fn a_wrong_setting_shows_the_log() {
    let options =
        PrivateNodeOptions { configuration: vec!["no_such_setting = 1".to_owned()], ..PrivateNodeOptions::default() };
    let error = PrivateNode::start_with(&options).expect_err("the setting does not exist");
    assert!(matches!(&error, PrivateNodeError::Ended { log } if log.contains("no_such_setting")), "{error}");
}

#[test]
fn a_missing_server_is_named() {
    let options = PrivateNodeOptions { scripts: Some("/nowhere".into()), ..PrivateNodeOptions::default() };
    let error = PrivateNode::start_with(&options).expect_err("nothing there");
    assert_eq!(error.to_string(), "no RabbitMQ at /nowhere/rabbitmq-server; install the package rabbitmq-server");
}

#[test]
fn a_tick_of_channels_is_set_and_alarms_come_and_go() {
    let options = PrivateNodeOptions { channel_tick_interval_ms: Some(1_000), ..PrivateNodeOptions::default() };
    let node = PrivateNode::start_with(&options).expect("a node");
    let tick = node.evaluate("application:get_env(rabbit, channel_tick_interval).").expect("an answer");
    assert_eq!(tick, "{ok, 1000}");
    let alarms = || node.evaluate("rabbit_alarm:get_alarms().").expect("an answer");
    for (resource, set) in [
        ("memory", PrivateNode::set_memory_alarm as fn(&PrivateNode, bool) -> _),
        ("disk", PrivateNode::set_disk_alarm),
    ] {
        set(&node, true).expect("it comes");
        assert!(alarms().contains(resource), "{}", alarms());
        set(&node, false).expect("it goes");
        assert_eq!(alarms(), "[]");
    }
    assert_eq!((node.connections().expect("a number"), node.channels().expect("a number")), (0, 0));
}
