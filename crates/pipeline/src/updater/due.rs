//! When new measurements are worth a release.

use std::time::{Duration, Instant};

use predictors::ROWS_NEEDED;

/// Fewer new measurements than are worth a release wait this many times longer for more; they are not left out for ever.
const FEW_ROWS_QUIETS: u32 = 5;
/// The first of the new measurements waits this many quiet times at most, however steadily others follow.
const AGE_QUIETS: u32 = 20;
/// So many new measurements wait for no quiet moment.
const ROWS_NEW_MAX: usize = 100;
/// Where measurements follow steadily, training rests this many times as long as it took: benchmarks of this machine
/// wait for it, so it may take a tenth of their time.
pub(super) const RESTS: u32 = 9;

/// Why training should not wait for a quiet moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// It should.
    Patient,
    /// Predictions have drifted: as soon as training has rested. They may stay wrong however much is learned.
    Drifted,
    /// The current release is of no use: at once.
    Unusable,
}

/// What has come since a release was trained last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrived {
    rows: usize,
    rows_trained: usize,
    /// When the first and the last of the rows since then came.
    first_at: Instant,
    last_at: Instant,
    /// When training has rested.
    rested_at: Instant,
}

impl Arrived {
    /// A table of so many rows, of which the first ones were trained on, as found at `now`.
    pub(super) const fn found(rows: usize, rows_trained: usize, now: Instant) -> Self {
        Self { rows, rows_trained, first_at: now, last_at: now, rested_at: now }
    }

    pub(super) const fn rows_trained(&self) -> usize {
        self.rows_trained
    }

    /// The table has so many rows now.
    pub(super) const fn grew(&mut self, rows: usize, now: Instant) {
        if rows > self.rows {
            if self.rows <= self.rows_trained {
                self.first_at = now;
            }
            (self.rows, self.last_at) = (rows, now);
        }
    }

    /// All rows were trained on, from `began` until `now`.
    pub(super) fn trained(&mut self, began: Instant, now: Instant) {
        self.rows_trained = self.rows;
        self.rested_at = now + RESTS * (now - began);
    }

    /// When to train next, which may be past; `None` if there is nothing to train on.
    pub(super) fn due_at(&self, urgency: Urgency, rows_new_min: usize, quiet: Duration) -> Option<Instant> {
        // A table below the minimum is nothing to train on yet.
        if self.rows < ROWS_NEEDED {
            return None;
        }
        let due_at = self.due_in_turn(rows_new_min, quiet);
        match urgency {
            Urgency::Patient => due_at,
            Urgency::Drifted => due_at.map(|due_at| due_at.min(self.last_at.max(self.rested_at))),
            Urgency::Unusable => Some(self.last_at),
        }
    }

