//! Consuming a queue or reading a stream, over a connection that comes back.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::FutureExt;
use lapin::types::AMQPValue;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{AmqpUrl, BrokerError, Delivery, Link, Patience, connect::REFUSED_WAIT_MS, flow::Flow, link::Membership};

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Consume a queue.
    Queue,
    /// Read a stream from its oldest message.
    StreamFirst,
    /// Read a stream from its last chunk.
    StreamLast,
    /// Read only what comes into a stream from now on.
    StreamNext,
    /// Read a stream from this offset, itself included.
    StreamOffset(u64),
    /// Read a stream from the chunk that holds this moment, in seconds since 1970 (filter again: chunks are coarse).
    StreamTimestamp(u64),
}

impl Start {
    pub(crate) fn argument(self) -> Option<AMQPValue> {
        match self {
            Self::Queue => None,
            Self::StreamFirst => Some(AMQPValue::LongString("first".into())),
            Self::StreamLast => Some(AMQPValue::LongString("last".into())),
            Self::StreamNext => Some(AMQPValue::LongString("next".into())),
            // A number in a text would be taken for an interval.
            Self::StreamOffset(offset) => Some(AMQPValue::LongLongInt(i64::try_from(offset).unwrap_or(i64::MAX))),
            Self::StreamTimestamp(seconds) => Some(AMQPValue::Timestamp(seconds)),
        }
    }
}

/// Deliveries handed over together at most.
const AT_ONCE_MAX: usize = 256;
/// A renewal takes a few round trips; after this the subscription counts as lost.
const RENEWAL_MAX: Duration = Duration::from_secs(2);

/// Deliveries of one queue or stream, over a channel of their own on a [`Link`] that is reopened when lost.
///
/// After a lost connection or channel a queue's unsettled deliveries come again from the broker (settling the old ones
/// then fails, harmlessly), and a stream goes on behind the last offset that was handed out, never from its first
/// arguments. A queue's subscription that has been silent for [`Link::SILENCE_MAX`] is renewed, because a cluster may
/// lose a delivery on its way. After the stop nothing new comes, but what was handed out can be settled until all subscriptions of the
/// link are dropped; what is not settled then goes back to its queue.
#[derive(Debug)]
pub struct Subscription {
    /// As many at once as had arrived: to wake somebody for each costs more than to receive it.
    deliveries: mpsc::Receiver<Vec<Delivery>>,
    /// What was taken over from the reading task: at most the prefetch of each channel that was open.
    in_line: VecDeque<Delivery>,
    mode: Arc<watch::Sender<Mode>>,
    standing: watch::Receiver<bool>,
    stop: CancellationToken,
    _membership: Membership,
}

/// What the reading task is to do, and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Subscribe again.
    Resuming,
    /// Subscribed: hand out.
    Flowing,
    /// Cancel, and hand out the rest.
    Pausing,
    /// All of the rest is in line.
    Paused,
}

impl Subscription {
    /// Subscribes over a link of its own.
    ///
    /// `patience` bounds the first connection only: once it stood, it is reopened until `stop`.
    ///
    /// # Errors
    ///
    /// As [`Subscription::on`].
    pub async fn start(
        url: &AmqpUrl,
        name: &str,
        queue: &str,
        start: Start,
        prefetch: u16,
        patience: Patience,
        stop: &CancellationToken,
    ) -> Result<Self, BrokerError> {
        Self::on(&Link::new(url, name, patience, stop), queue, start, prefetch).await
    }

    /// Subscribes over a shared link; `prefetch` bounds the deliveries that are handed out and not settled.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Connect`] if no broker answers within the link's patience, [`BrokerError::Closed`] after its
    /// stop; [`BrokerError::Command`] if the broker refuses the subscription (no such queue, no permission).
    pub async fn on(link: &Link, queue: &str, start: Start, prefetch: u16) -> Result<Self, BrokerError> {
        let membership = link.join();
        let stop = link.stop().child_token();
        let mode = Arc::new(watch::Sender::new(Mode::Flowing));
        let flow = Flow::open(link, queue, start, prefetch, link.patience()).await?;
        let (is_standing, standing) = watch::channel(true);
        let reading = Reading {
            link: link.clone(),
            queue: queue.to_owned(),
            next: start,
            prefetch,
            mode: Arc::clone(&mode),
            standing: is_standing,
            stop: stop.clone(),
        };
        let (handed_out, deliveries) = mpsc::channel(usize::from(prefetch).max(1));
        let member = link.join_with_channel();
        tokio::spawn(async move {
            reading.run(flow, handed_out).await;
            drop(member);
        });
        Ok(Self { deliveries, in_line: VecDeque::new(), mode, standing, stop, _membership: membership })
    }

