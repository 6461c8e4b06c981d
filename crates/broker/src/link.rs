//! A connection that subscriptions share: opened when it is first needed, and again when it was lost.

use std::{
    sync::{Arc, Mutex as Lock, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use lapin::{Channel, Connection};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    AmqpUrl, BrokerError, Patience,
    connect::{close, connect, open_channel},
};

/// How long the end of a link waits for the channels of its subscriptions: for what they wait themselves behind their last
/// settlement, with room for their round trips.
const CHANNELS_MAX: Duration = Duration::from_secs(3);
/// Wait before another attempt on a connection that was lost as soon as it stood.
const RETRY_WAIT: Duration = Duration::from_millis(100);

/// A connection for any number of subscriptions; clones share it.
///
/// Whoever needs it first opens it, and when it is lost whoever notices first opens it again while the others wait:
/// there is never more than one. It is closed when the last subscription and the last clone are dropped.
#[derive(Debug, Clone)]
pub struct Link {
    shared: Arc<Shared>,
    silence_max: Duration,
}

#[derive(Debug)]
struct Shared {
    url: AmqpUrl,
    name: String,
    patience: Patience,
    stop: CancellationToken,
    /// Held by whoever opens the connection, for as long as that takes.
    opening: Mutex<()>,
    last: Lock<Option<Arc<Connection>>>,
    subscriptions: watch::Sender<usize>,
    /// Tasks that read for a subscription, or wait for its settlements to close a channel.
    channels: watch::Sender<usize>,
}

impl Link {
    /// Silence of a queue after which its subscription is renewed, if nothing that it delivered is unsettled.
    ///
    /// When the leader of a quorum queue changes, a delivery under way between two nodes of a cluster may be lost: the
    /// queue counts it as delivered, and the channel notices only with the next one (as
    /// <https://github.com/rabbitmq/rabbitmq-server/issues/15473> reports of 4.x; 3.10's code has the same gap). Closing the channel gives such messages back, so
    /// this is how long one of them may be held up. A queue that is never silent needs no renewal, and one a minute
    /// costs the broker next to nothing.
    pub const SILENCE_MAX: Duration = Duration::from_mins(1);

    /// A link that is not connected yet.
    ///
    /// `patience` bounds the connecting for a new subscription; for one that was there before, the connection is
    /// reopened until `stop`.
    pub fn new(url: &AmqpUrl, name: &str, patience: Patience, stop: &CancellationToken) -> Self {
        let shared = Shared {
            url: url.clone(),
            name: name.to_owned(),
            patience,
            stop: stop.clone(),
            opening: Mutex::new(()),
            last: Lock::default(),
            subscriptions: watch::Sender::new(0),
            channels: watch::Sender::new(0),
        };
        Self { shared: Arc::new(shared), silence_max: Self::SILENCE_MAX }
    }

    /// The same link with another limit of silence for the subscriptions that are made over this clone.
    #[must_use]
    pub fn with_silence_max(self, silence_max: Duration) -> Self {
        Self { silence_max, ..self }
    }

    pub(crate) fn silence_max(&self) -> Duration {
        self.silence_max
    }

    pub(crate) fn patience(&self) -> Patience {
        self.shared.patience
    }

    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.shared.stop
    }

    /// Does something on a new channel, on a new connection if the last one was lost; and again, while `patience`
    /// lasts, if the connection is lost while it does so, or its node is not ready for it. Whoever has endless patience
    /// is told of the latter each time.
    pub(crate) async fn on_channel<T, F>(
        &self,
        patience: Patience,
        act: impl Fn(Channel) -> F,
    ) -> Result<T, BrokerError>
    where
        F: Future<Output = Result<T, BrokerError>>,
    {
        let started = Instant::now();
        loop {
            // The lock is not held for longer than connecting takes: a connection that hangs must not hold everyone up.
            let connection = self.connection(patience).await?;
            let done = match open_channel(&connection).await {
                Ok(channel) => act(channel).await,
                Err(error) => Err(BrokerError::command("open a channel")(error)),
            };
            let is_over = matches!(patience, Patience::For(limit) if started.elapsed() >= limit);
            match done {
                Err(error) if error.is_lost_connection() && !is_over => {
                    debug!(connection = self.shared.name, %error, "connection lost; trying again");
                }
                Err(error) if error.is_not_yet() && matches!(patience, Patience::For(_)) && !is_over => {
                    debug!(connection = self.shared.name, %error, "the node is not ready; trying again");
                }
                done => return done,
            }
            tokio::select! {
                () = self.shared.stop.cancelled() => return Err(BrokerError::Closed),
                () = tokio::time::sleep(RETRY_WAIT) => {}
            }
        }
    }

    async fn connection(&self, patience: Patience) -> Result<Arc<Connection>, BrokerError> {
        if let Some(open) = self.open() {
            return Ok(open);
        }
        let Shared { url, name, stop, opening, .. } = &*self.shared;
        let _opening = opening.lock().await;
        if let Some(open) = self.open() {
            return Ok(open);
        }
        let opened = Arc::new(connect(url, name, patience, stop).await?);
        let lost = self.last().replace(Arc::clone(&opened));
        drop(lost);
        Ok(opened)
    }

    /// The connection, if it stands.
    fn open(&self) -> Option<Arc<Connection>> {
        self.last().clone().filter(|last| last.status().connected())
    }

    fn last(&self) -> MutexGuard<'_, Option<Arc<Connection>>> {
        // Nothing panics while holding it.
        self.shared.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the connection, and waits until the broker has done all that it was told on it, but not for long.
    ///
    /// Without that, who ends right behind an ack may take it along: RabbitMQ's channels end with their connection,
    /// whatever waits in their mailboxes or was kept back from a busy queue. Only after the link's stop, or subscriptions
    /// open it again, and after they are dropped, or it waits in vain for what they hold.
    pub async fn close(self) {
        if tokio::time::timeout(CHANNELS_MAX, none_left(&self.shared.channels)).await.is_err() {
            debug!(connection = self.shared.name, "closing the connection with channels that are still in use");
        }
        let _opening = self.shared.opening.lock().await;
        let Some(connection) = self.last().take() else { return };
        if let Err(error) = close(&connection).await {
            debug!(connection = self.shared.name, %error, "connection was not closed in good order");
        }
    }

    /// Whether the broker has said that it takes nothing now, because of an alarm.
    pub(crate) fn is_blocked(&self) -> bool {
        self.open().is_some_and(|open| open.status().blocked())
    }

    /// Counts a subscription for as long as the membership lives.
    pub(crate) fn join(&self) -> Membership {
        Membership::of(self, &self.shared.subscriptions)
    }

    /// Counts a task that has a subscription's channel, for as long as the membership lives.
    pub(crate) fn join_with_channel(&self) -> Membership {
        Membership::of(self, &self.shared.channels)
    }

    /// Waits until there is no subscription any more.
    pub(crate) async fn abandoned(&self) {
        none_left(&self.shared.subscriptions).await;
    }
}

async fn none_left(members: &watch::Sender<usize>) {
    let mut members = members.subscribe();
    while *members.borrow_and_update() > 0 {
        if members.changed().await.is_err() {
            return;
        }
    }
}

/// That one more uses a link.
#[derive(Debug)]
pub(crate) struct Membership {
    members: watch::Sender<usize>,
    _link: Link,
}

impl Membership {
    fn of(link: &Link, members: &watch::Sender<usize>) -> Self {
        members.send_modify(|count| *count += 1);
        Self { members: members.clone(), _link: link.clone() }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.members.send_modify(|count| *count -= 1);
    }
}
