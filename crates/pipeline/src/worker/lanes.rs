//! The lanes that a worker takes jobs from, higher priority first.

use broker::{BrokerError, Delivery, Link, Start, Subscription};
use messages::Priority;

use super::WorkerSettings;

/// Every so many picks the lowest lane with a job goes first, so that a busy high lane starves nobody.
const LOW_FIRST_EVERY_PICKS: u64 = 8;

/// One subscription, with a channel of its own, per platform and priority.
pub(super) struct Lanes {
    /// Grouped by priority, highest first.
    by_priority: Vec<Vec<Subscription>>,
    picks: u64,
    paused: bool,
}

impl Lanes {
    pub(super) async fn subscribe(link: &Link, settings: &WorkerSettings) -> Result<Self, BrokerError> {
        let prefetch = settings.prefetch.max(settings.concurrency).max(1);
        let mut by_priority = Vec::new();
        for &priority in Priority::ALL {
            let mut lanes = Vec::new();
            for &platform in &settings.platforms {
                let queue = topology::names::lane(platform, priority);
                lanes.push(Subscription::on(link, &queue, Start::Queue, prefetch).await?);
            }
            by_priority.push(lanes);
        }
        Ok(Self { by_priority, picks: 0, paused: false })
    }

    /// The next job: of those in line the one of the highest lane, now and then of the lowest.
    ///
    /// `None` once the subscriptions have ended. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Delivery> {
        let delivery = match self.in_line() {
            Some(delivery) => Some(delivery),
            None => self.first_to_arrive().await,
        };
        self.picks += u64::from(delivery.is_some());
        delivery
    }

    /// Everything that is in line, to be handed back.
    pub(super) fn waiting(&mut self) -> Vec<Delivery> {
        std::iter::from_fn(|| self.in_line()).collect()
    }

    /// Whether the broker was told to deliver nothing more.
    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Tells the broker to deliver nothing more; what is in line stays.
    pub(super) async fn pause(&mut self) {
        for lane in self.by_priority.iter_mut().flatten() {
            lane.pause().await;
        }
        self.paused = true;
    }

    /// Lets the broker deliver again, to the highest lanes first.
    pub(super) async fn resume(&mut self) {
        if !self.paused {
            return;
        }
        for lane in self.by_priority.iter_mut().flatten() {
            lane.resume().await;
        }
        self.paused = false;
    }

    fn in_line(&mut self) -> Option<Delivery> {
        let low_first = (self.picks + 1).is_multiple_of(LOW_FIRST_EVERY_PICKS);
        let count = self.by_priority.len();
        (0..count).find_map(|index| {
            let lane = if low_first { count - 1 - index } else { index };
            self.by_priority[lane].iter_mut().find_map(Subscription::next_in_line)
        })
    }

    async fn first_to_arrive(&mut self) -> Option<Delivery> {
        let next = self.by_priority.iter_mut().flatten().map(|lane| Box::pin(lane.next()));
        futures_util::future::select_all(next).await.0
    }
}