    /// When to train next if nothing is urgent; `None` if nothing is new.
    fn due_in_turn(&self, rows_new_min: usize, quiet: Duration) -> Option<Instant> {
        let rows_new = self.rows.saturating_sub(self.rows_trained);
        if rows_new == 0 {
            return None;
        }
        if rows_new >= rows_new_min.max(self.rows_trained / 2) {
            return Some(self.last_at);
        }
        let quiets = if rows_new >= rows_new_min { 1 } else { FEW_ROWS_QUIETS };
        let age = if rows_new >= ROWS_NEW_MAX { Duration::ZERO } else { AGE_QUIETS * quiet };
        Some((self.last_at + quiets * quiet).min((self.first_at + age).max(self.rested_at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_secs(10);

    /// How long after the last of the new rows training is due, if they came within `first` before.
    fn due_after(rows: usize, rows_trained: usize, first: Duration) -> Option<Duration> {
        let start = Instant::now();
        let mut arrived = Arrived::found(rows_trained, rows_trained, start);
        arrived.grew(rows_trained + 1, start);
        arrived.grew(rows, start + first);
        arrived.due_at(Urgency::Patient, 20, QUIET).map(|due| due - (start + first))
    }

    #[test]
    fn nothing_new_is_no_reason_to_train() {
        let due =
            |rows, rows_trained| Arrived::found(rows, rows_trained, Instant::now()).due_at(Urgency::Patient, 20, QUIET);
        assert_eq!(due(0, 0), None);
        assert_eq!(due(ROWS_NEEDED - 1, 0), None);
        assert_eq!(due(500, 500), None);
        // Another release was promoted, which had seen more.
        assert_eq!(due(500, 600), None);
    }

    #[test]
    fn enough_new_measurements_are_trained_after_one_quiet_or_at_once() {
        assert_eq!(due_after(520, 500, QUIET), Some(QUIET));
        assert_eq!(due_after(599, 500, QUIET), Some(QUIET));
        assert_eq!(due_after(750, 500, QUIET), Some(Duration::ZERO));
        assert_eq!(due_after(60, 40, QUIET), Some(Duration::ZERO));
    }

    /// The last few measurements of a run were never trained on when only enough of them were worth a release.
    #[test]
    fn a_few_new_measurements_are_trained_after_a_longer_quiet() {
        assert_eq!(due_after(501, 500, Duration::ZERO), Some(QUIET * FEW_ROWS_QUIETS));
        assert_eq!(due_after(519, 500, QUIET), Some(QUIET * FEW_ROWS_QUIETS));
    }

    /// A steady trickle made no release until half as many rows again had come.
    #[test]
    fn a_steady_trickle_is_trained_by_age_and_by_number() {
        assert_eq!(due_after(530, 500, QUIET * (AGE_QUIETS - 1)), Some(QUIET));
        assert_eq!(due_after(530, 500, QUIET * AGE_QUIETS), Some(Duration::ZERO));
        let start = Instant::now();
        let mut arrived = Arrived::found(500, 500, start);
        arrived.grew(600, start);
        assert_eq!(arrived.due_at(Urgency::Patient, 20, QUIET), Some(start), "a hundred wait for nothing");
    }

    #[test]
    fn where_measurements_follow_steadily_training_rests() {
        let start = Instant::now();
        let second = |seconds| start + Duration::from_secs(seconds);
        let mut arrived = Arrived::found(500, 0, start);
        arrived.trained(start, second(5));
        arrived.grew(600, second(6));
        assert_eq!(
            arrived.due_at(Urgency::Patient, 20, QUIET),
            Some(second(6) + QUIET),
            "a quiet moment does not rest"
        );
        for at in (10..50).step_by(5) {
            arrived.grew(600 + usize::try_from(at).expect("small"), second(at));
            assert!(arrived.due_at(Urgency::Patient, 20, QUIET).is_some_and(|due| due > second(at)), "{at} s");
        }
        assert_eq!(arrived.due_at(Urgency::Patient, 20, QUIET), Some(second(50)), "nine times five seconds");
    }

    /// A platform whose intervals stay wrong kept training half of the time, and benchmarks waiting for it.
    #[test]
    fn drift_waits_until_training_has_rested_and_a_release_of_no_use_for_nothing() {
        let start = Instant::now();
        let second = |seconds| start + Duration::from_secs(seconds);
        let mut arrived = Arrived::found(500, 500, start);
        arrived.grew(510, second(1));
        assert_eq!(arrived.due_at(Urgency::Drifted, 20, QUIET), Some(second(1)), "nothing was trained yet");
        arrived.trained(second(1), second(6));
        assert_eq!(arrived.due_at(Urgency::Drifted, 20, QUIET), None, "nothing is new");
        assert_eq!(arrived.due_at(Urgency::Unusable, 20, QUIET), Some(second(1)));
        for at in (7..51).step_by(2) {
            arrived.grew(510 + usize::try_from(at).expect("small"), second(at));
            assert_eq!(arrived.due_at(Urgency::Drifted, 20, QUIET * 10), Some(second(51)), "nine times five seconds");
            assert_eq!(arrived.due_at(Urgency::Unusable, 20, QUIET), Some(second(at)));
        }
        let few = Arrived::found(ROWS_NEEDED - 1, 0, start);
        assert_eq!(few.due_at(Urgency::Unusable, 20, QUIET), None, "too few to train on");
    }
}
