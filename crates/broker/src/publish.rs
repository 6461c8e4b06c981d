//! Publishing with confirms, in a window, over a connection that comes back.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use lapin::{Channel, ChannelState, ErrorKind, options::ConfirmSelectOptions};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, warn};

use crate::{
    AmqpUrl, BrokerError, Link, Outgoing, Patience,
    confirms::{Confirmed, Confirms, all_confirmed},
    connect::REFUSED_WAIT_MS,
    declare::soft_error,
    flow::REPLY_SUCCESS,
    overdue::{Generations, Interval},
};

/// Messages without a confirm at any moment; a wide window is what makes a quorum queue fast.
pub const WINDOW_MESSAGES_MAX: usize = 3_000;
/// Messages waiting to enter the window; past that, `publish` waits.
const QUEUE_MESSAGES_MAX: usize = 1_024;

/// How long the broker may take to close a channel, if confirms may be overdue for longer; then it is left behind, whatever the broker owes on it.
const CLOSE_MAX: Duration = Duration::from_secs(10);

/// Publishes with `mandatory` and confirms, over a connection of its own that is reopened when lost.
///
/// Each exchange has a channel of its own, on which nothing else is published, and so has each queue that is published to
/// by name. When a stream changes its leader,
/// RabbitMQ 3.10 sends what the old one did not confirm to the new one under the channel's sequence numbers instead of
/// the stream's (`resend_all` in its `rabbit_stream_queue`). They are the same only if all messages of the channel went
/// to that stream; else the new leader takes later messages for duplicates, and drops and confirms them. A message that
/// comes back because no queue takes it has had a number too, so its channel takes nothing more and makes room for another.
///
/// A message whose confirm is outstanding when the connection breaks, or overdue although nothing broke, is published
/// again: its receiver may see it twice and counts it once, by its id. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Publisher {
    channels: Arc<Channels>,
    patience: Patience,
    /// Ends the publishing tasks with the last clone, even while they wait for a broker that does not come back.
    _last: Arc<DropGuard>,
}

/// The publishing tasks.
#[derive(Debug)]
struct Channels {
    link: Link,
    name: String,
    overdue_after: Duration,
    stop: CancellationToken,
    opened: Mutex<Opened>,
}

#[derive(Debug)]
struct Opened {
    /// The channel that showed that a broker is there, until the first message takes it.
    spare: Option<Channel>,
    of_target: HashMap<String, mpsc::Sender<Request>>,
}

impl Channels {
    /// Where to hand in messages for an exchange, or by the default exchange for a queue; its task is started by the
    /// first of them.
    fn of(&self, Outgoing { exchange, routing_key, .. }: &Outgoing) -> mpsc::Sender<Request> {
        let target = if exchange.is_empty() { routing_key } else { exchange };
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(requests) = opened.of_target.get(target) {
            return requests.clone();
        }
        let (requests, receiver) = mpsc::channel(QUEUE_MESSAGES_MAX);
        let publishing = Publishing {
            link: self.link.clone(),
            name: self.name.clone(),
            stop: self.stop.clone(),
            waiting: VecDeque::new(),
            interval: Interval::of(self.overdue_after),
        };
        tokio::spawn(publishing.run(opened.spare.take(), receiver));
        opened.of_target.insert(target.clone(), requests.clone());
        requests
    }
}

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) outgoing: Outgoing,
    answer: oneshot::Sender<Answer>,
    /// When it was published last, as [`Generations`] counts.
    generation: u64,
}

/// What became of a message.
#[derive(Debug)]
enum Answer {
    Stored,
    /// The broker does not take it now; here it is again.
    Refused(Outgoing),
    Failed(BrokerError),
}

impl Request {
    pub(crate) fn stored(self) {
        // Whoever asked may have stopped waiting; there is nobody else to tell. So below.
        drop(self.answer.send(Answer::Stored));
    }

