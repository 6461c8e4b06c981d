//! The same work as Augur's daemons do it, and no-op jobs at a steady rate.

use std::time::{Duration, Instant};

use broker::{AmqpUrl, Outgoing, Patience, Publisher, Settlement, Start, Subscription};
use futures_util::{StreamExt, future, stream};
use messages::{Encoded, Job, JobId, JobSpec, Priority, RunId, RunRef, RunSubmitted, TestSpec, Timestamp, encode};
use testkit::builders;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use topology::names;

use super::{ACK_EVERY_MESSAGES, Acks, Answer, BODY, EXCHANGE, LANE, PREFETCH, ROUTING_KEY, WINDOW};

/// The broker runs; it has no reason to be late.
const PATIENCE: Patience = Patience::For(Duration::from_secs(30));

/// Publishes `count` messages; gives the time from the first to the last confirm.
pub(super) async fn publish(url: &AmqpUrl, count: usize) -> Answer<Duration> {
    let publisher = publisher(url).await?;
    let message = Encoded { message_type: "bench", schema_version: 1, body: BODY.to_vec() };
    let begin = Instant::now();
    let publishing = (0..count).map(|number| {
        let message_id = number.to_string();
        publisher.publish(outgoing(EXCHANGE, ROUTING_KEY, message_id, message.clone()))
    });
    let mut confirms = stream::iter(publishing).buffer_unordered(WINDOW);
    while let Some(confirm) = confirms.next().await {
        confirm?;
    }
    Ok(begin.elapsed())
}

/// Consumes `count` messages; gives the time from before the connection to the last ack.
pub(super) async fn consume(url: &AmqpUrl, count: usize, acks: Acks) -> Answer<Duration> {
    let begin = Instant::now();
    let stop = CancellationToken::new();
    let mut lane = Subscription::start(url, "bench", LANE, Start::Queue, PREFETCH, PATIENCE, &stop).await?;
    for number in 1..=count {
        let delivery = lane.next().await.ok_or("the subscription ended")?;
        match acks {
            Acks::Each => delivery.settle(Settlement::Done).await?,
            Acks::Multiple if number % ACK_EVERY_MESSAGES == 0 || number == count => {
                delivery.settle(Settlement::DoneThrough).await?;
            }
            Acks::Multiple => {}
        }
    }
    Ok(begin.elapsed())
}

/// Submits `count` no-op jobs, `per_s` of them in a second whatever becomes of them, and gives their run's id.
///
/// A job's `submitted_at` is the moment at which it is published, so its wait is the broker's and the worker's.
pub(super) async fn pace(url: &AmqpUrl, count: u32, per_s: f64) -> Answer<RunId> {
    let publisher = publisher(url).await?;
    let run_id = RunId::new();
    let suite = "paced".to_owned();
    let announcement = RunSubmitted {
        run_id,
        suite: suite.clone(),
        jobs_total: count,
        submitted_at: Timestamp::now(),
        ..builders::run_submitted()
    };
    publisher.publish(outgoing(names::RESULTS, "", run_id.to_string(), encode(&announcement)?)).await?;
    let run = RunRef { run_id, suite, jobs_total: count, ..builders::run_ref() };
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / per_s));
    // A late tick is made up for, or the rate would fall just when the machine is busy.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut confirms = Vec::new();
    for number in 0..count {
        ticks.tick().await;
        let job = noop(number, run.clone());
        let job = outgoing(names::JOBS, &job.routing_key(), job.job_id.to_string(), encode(&job)?);
        let publisher = publisher.clone();
        confirms.push(tokio::spawn(async move { publisher.publish(job).await }));
    }
    for confirm in future::join_all(confirms).await {
        confirm??;
    }
    Ok(run_id)
}

fn noop(number: u32, run: RunRef) -> Job {
    Job {
        job_id: JobId::new(),
        run,
        case: format!("noop {number}"),
        priority: Priority::Normal,
        submitted_at: Timestamp::now(),
        spec: JobSpec::Test(TestSpec { profile: "noop".to_owned(), ..TestSpec::default() }),
        ..builders::test_job()
    }
}

async fn publisher(url: &AmqpUrl) -> Answer<Publisher> {
    Ok(Publisher::start(url, "bench", PATIENCE, CancellationToken::new()).await?)
}

fn outgoing(exchange: &str, routing_key: &str, message_id: String, message: Encoded) -> Outgoing {
    Outgoing::new(exchange, routing_key, message_id, message).attempt(1)
}
