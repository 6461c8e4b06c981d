//! What retention took from a stream before it was read.

use broker::Start;

/// How many offsets are missing between where a reader was to go on and the first message that it got; `None` if no
/// message can have been there. One that is missing tells nothing: RabbitMQ spends an offset on each new segment, and
/// retention takes whole segments.
pub(crate) fn offsets_missing(next: u64, first: u64) -> Option<u64> {
    first.checked_sub(next).filter(|missing| *missing > 1)
}

/// The offset of the first message that a reader may expect.
pub(crate) fn first_expected(start: &Start) -> u64 {
    if let Start::StreamOffset(offset) = start { *offset } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_segment_is_no_loss() {
        assert_eq!([5, 6, 7, 4].map(|first| offsets_missing(5, first)), [None, None, Some(2), None]);
    }
}