    pub(crate) fn refused(self) {
        drop(self.answer.send(Answer::Refused(self.outgoing)));
    }

    pub(crate) fn failed(self, error: BrokerError) {
        drop(self.answer.send(Answer::Failed(error)));
    }
}

impl Publisher {
    /// After this long without a confirm, and at most twice as long, everything that has none is published again.
    pub const OVERDUE_AFTER: Duration = Duration::from_secs(30);

    /// Connects, and starts the task that publishes until `stop` or until the last clone is dropped.
    ///
    /// `patience` bounds the first connection and how long a message waits for its confirm.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Connect`] if no broker answers within `patience`.
    pub async fn start(
        url: &AmqpUrl,
        name: &str,
        patience: Patience,
        stop: CancellationToken,
    ) -> Result<Self, BrokerError> {
        Self::start_with(url, name, patience, Self::OVERDUE_AFTER, stop).await
    }

    /// The same with another time after which a confirm is overdue.
    ///
    /// # Errors
    ///
    /// As [`Publisher::start`].
    pub async fn start_with(
        url: &AmqpUrl,
        name: &str,
        patience: Patience,
        overdue_after: Duration,
        stop: CancellationToken,
    ) -> Result<Self, BrokerError> {
        let stop = stop.child_token();
        let link = Link::new(url, name, patience, &stop);
        let channel = open_channel(&link, patience).await?;
        let opened = Mutex::new(Opened { spare: Some(channel), of_target: HashMap::new() });
        let channels = Channels { link, name: name.to_owned(), overdue_after, stop: stop.clone(), opened };
        Ok(Self { channels: Arc::new(channels), patience, _last: Arc::new(stop.drop_guard()) })
    }

    /// The same, but it waits for each confirm for as long as that takes: what gives up and publishes again would leave
    /// a copy more whenever the broker takes its time, as it does during an alarm.
    #[must_use]
    pub fn patient(self) -> Self {
        Self { patience: Patience::Endless, ..self }
    }

    /// Publishes one message and waits until the broker has stored it.
    ///
    /// What the broker refuses (its queue is full, or has just lost its leader) is published again as long as the
    /// patience lasts. Whoever drops the future gives the message up: it may be stored or not.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Unroutable`] and [`BrokerError::Refused`] if it was not stored,
    /// [`BrokerError::Unconfirmed`] if that is not known, [`BrokerError::Closed`] after the stop.
    pub async fn publish(&self, mut outgoing: Outgoing) -> Result<(), BrokerError> {
        let limit = match self.patience {
            Patience::Endless => None,
            Patience::For(limit) => Some((limit, Instant::now() + limit)),
        };
        loop {
            let (exchange, routing_key) = (outgoing.exchange.clone(), outgoing.routing_key.clone());
            let publishing = self.publish_once(outgoing);
            let answer = match limit {
                None => publishing.await,
                Some((waited, deadline)) => {
                    let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
                    let answer = tokio::time::timeout_at(deadline, publishing).await;
                    answer.map_err(|_| BrokerError::Unconfirmed { exchange: exchange.clone(), waited_ms })?
                }
            };
            outgoing = match answer {
                Answer::Stored => return Ok(()),
                Answer::Failed(error) => return Err(error),
                Answer::Refused(outgoing) => outgoing,
            };
            let wait = Duration::from_millis(REFUSED_WAIT_MS);
            if limit.is_some_and(|(_, deadline)| Instant::now() + wait >= deadline) {
                return Err(BrokerError::Refused { exchange, routing_key });
            }
            debug!(exchange, routing_key, "the broker refuses a message; publishing it again");
            tokio::time::sleep(wait).await;
        }
    }

    /// Whether the broker has said that it takes nothing now, because of an alarm. It says so to whoever publishes.
    pub fn is_blocked(&self) -> bool {
        self.channels.link.is_blocked()
    }

