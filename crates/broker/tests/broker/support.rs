//! A virtual host with what a test declares in it, and messages to send.

use std::time::Duration;

use broker::{AmqpUrl, Link, Outgoing, Patience, PrivateNode, Publisher, Start, Subscription, apply};
use messages::Encoded;
use testkit::{Vhost, shared_vhost};
use tokio_util::sync::CancellationToken;
use topology::{
    ArgumentValue, Binding, Exchange, ExchangeKind, Observed, Queue, QueueKind, ServerVersion, Topology, plan,
};

/// How long a test may take before it counts as hung: what RabbitMQ forgets is made good within a minute, of a publisher
/// and then of a subscription.
const TEST_MAX: Duration = Duration::from_mins(4);
/// How long anything waits for a broker that is there.
pub(crate) const PATIENCE: Patience = Patience::For(Duration::from_mins(1));

/// A virtual host of one's own on the shared node.
pub(crate) struct World {
    pub(crate) vhost: Vhost,
    pub(crate) url: AmqpUrl,
}

impl World {
    /// With these queues and exchanges declared.
    pub(crate) async fn with(topology: &Topology) -> Self {
        let vhost = shared_vhost().unwrap();
        let url = vhost.url().parse().unwrap();
        declare(&url, topology).await;
        Self { vhost, url }
    }

    pub(crate) async fn publisher(&self) -> Publisher {
        publisher(&self.url, PATIENCE).await
    }

    pub(crate) async fn subscribe(&self, queue: &str, start: Start) -> Subscription {
        subscribe(&self.url, queue, start).await
    }

    /// Has the broker close every connection to this virtual host.
    pub(crate) fn close_connections(&self) {
        self.vhost.node().ctl(&["close_all_connections", "--vhost", self.vhost.name(), "test"]).unwrap();
    }

    /// How many connections the broker has open in this virtual host.
    pub(crate) fn connections(&self) -> usize {
        let name = self.vhost.name();
        let expression = format!("length(rabbit_connection_tracking:list(<<\"{name}\">>)).");
        self.vhost.node().evaluate(&expression).unwrap().parse().unwrap()
    }

    /// Waits until it has so many: it forgets one a little later than that has closed. Each look takes the broker some
    /// milliseconds; the test's own limit ends it.
    pub(crate) async fn until_connections(&self, count: usize) {
        while self.connections() != count {
            tokio::task::yield_now().await;
        }
    }
}

pub(crate) async fn publisher(url: &AmqpUrl, patience: Patience) -> Publisher {
    Publisher::start(url, "test publish", patience, CancellationToken::new()).await.unwrap()
}

pub(crate) async fn subscribe(url: &AmqpUrl, queue: &str, start: Start) -> Subscription {
    let stop = CancellationToken::new();
    Subscription::start(url, "test consume", queue, start, 100, PATIENCE, &stop).await.unwrap()
}

/// A link that lives as long as its subscriptions.
pub(crate) fn link(url: &AmqpUrl) -> Link {
    Link::new(url, "test consume", PATIENCE, &CancellationToken::new())
}

pub(crate) async fn declare(url: &AmqpUrl, topology: &Topology) {
    let steps = plan(topology, &ServerVersion::OLDEST, &Observed::absent(topology)).unwrap();
    apply(url, &steps).await.unwrap();
}

/// Ends a test that hangs.
pub(crate) async fn bounded<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(TEST_MAX, test).await.expect("the test hangs")
}

/// Crashes a node. RabbitMQ 3.10 writes within half a second to disk which quorum queues and streams it has; one that
/// crashes before has them without a leader ever after, which is not what these tests are about.
pub(crate) fn crash(node: &PrivateNode) {
    node.evaluate("lists:foreach(fun dets:sync/1, dets:all()), ok.").unwrap();
    node.kill().unwrap();
}

/// These queues and nothing else.
pub(crate) fn queues(queues: Vec<Queue>) -> Topology {
    Topology { exchanges: Vec::new(), queues, bindings: Vec::new() }
}

pub(crate) fn queue(name: &str, kind: QueueKind, arguments: &[(&str, &str)]) -> Queue {
    let mut all = vec![("x-queue-type".to_owned(), ArgumentValue::Text(kind.as_str().to_owned()))];
    all.extend(arguments.iter().map(|(name, value)| {
        let value = value.parse().map_or_else(|_| ArgumentValue::Text((*value).to_owned()), ArgumentValue::Int);
        ((*name).to_owned(), value)
    }));
    Queue { name: name.to_owned(), kind, arguments: all.into_iter().collect() }
}

pub(crate) fn fanout(name: &str) -> Exchange {
    Exchange { name: name.to_owned(), kind: ExchangeKind::Fanout, alternate_exchange: None }
}

pub(crate) fn binding(exchange: &str, queue: &str) -> Binding {
    Binding { exchange: exchange.to_owned(), queue: queue.to_owned(), routing_key: String::new() }
}

/// A message through the default exchange into `queue`, with its id as its body.
pub(crate) fn to_queue(queue: &str, id: impl std::fmt::Display) -> Outgoing {
    let message_id = id.to_string();
    let body = message_id.clone().into_bytes();
    let message = Encoded { message_type: "test", schema_version: 1, body };
    Outgoing::new("", queue, message_id, message)
}

/// A message through `exchange`.
pub(crate) fn to_exchange(exchange: &str, id: impl std::fmt::Display) -> Outgoing {
    Outgoing { exchange: exchange.to_owned(), ..to_queue("", id) }
}
