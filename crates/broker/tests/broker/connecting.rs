//! Connecting where nobody answers, and asking a server who it is.

use std::{net::TcpListener, time::Duration};

use broker::{BrokerError, Patience, Publisher, connect_once, server_version};
use testkit::shared_broker;
use tokio_util::sync::CancellationToken;

use crate::support::bounded;

#[tokio::test(flavor = "multi_thread")]
async fn a_port_without_a_broker_ends_patience() {
    bounded(async {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("amqp://guest:s3cret@127.0.0.1:{port}/%2f").parse().unwrap();
        let patience = Patience::For(Duration::from_millis(300));
        let error = Publisher::start(&url, "test", patience, CancellationToken::new()).await.unwrap_err();
        let BrokerError::Connect { tried_ms, .. } = &error else { panic!("{error}") };
        assert!(*tried_ms >= 300, "gave up after {tried_ms} ms");
        assert!(error.to_string().contains(&format!("amqp://guest:***@127.0.0.1:{port}/%2f")), "{error}");
        assert!(server_version(&url).await.is_err());
    })
    .await;
}

/// lapin's own limit ends with the TCP connection, so that a paused broker held its client for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_nothing_ends_the_attempt() {
    bounded(async {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = silent.local_addr().unwrap().port();
        let url = format!("amqp://127.0.0.1:{port}/%2f?connection_timeout=200").parse().unwrap();
        let error = connect_once(&url, "test").await.unwrap_err();
        assert!(matches!(error, BrokerError::Connect { .. }), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_a_broker_ends_with_the_stop() {
    bounded(async {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("amqp://127.0.0.1:{port}/%2f").parse().unwrap();
        let stop = CancellationToken::new();
        let (started, ()) = tokio::join!(Publisher::start(&url, "test", Patience::Endless, stop.clone()), async {
            stop.cancel();
        });
        assert!(matches!(started, Err(BrokerError::Closed)), "{started:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_says_its_version() {
    bounded(async {
        let node = shared_broker();
        let version = server_version(&node.url().parse().unwrap()).await.unwrap();
        assert_eq!(version.to_string(), node.ctl(&["version"]).unwrap().trim());
    })
    .await;
}