    /// Whether the broker delivers what comes, as far as is known here: not while the subscription is lost or paused.
    ///
    /// The sender goes with the subscription's stop.
    pub fn standing(&self) -> watch::Receiver<bool> {
        self.standing.clone()
    }

    /// The next delivery; `None` once stopped. While paused, what is in line, and then nothing until the stop.
    ///
    /// Cancel-safe: a delivery is either handed out or still in line.
    pub async fn next(&mut self) -> Option<Delivery> {
        while self.in_line.is_empty() {
            self.in_line.extend(self.deliveries.recv().await?);
        }
        self.in_line.pop_front()
    }

    /// The next delivery if one is in line already.
    pub fn next_in_line(&mut self) -> Option<Delivery> {
        if self.in_line.is_empty() {
            self.in_line.extend(self.deliveries.try_recv().unwrap_or_default());
        }
        self.in_line.pop_front()
    }

    /// Tells the broker to deliver nothing more, until [`Subscription::resume`].
    ///
    /// When this returns, all that the broker had delivered is in line. A pause while the connection is lost keeps the
    /// subscription from coming back. Cancel-safe: the pause is asked for at once, and what comes stays in line.
    pub async fn pause(&mut self) {
        self.mode.send_if_modified(|mode| {
            let is_wanted = matches!(*mode, Mode::Resuming | Mode::Flowing);
            if is_wanted {
                *mode = Mode::Pausing;
            }
            is_wanted
        });
        let mode = Arc::clone(&self.mode);
        let paused = until(&mode, Mode::Paused);
        tokio::pin!(paused);
        loop {
            tokio::select! {
                // The task puts its last delivery in line before it calls itself paused.
                biased;
                arrived = self.deliveries.recv() => match arrived {
                    Some(deliveries) => self.in_line.extend(deliveries),
                    None => return,
                },
                () = &mut paused => return,
            }
        }
    }

