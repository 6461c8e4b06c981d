//! The lanes that a worker takes jobs from, higher priority first.

use broker::{BrokerError, Delivery, Link, Start, Subscription};
use messages::Priority;

use super::WorkerSettings;

/// Every so many picks a lower lane goes first, each in its turn, so that busy higher ones starve nobody.
const LOWER_FIRST_EVERY_PICKS: u64 = 8;

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

    /// The next job: of those in line the one of the highest lane, now and then of a lower one.
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
        let order = order(self.picks, self.by_priority.len());
        order.into_iter().find_map(|lane| self.by_priority[lane].iter_mut().find_map(Subscription::next_in_line))
    }

    async fn first_to_arrive(&mut self) -> Option<Delivery> {
        let next = self.by_priority.iter_mut().flatten().map(|lane| Box::pin(lane.next()));
        futures_util::future::select_all(next).await.0
    }
}

/// In which order the lanes, 0 the highest, are asked for the job after so many: from the highest down; every eighth time
/// from a lower one down, through the other lower ones, and the highest last.
fn order(picks: u64, lanes: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..lanes).collect();
    if lanes > 1 && (picks + 1).is_multiple_of(LOWER_FIRST_EVERY_PICKS) {
        let turn = usize::try_from(picks / LOWER_FIRST_EVERY_PICKS % (lanes as u64 - 1)).expect("fewer than the lanes");
        order.rotate_left(1);
        order[..lanes - 1].rotate_left(turn);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANES: usize = Priority::ALL.len();

    /// Picks of each lane of 240 while these always have a job.
    fn shares(full: [bool; LANES]) -> [u32; LANES] {
        let mut shares = [0; LANES];
        for picks in 0..240 {
            let lane = order(picks, LANES).into_iter().find(|lane| full[*lane]).expect("one is full");
            shares[lane] += 1;
        }
        shares
    }

    /// With the highest and the lowest always full, those between never had a job begun.
    #[test]
    fn every_lane_moves_whatever_waits_above_it() {
        assert_eq!(shares([true; LANES]), [210, 10, 10, 10]);
        assert_eq!(shares([true, false, true, true]), [210, 0, 20, 10]);
        assert_eq!(shares([true, false, false, true]), [210, 0, 0, 30]);
        assert_eq!(shares([false, true, true, true]), [0, 220, 10, 10]);
        assert_eq!(shares([false, false, false, true]), [0, 0, 0, 240]);
        assert_eq!(order(LOWER_FIRST_EVERY_PICKS - 1, 1), [0]);
    }
}