    async fn publish_once(&self, outgoing: Outgoing) -> Answer {
        let (answer, mut answered) = oneshot::channel();
        let requests = self.channels.of(&outgoing);
        if requests.send(Request { outgoing, answer, generation: 0 }).await.is_err() {
            return Answer::Failed(BrokerError::Closed);
        }
        tokio::select! {
            biased;
            answer = &mut answered => answer.unwrap_or(Answer::Failed(BrokerError::Closed)),
            // A request that slips into the channel while its other end goes is never looked at.
            () = requests.closed() => answered.try_recv().unwrap_or(Answer::Failed(BrokerError::Closed)),
        }
    }
}

/// A channel in confirm mode.
async fn open_channel(link: &Link, patience: Patience) -> Result<Channel, BrokerError> {
    let confirming = async |channel: Channel| {
        let selected = channel.confirm_select(ConfirmSelectOptions::default()).await;
        selected.map_err(BrokerError::command("switch confirms on"))?;
        Ok(channel)
    };
    link.on_channel(patience, confirming).await
}

/// The publishing task of one exchange or queue.
struct Publishing {
    link: Link,
    name: String,
    stop: CancellationToken,
    /// Requests to publish before new ones: those whose confirm was lost with a connection.
    waiting: VecDeque<Request>,
    interval: Interval,
}

impl Publishing {
    /// Publishes on the channel that is open, if one is, or on one of its own.
    async fn run(mut self, mut open: Option<Channel>, mut requests: mpsc::Receiver<Request>) {
        loop {
            if open.is_none() {
                open = self.open_again().await;
            }
            let Some(channel) = open.take() else { return };
            let Some(failed) = self.publish_until_lost(&channel, &mut requests).await else { return };
            self.queue_again(failed);
        }
    }

    /// Publishes until the channel breaks, and gives what it did not confirm; `None` once stopped.
    async fn publish_until_lost(
        &mut self,
        channel: &Channel,
        requests: &mut mpsc::Receiver<Request>,
    ) -> Option<Vec<(Request, lapin::Error)>> {
        let given_up = CancellationToken::new();
        let mut in_flight = FuturesUnordered::new();
        let mut confirms = Confirms::default();
        let mut failed = Vec::new();
        let mut generations = Generations::default();
        let mut turn = Box::pin(tokio::time::sleep(self.interval.length()));
        while failed.is_empty() {
            let is_spent = confirms.has_returned();
            if is_spent && in_flight.is_empty() {
                self.close(channel, "a message came back").await;
                return Some(Vec::new());
            }
            let has_room = in_flight.len() < WINDOW_MESSAGES_MAX && !is_spent;
            if let (true, Some(mut request)) = (has_room, self.waiting.pop_front()) {
                if request.answer.is_closed() {
                    continue;
                }
                request.generation = generations.publish();
                // lapin answers a publish once the socket has it: waiting for that here would send one message per
                // round trip to its thread instead of many at once.
                in_flight.push(publish_and_confirm(channel, request, &given_up));
                continue;
            }
            tokio::select! {
                // Confirms before requests: they make room in the window.
                biased;
                () = self.stop.cancelled() => return None,
                Some(first) = in_flight.next(), if !in_flight.is_empty() => {
                    let confirmed = all_confirmed(channel, first, &mut in_flight);
                    for (request, _) in &confirmed {
                        generations.end(request.generation);
                    }
                    failed = confirms.answer(confirmed);
                }
                Some(request) = requests.recv(), if has_room => self.waiting.push_back(request),
                () = &mut turn => {
                    if generations.is_current() {
                        self.interval.relax();
                    }
                    if generations.turn(self.link.is_blocked()) {
                        if !self.close_overdue(channel, in_flight.len()).await {
                            given_up.cancel();
                        }
                        break;
                    }
                    turn = Box::pin(tokio::time::sleep(self.interval.length()));
                }
            }
        }
        // The confirms of a dead channel fail at once, as do those of one that is given up.
        let rest = tokio::select! {
            () = self.stop.cancelled() => return None,
            rest = in_flight.collect::<Vec<_>>() => rest,
        };
        failed.extend(confirms.answer(rest));
        Some(failed)
    }

