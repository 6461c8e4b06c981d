//! Confirms that do not come although the broker is there.
//!
//! When the leader of a stream or a quorum queue is killed in a cluster, RabbitMQ may forget a confirm: the channel stays
//! open, later messages are confirmed, and this one never (seen with 3.10.8: a result of each of two workers, whose jobs
//! were held for as long as they lived).

use std::time::Duration;

/// How often the interval may double: a broker that is slow must not be buried in copies.
const DOUBLINGS_MAX: u32 = 4;

/// Counts the unconfirmed messages of a channel by two generations: those of the running interval, and older ones.
///
/// A message that has seen a whole interval is overdue, so between one and two intervals after it was published. Two
/// counters cost a fast publisher nothing, where a timer for each message would.
#[derive(Debug, Default)]
pub(crate) struct Generations {
    current: u64,
    newer: usize,
    older: usize,
    was_blocked: bool,
}

impl Generations {
    /// A message is published; gives the generation to hand back with its confirm.
    pub(crate) fn publish(&mut self) -> u64 {
        self.newer += 1;
        self.current
    }

    /// A message of this generation is confirmed or lost.
    pub(crate) fn end(&mut self, generation: u64) {
        let count = if generation == self.current { &mut self.newer } else { &mut self.older };
        *count = count.saturating_sub(1);
    }

    /// An interval is over: whether a message is overdue. None is while the broker takes nothing, nor for a whole
    /// interval after that.
    pub(crate) fn turn(&mut self, is_blocked: bool) -> bool {
        let is_overdue = self.older > 0 && !is_blocked && !self.was_blocked;
        self.was_blocked = is_blocked;
        self.older += std::mem::take(&mut self.newer);
        self.current += 1;
        is_overdue
    }

    /// Whether an interval has passed and everything that is older than the running one is confirmed.
    pub(crate) fn is_current(&self) -> bool {
        self.current > 0 && self.older == 0
    }
}

/// The interval after which confirms are overdue: longer each time that publishing again did not help.
#[derive(Debug)]
pub(crate) struct Interval {
    shortest: Duration,
    doublings: u32,
}

impl Interval {
    pub(crate) fn of(shortest: Duration) -> Self {
        Self { shortest, doublings: 0 }
    }

    pub(crate) fn length(&self) -> Duration {
        self.shortest * 2_u32.pow(self.doublings)
    }

    /// Confirms come as they should.
    pub(crate) fn relax(&mut self) {
        self.doublings = 0;
    }

    /// Everything is published again.
    pub(crate) fn double(&mut self) {
        self.doublings = (self.doublings + 1).min(DOUBLINGS_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_overdue_after_a_whole_interval() {
        let mut generations = Generations::default();
        assert!(!generations.is_current(), "nothing is known yet");
        let first = generations.publish();
        assert!(!generations.turn(false), "it may have been published just now");
        let second = generations.publish();
        generations.end(second);
        assert!(!generations.is_current() && generations.turn(false));
        generations.end(first);
        assert!(!generations.turn(false) && generations.is_current());
    }

    #[test]
    fn none_is_overdue_while_the_broker_is_blocked_and_for_an_interval_after() {
        let mut generations = Generations::default();
        generations.publish();
        let turns = [false, true, true, false, false].map(|is_blocked| generations.turn(is_blocked));
        assert_eq!(turns, [false, false, false, false, true]);
    }

    #[test]
    fn the_interval_doubles_up_to_its_limit_and_relaxes() {
        let mut interval = Interval::of(Duration::from_secs(30));
        let lengths = [(); 6].map(|()| {
            let length = interval.length().as_secs();
            interval.double();
            length
        });
        assert_eq!(lengths, [30, 60, 120, 240, 480, 480]);
        interval.relax();
        assert_eq!(interval.length(), Duration::from_secs(30));
    }
}
