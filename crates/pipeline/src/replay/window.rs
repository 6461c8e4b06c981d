//! Which messages of a stream are inside a range.

use std::time::Duration;

use messages::Timestamp;

use super::{ReplayFrom, ReplayRange, ReplayUntil};

/// How far messages may be from the order of their publishing, in seconds: publishers have clocks of their own, and a
/// message may wait for its broker. A range that ends at a moment is read this much further.
pub(super) const DISORDER_S_MAX: u64 = 60;

/// Where a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Not in the range, but one behind it may be.
    Outside,
    /// In the range.
    Inside,
    /// Behind the range, as is everything that follows.
    Past,
}

/// A range whose words are numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    offset_min: u64,
    seconds_min: Option<u64>,
    until: Option<ReplayUntil>,
}

impl Window {
    /// `end` is the offset of the last message now.
    pub(super) fn of(range: ReplayRange, end: Option<u64>) -> Self {
        let (offset_min, seconds_min) = match range.from {
            ReplayFrom::First | ReplayFrom::Next => (0, None),
            // `last` delivers the whole last chunk.
            ReplayFrom::Last => (end.unwrap_or_default(), None),
            ReplayFrom::Offset(offset) => (offset, None),
            // Chunks are coarse: a timestamp starts before the moment asked for.
            ReplayFrom::Timestamp(seconds) => (0, Some(seconds)),
        };
        Self { offset_min, seconds_min, until: range.until }
    }

    /// Whether nothing that is there now is inside.
    pub(super) fn begins_behind(&self, end: Option<u64>) -> bool {
        end.is_none_or(|end| end < self.offset_min) || self.offset_max().is_some_and(|last| last < self.offset_min)
    }

    /// A message without a time is inside as far as time goes.
    pub(super) fn place(&self, offset: u64, published_at: Option<Timestamp>) -> Place {
        if self.offset_max().is_some_and(|last| offset > last) {
            return Place::Past;
        }
        let seconds = published_at.and_then(|at| u64::try_from(at.as_seconds()).ok());
        match (self.until, seconds) {
            (Some(ReplayUntil::Timestamp(last)), Some(at)) if at > last.saturating_add(DISORDER_S_MAX) => {
                return Place::Past;
            }
            (Some(ReplayUntil::Timestamp(last)), Some(at)) if at > last => return Place::Outside,
            _ => {}
        }
        let is_early = self.seconds_min.zip(seconds).is_some_and(|(min, at)| at < min);
        if offset < self.offset_min || is_early { Place::Outside } else { Place::Inside }
    }

    /// Whether the range is over with the message at this offset.
    pub(super) fn ends_with(&self, offset: u64) -> bool {
        self.offset_max().is_some_and(|last| offset >= last)
    }

    fn offset_max(&self) -> Option<u64> {
        match self.until {
            Some(ReplayUntil::Offset(last)) => Some(last),
            Some(ReplayUntil::Timestamp(_)) | None => None,
        }
    }
}

/// How long from now a message that comes may still be inside; zero if none may, `None` if for ever.
pub(super) fn open_for(until: Option<ReplayUntil>) -> Option<Duration> {
    let Some(ReplayUntil::Timestamp(last)) = until else { return None };
    let now = u64::try_from(Timestamp::now().as_seconds()).unwrap_or_default();
    let rest = last.saturating_add(DISORDER_S_MAX).saturating_sub(now);
    Some(Duration::from_secs(rest).min(WAIT_MAX))
}

/// Longest wait that a range asks for: clocks cannot count much further.
const WAIT_MAX: Duration = Duration::from_hours(365 * 24);

#[cfg(test)]
mod tests {
    use super::*;

    fn window(from: ReplayFrom, until: Option<ReplayUntil>) -> Window {
        Window::of(ReplayRange { until, ..ReplayRange::from(from) }, Some(100))
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn offsets_bound_a_range_on_both_sides() {
        let window = window(ReplayFrom::Offset(10), Some(ReplayUntil::Offset(20)));
        let places = [9, 10, 20, 21].map(|offset| window.place(offset, Some(at(5))));
        assert_eq!(places, [Place::Outside, Place::Inside, Place::Inside, Place::Past]);
        assert_eq!([19, 20, 21].map(|offset| window.ends_with(offset)), [false, true, true]);
        assert!(!window.begins_behind(Some(10)) && window.begins_behind(Some(9)) && window.begins_behind(None));
    }

    #[test]
    fn moments_bound_a_range_and_disorder_is_borne() {
        let window = window(ReplayFrom::Timestamp(1_000), Some(ReplayUntil::Timestamp(2_000)));
        let places = [999, 1_000, 2_000, 2_001, 2_060, 2_061].map(|seconds| window.place(3, Some(at(seconds))));
        assert_eq!(places, [Place::Outside, Place::Inside, Place::Inside, Place::Outside, Place::Outside, Place::Past]);
        assert_eq!(window.place(3, None), Place::Inside);
    }

    #[test]
    fn the_last_message_is_the_last_of_its_chunk() {
        let window = window(ReplayFrom::Last, None);
        assert_eq!(
            [99, 100, 101].map(|offset| window.place(offset, None)),
            [Place::Outside, Place::Inside, Place::Inside]
        );
    }

    #[test]
    fn a_range_that_ends_before_it_begins_is_empty() {
        assert!(window(ReplayFrom::Offset(10), Some(ReplayUntil::Offset(9))).begins_behind(Some(100)));
    }
}
