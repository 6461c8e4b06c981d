//! Keeps the end of an output, however long the output is.

use std::collections::VecDeque;

/// The last bytes of what was pushed.
#[derive(Debug)]
pub(crate) struct TailBuffer {
    bytes: VecDeque<u8>,
    bytes_max: usize,
    dropped_bytes: u64,
}

impl TailBuffer {
    /// Keeps at most `bytes_max` bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes: VecDeque::new(), bytes_max, dropped_bytes: 0 }
    }

    /// Adds to the end, dropping from the front.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let kept = &bytes[bytes.len().saturating_sub(self.bytes_max)..];
        let overflow = (self.bytes.len() + kept.len()).saturating_sub(self.bytes_max);
        self.bytes.drain(..overflow);
        self.bytes.extend(kept);
        self.dropped_bytes += (overflow + bytes.len() - kept.len()) as u64;
    }

    /// The end as text of at most `bytes_max` bytes, headed by a line that says how much is missing.
    ///
    /// Bytes that are not UTF-8, and NUL, which databases refuse in text, become U+FFFD.
    pub(crate) fn into_text(self) -> String {
        let (front, back) = self.bytes.as_slices();
        let text = String::from_utf8_lossy(&[front, back].concat()).replace('\0', "\u{fffd}");
        if self.dropped_bytes == 0 && text.len() <= self.bytes_max {
            return text;
        }
        let head = format!("[{} earlier bytes dropped]\n", self.dropped_bytes);
        if head.len() > self.bytes_max {
            return end_of(&text, self.bytes_max).to_owned();
        }
        format!("{head}{}", end_of(&text, self.bytes_max - head.len()))
    }
}

/// The longest end of `text` within `bytes_max` that starts at a character.
fn end_of(text: &str, bytes_max: usize) -> &str {
    let wanted = text.len().saturating_sub(bytes_max);
    let start = (wanted..=text.len()).find(|index| text.is_char_boundary(*index)).unwrap_or(text.len());
    &text[start..]
}

/// The longest beginning of `text` within `bytes_max` that ends at a character.
pub(crate) fn beginning_of(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|index| text.is_char_boundary(*index)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(bytes_max: usize, pushed: &[&[u8]], expected: &str) {
        let mut tail = TailBuffer::new(bytes_max);
        for bytes in pushed {
            tail.push(bytes);
        }
        assert_eq!(tail.into_text(), expected);
    }

    #[test]
    fn short_output_is_kept_whole() {
        check(10, &[b"abc", b"def"], "abcdef");
        check(6, &[b"abc", b"def"], "abcdef");
    }

    #[test]
    fn long_output_keeps_its_end_and_says_so() {
        check(40, &[&[b'x'; 100], b"the end"], "[67 earlier bytes dropped]\nxxxxxxthe end");
        check(4, &[b"abcdefgh"], "efgh");
    }

    #[test]
    fn odd_bytes_become_replacement_characters() {
        check(40, &[b"a\xff\0b"], "a\u{fffd}\u{fffd}b");
    }

    #[test]
    fn a_character_is_never_cut() {
        assert_eq!(beginning_of("aä", 2), "a");
        assert_eq!(end_of("äa", 2), "a");
    }

    proptest! {
        #[test]
        fn text_never_exceeds_its_bound(bytes_max in 0_usize..100, pushed in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..8)) {
            let mut tail = TailBuffer::new(bytes_max);
            for bytes in &pushed {
                tail.push(bytes);
                prop_assert!(tail.bytes.len() <= bytes_max);
            }
            prop_assert!(tail.into_text().len() <= bytes_max);
        }
    }
}
