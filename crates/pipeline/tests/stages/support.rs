//! A virtual host with the whole topology, and messages to put into it.

use std::time::Duration;

use broker::{AmqpUrl, Outgoing, Patience, Publisher, Start, Subscription, apply};
use messages::{Encoded, Job, JobResult, Message, encode};
use pipeline::{AggregatorSettings, PipelineError, aggregate};
use store::Store;
use testkit::{Vhost, builders, shared_vhost};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use topology::{Observed, ServerVersion, Topology, names, plan};

/// How long a test may take before it counts as hung.
const TEST_MAX: Duration = Duration::from_mins(2);
/// How long anything waits for a broker that is there.
pub(crate) const PATIENCE: Patience = Patience::For(Duration::from_mins(1));

/// A virtual host of one's own on the shared node, as `queues.yaml` describes it unless said otherwise.
pub(crate) struct World {
    pub(crate) vhost: Vhost,
    pub(crate) url: AmqpUrl,
    pub(crate) publisher: Publisher,
    pub(crate) stop: CancellationToken,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(&Topology::embedded().unwrap()).await
    }

    pub(crate) async fn with(topology: &Topology) -> Self {
        let vhost = shared_vhost().unwrap();
        let url: AmqpUrl = vhost.url().parse().unwrap();
        declare_as(&url, topology).await;
        let stop = CancellationToken::new();
        let publisher = Publisher::start(&url, "test publish", PATIENCE, stop.clone()).await.unwrap();
        Self { vhost, url, publisher, stop }
    }

    /// Publishes to the result stream.
    pub(crate) async fn record<M: Message>(&self, message_id: &str, message: &M) {
        self.publish(Outgoing::new(names::RESULTS, "", message_id, encode(message).unwrap())).await;
    }

    /// Starts an aggregator over this database, until the stop; the receiver hears of its commits.
    pub(crate) fn aggregate(&self, store: &Store) -> (JoinHandle<Result<(), PipelineError>>, watch::Receiver<u64>) {
        let (changes, commits) = watch::channel(0);
        let settings = AggregatorSettings { patience: PATIENCE, ..AggregatorSettings::default() };
        let (url, store, stop) = (self.url.clone(), store.clone(), self.stop.clone());
        (tokio::spawn(async move { aggregate(&url, store, settings, changes, stop).await }), commits)
    }

    /// Takes jobs from a lane.
    pub(crate) async fn lane(&self, queue: &str) -> Subscription {
        Subscription::start(&self.url, "test lane", queue, Start::Queue, 10, PATIENCE, &self.stop).await.unwrap()
    }

    pub(crate) async fn publish(&self, outgoing: Outgoing) {
        self.publisher.publish(outgoing).await.unwrap();
    }
}

/// Declares all of `queues.yaml` of which there is nothing, or nothing different.
pub(crate) async fn declare(url: &AmqpUrl) {
    declare_as(url, &Topology::embedded().unwrap()).await;
}

async fn declare_as(url: &AmqpUrl, topology: &Topology) {
    let steps = plan(topology, &ServerVersion::OLDEST, &Observed::absent(topology)).unwrap();
    apply(url, &steps).await.unwrap();
}

/// Ends a test that hangs.
pub(crate) async fn bounded<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(TEST_MAX, test).await.expect("the test hangs")
}

/// Bytes that are no message of ours.
pub(crate) fn garbage() -> Encoded {
    Encoded { message_type: "job", schema_version: 1, body: b"no MessagePack map".to_vec() }
}

/// The sample job under another number.
pub(crate) fn job(number: u64) -> Job {
    Job { job_id: builders::job_id(number), ..builders::benchmark_job() }
}

/// The sample result of that job.
pub(crate) fn result(number: u64) -> JobResult {
    JobResult { job: job(number), ..builders::job_result() }
}
