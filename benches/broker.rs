//! The broker as Augur uses it, on a private node: publish with confirms, consume and settle, read a stream.
//!
//! One iteration moves [`MESSAGES`] messages, connections included where a daemon would open them too.

use std::time::{Duration, Instant};

use broker::{AmqpUrl, Outgoing, Patience, Publisher, Settlement, Start, Subscription, WINDOW_MESSAGES_MAX};
use criterion::{Criterion, SamplingMode, Throughput};
use futures_util::{StreamExt, stream};
use messages::{Encoded, encode};
use testkit::{Vhost, builders, shared_vhost};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use topology::{Topology, names};

/// Messages per iteration.
const MESSAGES: usize = 10_000;
/// Deliveries in flight.
const PREFETCH: u16 = 1_000;
/// Stream messages between two acks.
const ACK_EVERY_MESSAGES: usize = 500;
/// The broker runs; it has no reason to be late.
const PATIENCE: Patience = Patience::For(Duration::from_secs(30));
/// The lane of [`builders::benchmark_job`].
const LANE: &str = "jobs.cpu.normal";

fn main() {
    let mut criterion = Criterion::default()
        .configure_from_args()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5));
    let runtime = Runtime::new().expect("a runtime");
    let broker = runtime.block_on(Broker::start());
    let mut group = criterion.benchmark_group("broker");
    group.throughput(Throughput::Elements(MESSAGES as u64)).sampling_mode(SamplingMode::Flat);
    let mut bench = |name: &str, once: &dyn Fn() -> Duration| {
        group.bench_function(name, |bencher| bencher.iter_custom(|iterations| (0..iterations).map(|_| once()).sum()));
    };
    bench("publish_to_lane", &|| runtime.block_on(broker.through_lane()).0);
    bench("consume_from_lane", &|| runtime.block_on(broker.through_lane()).1);
    bench("publish_to_stream", &|| runtime.block_on(broker.publish_to_stream()));
    bench("read_stream", &|| runtime.block_on(broker.read_stream()));
    group.finish();
    criterion.final_summary();
}

struct Broker {
    url: AmqpUrl,
    publisher: Publisher,
    _vhost: Vhost,
}

impl Broker {
    /// A virtual host with Augur's queues; its stream of results holds the messages of one iteration.
    async fn start() -> Self {
        let vhost = shared_vhost().expect("a virtual host");
        let url: AmqpUrl = vhost.url().parse().expect("a valid URL");
        let topology = Topology::embedded().expect("a valid topology");
        let version = broker::server_version(&url).await.expect("the node's version");
        let plan = topology::plan(&topology, &version, &topology::Observed::absent(&topology)).expect("a plan");
        broker::apply(&url, &plan).await.expect("queues");
        let publisher =
            Publisher::start(&url, "bench publish", PATIENCE, CancellationToken::new()).await.expect("a connection");
        let broker = Self { url, publisher, _vhost: vhost };
        broker.publish_to_stream().await;
        broker
    }

    /// Fills a lane and empties it again; gives the time of either.
    async fn through_lane(&self) -> (Duration, Duration) {
        let job = builders::benchmark_job();
        let published = self.publish(names::JOBS, &job.routing_key(), &encode(&job).expect("a job")).await;
        let begin = Instant::now();
        let mut lane = self.subscribe(LANE, Start::Queue).await;
        for _ in 0..MESSAGES {
            let delivery = lane.next().await.expect("a job");
            delivery.settle(Settlement::Done).await.expect("settled");
        }
        (published, begin.elapsed())
    }

    async fn publish_to_stream(&self) -> Duration {
        self.publish(names::RESULTS, "", &encode(&builders::test_result()).expect("a result")).await
    }

    async fn read_stream(&self) -> Duration {
        let begin = Instant::now();
        let mut results = self.subscribe(names::RESULTS, Start::StreamFirst).await;
        for read in 1..=MESSAGES {
            let delivery = results.next().await.expect("a result");
            if read % ACK_EVERY_MESSAGES == 0 {
                delivery.settle(Settlement::DoneThrough).await.expect("settled");
            }
        }
        begin.elapsed()
    }

    async fn subscribe(&self, queue: &str, start: Start) -> Subscription {
        let stop = CancellationToken::new();
        Subscription::start(&self.url, "bench consume", queue, start, PREFETCH, PATIENCE, &stop).await.expect("a queue")
    }

    /// Publishes until every message is confirmed.
    async fn publish(&self, exchange: &str, routing_key: &str, message: &Encoded) -> Duration {
        let begin = Instant::now();
        let publishing = (0..MESSAGES).map(|number| {
            let outgoing = Outgoing::new(exchange, routing_key, number.to_string(), message.clone());
            self.publisher.publish(outgoing.attempt(1))
        });
        let mut confirms = stream::iter(publishing).buffer_unordered(WINDOW_MESSAGES_MAX);
        while let Some(confirm) = confirms.next().await {
            confirm.expect("confirmed");
        }
        begin.elapsed()
    }
}
