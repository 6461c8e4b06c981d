//! One consumer on a channel of its own, from its first delivery until the last one is settled.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use lapin::{
    Channel, Consumer,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

use crate::{BrokerError, Delivery, Link, Patience, Start, connect::unless_lost, declare::queue_error};

/// AMQP's reply code for an end in good order.
pub(crate) const REPLY_SUCCESS: u16 = 200;

/// Settlements that a channel lets be under way to one quorum queue: RabbitMQ's `quorum_commands_soft_limit`.
const UNDER_WAY_MAX: u64 = 32;

/// How long a channel stays open behind its last settlement if it may have kept some back.
///
/// The first answer of the queue lets it send all of them, and that takes one commit: some milliseconds, a few hundred on
/// a busy disk. What would take longer comes again, which costs time and loses nothing.
const KEPT_BACK_MAX: Duration = Duration::from_millis(500);

/// A consumer and its channel.
pub(crate) struct Flow {
    channel: Channel,
    consumer: Consumer,
    is_cancelled: bool,
    received: u64,
    settled: Arc<AtomicU64>,
    unsettled: Arc<Unsettled>,
    all_settled: CancellationToken,
}

/// What every delivery that is not settled holds: the last one gone ends the wait for them.
#[derive(Debug)]
pub(crate) struct Unsettled {
    settled: Arc<AtomicU64>,
    _last: DropGuard,
}

impl Unsettled {
    pub(crate) fn count_settled(&self) {
        self.settled.fetch_add(1, Ordering::Relaxed);
    }
}

impl Flow {
    pub(crate) async fn open(
        link: &Link,
        queue: &str,
        start: Start,
        prefetch: u16,
        patience: Patience,
    ) -> Result<Self, BrokerError> {
        let what = || format!("subscribe to `{queue}`");
        let mut arguments = FieldTable::default();
        if let Some(offset) = start.argument() {
            arguments.insert("x-stream-offset".into(), offset);
        }
        let arguments = &arguments;
        let subscribe = async |channel: Channel| {
            channel.basic_qos(prefetch, BasicQosOptions::default()).await.map_err(BrokerError::command(what()))?;
            let (name, arguments) = (queue.into(), arguments.clone());
            // A task, because lapin never closes the channel of a subscription that nobody waits for to its end: what
            // the broker delivers on it would be held as long as the connection.
            let subscribing = tokio::spawn(async move {
                let options = BasicConsumeOptions::default();
                let consumer = channel.basic_consume(name, "".into(), options, arguments).await;
                consumer.map(|consumer| (consumer, channel))
            });
            let subscribed = subscribing.await.map_err(|ended| match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // With the runtime.
                Err(_cancelled) => BrokerError::Closed,
            })?;
            subscribed.map_err(|error| queue_error(error, queue, what()))
        };
        let (consumer, channel) = link.on_channel(patience, subscribe).await?;
        let all_settled = CancellationToken::new();
        let last = all_settled.clone().drop_guard();
        let settled = Arc::<AtomicU64>::default();
        let unsettled = Arc::new(Unsettled { settled: Arc::clone(&settled), _last: last });
        Ok(Self { channel, consumer, is_cancelled: false, received: 0, settled, unsettled, all_settled })
    }

    /// The next delivery; `None` at the end, an error if the channel is lost. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<lapin::Result<Delivery>> {
        let arrived = self.consumer.next().await?;
        self.received += 1;
        Some(arrived.map(|delivery| Delivery::new(delivery, Arc::clone(&self.unsettled))))
    }

    /// Tells the broker to deliver nothing more; what it has delivered still comes, and then the end.
    ///
    /// Does nothing the second time, nor on a channel that is lost: its loss shows in [`Flow::next`].
    pub(crate) async fn cancel(&mut self) {
        if !std::mem::replace(&mut self.is_cancelled, true)
            && let Err(error) = self.channel.basic_cancel(self.consumer.tag(), BasicCancelOptions::default()).await
        {
            debug!(%error, "consumer could not be cancelled");
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.is_cancelled
    }

    /// Whether nobody holds a delivery that could still be settled.
    pub(crate) fn is_settled(&self) -> bool {
        Arc::strong_count(&self.unsettled) == 1
    }

    /// How many deliveries were received and not settled each by itself.
    pub(crate) fn unsettled(&self) -> u64 {
        self.received.saturating_sub(self.settled.load(Ordering::Relaxed))
    }

    /// Closes the channel: what is not settled goes back to the queue.
    pub(crate) async fn close(self) -> lapin::Result<()> {
        close(&self.channel, &self.settled).await
    }

    /// Ends in good order: takes no more, and closes the channel once everything that was handed out is settled or
    /// dropped, or nobody is left on the link who could settle. The rest then goes back to the queue.
    pub(crate) async fn retire(mut self, link: Link) {
        self.cancel().await;
        let Self { channel, consumer, settled, unsettled, all_settled, .. } = self;
        drop((consumer, unsettled));
        tokio::select! {
            () = all_settled.cancelled() => {}
            () = link.abandoned() => {}
        }
        if let Err(error) = close(&channel, &settled).await {
            debug!(%error, "channel is closed already");
        }
    }
}

/// Closes a channel once a quorum queue has what was settled on it.
///
/// While [`UNDER_WAY_MAX`] settlements are under way a channel keeps the others back, and forgets them when it is closed
/// (`unsent_commands` of `rabbit_fifo_client`): jobs that were done or handed back would come again. AMQP does not say
/// when a queue has settled something, so there is nothing to wait for but time.
async fn close(channel: &Channel, settled: &AtomicU64) -> lapin::Result<()> {
    if settled.load(Ordering::Relaxed) > UNDER_WAY_MAX {
        // It bounds consumers to come, of which there are none. Its answer comes behind the last settlement, so the time
        // runs from when the channel has them all.
        let reached = channel.basic_qos(1, BasicQosOptions::default());
        if let Some(Ok(())) = unless_lost(reached, || !channel.status().connected()).await {
            tokio::time::sleep(KEPT_BACK_MAX).await;
        }
    }
    channel.close(REPLY_SUCCESS, "done".into()).await
}
