//! The one process of several that may do a thing: who is active on a queue with a single active consumer.
//!
//! RabbitMQ delivers such a queue's messages to one of its consumers, the first that came, and to the next one only
//! when that consumer is gone. So whoever is delivered a message is active, and stays so for as long as its channel
//! lives. The messages mean nothing: each candidate drops one in now and then until it is delivered one, the queue
//! keeps the last only, and whoever gets one settles it at once, so that no acknowledgement timeout runs.
//!
//! A process that the broker no longer hears learns of that only after two heartbeats of silence, up to which time
//! both it and its successor may act: what they write must bear that.

use std::time::Duration;

use messages::Encoded;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

use crate::{
    AmqpUrl, BrokerError, Link, Outgoing, Patience, Publisher, Settlement, Start, connect::REFUSED_WAIT_MS, flow::Flow,
};

/// How often a candidate drops a message into the queue, in milliseconds: so long may a succession take after the
/// broker has noticed that the predecessor is gone.
const TOKEN_EVERY_MS: u64 = 2_000;
/// Enough: they are settled as they come.
const TOKEN_PREFETCH: u16 = 1;
/// AMQP `type` of the messages.
const TOKEN_TYPE: &str = "token";

/// Being the active consumer of a queue; ends when this is dropped.
#[derive(Debug)]
pub struct SoleConsumer {
    lost: CancellationToken,
    _resigned: DropGuard,
}

impl SoleConsumer {
    /// Waits until this process is the active consumer of `queue`.
    ///
    /// `patience` bounds the first connection only.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Connect`] if no broker answers within `patience`, [`BrokerError::NoQueue`] if it has no such
    /// queue, [`BrokerError::Closed`] after `stop`.
    pub async fn acquire(
        url: &AmqpUrl,
        queue: &str,
        name: &str,
        patience: Patience,
        stop: &CancellationToken,
    ) -> Result<Self, BrokerError> {
        let link = Link::new(url, name, patience, stop);
        let mut flow = Flow::open(&link, queue, Start::Queue, TOKEN_PREFETCH, patience).await?;
        // On a connection of its own, which ends with the candidacy: the broker blocks those that publish.
        let tokens = Publisher::start(url, &format!("{name} candidate"), patience, stop.clone()).await?;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Err(BrokerError::Closed),
                error = offer(&tokens, queue) => return Err(error),
                is_active = takes_token(&mut flow) => {
                    if is_active { break }
                    warn!(queue, "candidacy lost with its channel");
                }
                // Another one is active, or the cluster has lost a message on its way.
                () = tokio::time::sleep(link.silence_max()) => {
                    if let Err(error) = flow.close().await {
                        warn!(queue, %error, "candidacy could not be ended to be renewed");
                    }
                }
            }
            flow = open_again(&link, queue, stop).await?;
        }
        info!(queue, "this process is the active one");
        let (lost, resigned) = (CancellationToken::new(), CancellationToken::new());
        tokio::spawn(hold(flow, link, lost.clone(), resigned.clone()));
        Ok(Self { lost, _resigned: resigned.drop_guard() })
    }

    /// Waits until another process may be the active one: the connection or channel is lost.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

/// Drops in a message every now and then; gives the error that makes that pointless.
async fn offer(tokens: &Publisher, queue: &str) -> BrokerError {
    loop {
        // A body may not be empty: RabbitMQ before 3.10.14 spoils such messages.
        let message = Encoded { message_type: TOKEN_TYPE, schema_version: 1, body: vec![1] };
        match tokens.publish(Outgoing::new("", queue, queue, message)).await {
            Err(BrokerError::Unroutable { .. }) => return BrokerError::NoQueue { queue: queue.to_owned() },
            Err(BrokerError::Closed) => return BrokerError::Closed,
            Err(error) => warn!(queue, %error, "candidacy could not be renewed"),
            Ok(()) => {}
        }
        tokio::time::sleep(Duration::from_millis(TOKEN_EVERY_MS)).await;
    }
}

/// Takes and settles one message: `false` if the channel was lost.
async fn takes_token(flow: &mut Flow) -> bool {
    match flow.next().await {
        Some(Ok(token)) => token.settle(Settlement::Done).await.is_ok(),
        Some(Err(_)) | None => false,
    }
}

async fn open_again(link: &Link, queue: &str, stop: &CancellationToken) -> Result<Flow, BrokerError> {
    loop {
        match Flow::open(link, queue, Start::Queue, TOKEN_PREFETCH, Patience::Endless).await {
            Err(error) if error.is_transient() => warn!(queue, %error, "broker refuses the candidacy"),
            other => return other,
        }
        tokio::select! {
            () = stop.cancelled() => return Err(BrokerError::Closed),
            () = tokio::time::sleep(Duration::from_millis(REFUSED_WAIT_MS)) => {}
        }
    }
}

/// Stays active until resigned or lost, and settles what candidates drop in.
async fn hold(mut flow: Flow, link: Link, lost: CancellationToken, resigned: CancellationToken) {
    // Also when the runtime ends this task.
    let lost = lost.drop_guard();
    loop {
        tokio::select! {
            () = resigned.cancelled() => break,
            is_active = takes_token(&mut flow) => if !is_active { break },
        }
    }
    drop(lost);
    flow.retire(link).await;
}