    /// Subscribes again after a pause, and waits until the broker has agreed; gives up waiting at the stop.
    ///
    /// Cancel-safe: it goes on in the background, also over a connection that has to come back first.
    ///
    /// It does so on a new channel, and the old one stays open until nothing on it is unsettled: RabbitMQ 3.10 may
    /// close a channel on which somebody subscribes again to a quorum queue with deliveries in flight (its issue 5927).
    pub async fn resume(&mut self) {
        if *self.mode.borrow() == Mode::Pausing {
            // A pause that was given up halfway.
            self.pause().await;
        }
        self.mode.send_if_modified(|mode| {
            let is_paused = matches!(*mode, Mode::Pausing | Mode::Paused);
            if is_paused {
                *mode = Mode::Resuming;
            }
            is_paused
        });
        tokio::select! {
            () = until(&self.mode, Mode::Flowing) => {}
            () = self.stop.cancelled() => {}
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Waits for a mode.
async fn until(mode: &watch::Sender<Mode>, wanted: Mode) {
    let mut mode = mode.subscribe();
    while *mode.borrow_and_update() != wanted {
        if mode.changed().await.is_err() {
            return;
        }
    }
}

/// The reading task's state.
struct Reading {
    link: Link,
    queue: String,
    next: Start,
    prefetch: u16,
    mode: Arc<watch::Sender<Mode>>,
    standing: watch::Sender<bool>,
    stop: CancellationToken,
}

/// Why a flow hands out no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It was cancelled because nothing came.
    Silent,
    /// Anything else.
    Over,
}

impl Reading {
    async fn run(mut self, flow: Flow, line: mpsc::Sender<Vec<Delivery>>) {
        let mut opened = Some(flow);
        while let Some(mut flow) = opened {
            let end = self.hand_out(&mut flow, &line).await;
            if end == End::Over {
                self.set_standing(false);
            }
            // Beside us: what was handed out may stay unsettled for long.
            let (connection, member) = (self.link.clone(), self.link.join_with_channel());
            tokio::spawn(async move {
                flow.retire(connection).await;
                drop(member);
            });
            let opening = self.open_again();
            tokio::pin!(opening);
            opened = if let Ok(opened) = tokio::time::timeout(RENEWAL_MAX, &mut opening).await {
                opened
            } else {
                self.set_standing(false);
                opening.await
            };
            self.set_standing(opened.is_some());
        }
    }

    /// Whoever watches is told of changes only: a renewal is none.
    fn set_standing(&self, stands: bool) {
        self.standing.send_if_modified(|standing| std::mem::replace(standing, stands) != stands);
    }

    /// Hands out deliveries until the consumer is lost, silent, paused and empty, or nobody wants more.
    async fn hand_out(&mut self, flow: &mut Flow, line: &mpsc::Sender<Vec<Delivery>>) -> End {
        let mut when_cancelled = End::Over;
        while !self.stop.is_cancelled() {
            if *self.mode.borrow() == Mode::Pausing && !flow.is_cancelled() {
                tokio::select! {
                    () = self.stop.cancelled() => return End::Over,
                    () = flow.cancel() => {}
                }
            }
            let first = tokio::select! {
                () = self.stop.cancelled() => return End::Over,
                () = until(&self.mode, Mode::Pausing), if !flow.is_cancelled() => continue,
                first = flow.next() => first,
                () = tokio::time::sleep(self.link.silence_max()), if self.next == Start::Queue && !flow.is_cancelled() => {
                    if flow.is_settled() {
                        when_cancelled = End::Silent;
                        tokio::select! {
                            () = self.stop.cancelled() => return End::Over,
                            () = flow.cancel() => {}
                        }
                    }
                    continue;
                }
            };
            let mut arrived = Vec::new();
            let mut next = Some(first);
            let end = loop {
                match next {
                    Some(Some(Ok(delivery))) => arrived.push(delivery),
                    Some(end) => break Some(end),
                    None => break None,
                }
                if arrived.len() == AT_ONCE_MAX {
                    break None;
                }
                next = flow.next().now_or_never();
            };
            self.put_in_line(arrived, line).await;
            match end {
                None => {}
                Some(Some(Err(error))) => {
                    warn!(queue = self.queue, %error, "subscription lost");
                    return End::Over;
                }
                Some(_) if flow.is_cancelled() => return when_cancelled,
                Some(_) => {
                    // The broker cancels a consumer when its queue moves or its stream is closed.
                    warn!(queue = self.queue, "subscription cancelled by the broker");
                    return End::Over;
                }
            }
        }
        End::Over
    }

    async fn put_in_line(&mut self, deliveries: Vec<Delivery>, line: &mpsc::Sender<Vec<Delivery>>) {
        let Some(last) = deliveries.last() else { return };
        if self.next != Start::Queue
            && let Some(offset) = last.stream_offset()
        {
            self.next = Start::StreamOffset(offset + 1);
        }
        tokio::select! {
            () = self.stop.cancelled() => {}
            // A line without its end belongs to a subscription that was dropped, and so stopped.
            sent = line.send(deliveries) => sent.unwrap_or_default(),
        }
    }

    /// Subscribes again as soon as deliveries are wanted, for as long as it takes; `None` once stopped.
    async fn open_again(&self) -> Option<Flow> {
        loop {
            self.rest_while_paused().await;
            let opened = tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                () = until(&self.mode, Mode::Pausing) => continue,
                opened = Flow::open(&self.link, &self.queue, self.next, self.prefetch, Patience::Endless) => opened,
            };
            match opened {
                Ok(flow) => {
                    debug!(queue = self.queue, next = ?self.next, "subscribed again");
                    self.mode.send_if_modified(|mode| {
                        let is_resuming = *mode == Mode::Resuming;
                        if is_resuming {
                            *mode = Mode::Flowing;
                        }
                        is_resuming
                    });
                    return Some(flow);
                }
                Err(BrokerError::Closed) => return None,
                Err(error) => warn!(queue = self.queue, %error, "broker refuses the subscription"),
            }
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = tokio::time::sleep(Duration::from_millis(REFUSED_WAIT_MS)) => {}
            }
        }
    }

    /// Says that everything is in line if a pause was asked for, and waits for its end or the stop.
    async fn rest_while_paused(&self) {
        let mut mode = self.mode.subscribe();
        loop {
            self.mode.send_if_modified(|mode| {
                let is_pausing = *mode == Mode::Pausing;
                if is_pausing {
                    *mode = Mode::Paused;
                }
                is_pausing
            });
            if matches!(*mode.borrow_and_update(), Mode::Resuming | Mode::Flowing) {
                return;
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = mode.changed() => {}
            }
        }
    }
}