    /// Closes a channel that owes confirms, so that what it did not confirm is published again; whether it is closed.
    async fn close_overdue(&mut self, channel: &Channel, unconfirmed: usize) -> bool {
        let waited_s = self.interval.length().as_secs();
        warn!(connection = self.name, unconfirmed, waited_s, "confirms are overdue; publishing again");
        self.interval.double();
        self.close(channel, "confirms are overdue").await
    }

    /// Closes a channel, but does not wait for long; whether it is closed.
    async fn close(&self, channel: &Channel, reason: &str) -> bool {
        let closing = channel.close(REPLY_SUCCESS, reason.into());
        match tokio::time::timeout(CLOSE_MAX.min(self.interval.length()), closing).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                debug!(connection = self.name, %error, "channel is closed already");
                true
            }
            Err(_) => {
                warn!(connection = self.name, "the broker does not close the channel; it is left behind");
                false
            }
        }
    }

    /// Puts what a broken channel did not confirm before the new requests, except what broke it.
    ///
    /// RabbitMQ closes the channel on which somebody publishes to an exchange that does not exist or is forbidden:
    /// such a message would break every further channel too.
    fn queue_again(&mut self, failed: Vec<(Request, lapin::Error)>) {
        let Some((_, lost)) = failed.first() else { return };
        let refusal = failed.iter().find_map(|(_, error)| soft_error(error)).map(|(_, text)| text);
        let error = refusal.clone().unwrap_or_else(|| lost.to_string());
        warn!(connection = self.name, error, unconfirmed = failed.len(), "publishing channel lost");
        let is_to_blame = |request: &Request| {
            let quoted = format!("'{}'", request.outgoing.exchange);
            refusal.as_ref().is_some_and(|text| text.contains(&quoted))
        };
        let somebody_is = failed.iter().any(|(request, _)| is_to_blame(request));
        for (request, error) in failed {
            let Outgoing { exchange, routing_key, .. } = &request.outgoing;
            match &refusal {
                Some(reply) if is_to_blame(&request) => {
                    let (exchange, routing_key, reply) = (exchange.clone(), routing_key.clone(), reply.clone());
                    request.failed(BrokerError::Unroutable { exchange, routing_key, reply });
                }
                Some(_) if !somebody_is => {
                    let what = format!("publish to `{exchange}`");
                    request.failed(BrokerError::Command { what, source: Box::new(error) });
                }
                _ => self.waiting.push_back(request),
            }
        }
    }

    /// Connects again, for as long as it takes; `None` once stopped.
    async fn open_again(&self) -> Option<Channel> {
        loop {
            // A channel is opened by a broker that has no alarm.
            let opened = tokio::select! {
                () = self.stop.cancelled() => return None,
                opened = open_channel(&self.link, Patience::Endless) => opened,
            };
            match opened {
                Ok(channel) => return Some(channel),
                Err(BrokerError::Closed) => return None,
                Err(error) => warn!(connection = self.name, %error, "publishing connection did not come back"),
            }
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = tokio::time::sleep(Duration::from_millis(REFUSED_WAIT_MS)) => {}
            }
        }
    }
}

/// Publishes when first polled, so in the order in which a set of these is polled, and waits for the confirm, or until
/// the channel is given up.
async fn publish_and_confirm(channel: &Channel, request: Request, given_up: &CancellationToken) -> Confirmed {
    let confirming = async { request.outgoing.publish_on(channel).await?.await };
    let confirmation = given_up.run_until_cancelled(confirming).await;
    let closed = || Err(ErrorKind::InvalidChannelState(ChannelState::Closed, "publish").into());
    (request, confirmation.unwrap_or_else(closed))
}
