//! Places in the result stream, as `--from` and `--until` spell them.

use std::str::FromStr;

use anyhow::anyhow;
use messages::Timestamp;
use pipeline::{ReplayFrom, ReplayUntil};

use crate::moments;

/// The word after `--from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct From(pub(super) ReplayFrom);

impl FromStr for From {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let from = match text {
            "first" => ReplayFrom::First,
            "last" => ReplayFrom::Last,
            "next" => ReplayFrom::Next,
            _ => match place(text) {
                Some(Place::Offset(offset)) => ReplayFrom::Offset(offset),
                Some(Place::Moment(seconds)) => ReplayFrom::Timestamp(seconds),
                None => return Err(no_place(text, "first, last, next")),
            },
        };
        Ok(Self(from))
    }
}

/// The word after `--until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// The last message that is there at the call.
    Now,
    At(ReplayUntil),
}

impl FromStr for Until {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match (text, place(text)) {
            ("now", _) => Ok(Self::Now),
            (_, Some(Place::Offset(offset))) => Ok(Self::At(ReplayUntil::Offset(offset))),
            (_, Some(Place::Moment(seconds))) => Ok(Self::At(ReplayUntil::Timestamp(seconds))),
            (_, None) => Err(no_place(text, "now")),
        }
    }
}

/// What both know.
enum Place {
    Offset(u64),
    /// In seconds since 1970.
    Moment(u64),
}

/// An offset, a moment, or a duration back from now.
fn place(text: &str) -> Option<Place> {
    let seconds = |moment: Timestamp| Place::Moment(u64::try_from(moment.as_seconds()).unwrap_or_default());
    let offset = || text.parse().ok().map(Place::Offset);
    let back = || moments::duration(text).map(|back| seconds(moments::ago(back)));
    offset().or_else(back).or_else(|| moments::moment(text).map(seconds))
}

fn no_place(text: &str, words: &str) -> anyhow::Error {
    anyhow!(
        "`{text}` is no place in a stream: {words}, an offset, a moment such as 2026-11-22T08:00:00Z or a duration \
         back such as 90s, 15m, 2h or 7d is"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_to_begin_are_understood() {
        let from = |text: &str| text.parse::<From>().map(|from| from.0);
        assert_eq!(from("first").expect("a word"), ReplayFrom::First);
        assert_eq!(from("1234").expect("an offset"), ReplayFrom::Offset(1234));
        assert_eq!(from("2026-11-22T08:00:00Z").expect("a moment"), ReplayFrom::Timestamp(1_795_334_400));
        assert!(matches!(from("15m").expect("a duration"), ReplayFrom::Timestamp(_)));
        for bad in ["", "soon", "now", "-3", "5x", "m"] {
            assert!(from(bad).expect_err("no place").to_string().contains("is no place in a stream"), "{bad}");
        }
    }

    #[test]
    fn places_to_end_are_understood() {
        let until = |text: &str| text.parse::<Until>();
        assert_eq!(until("now").expect("a word"), Until::Now);
        assert_eq!(until("1234").expect("an offset"), Until::At(ReplayUntil::Offset(1234)));
        let moment = Until::At(ReplayUntil::Timestamp(1_795_334_400));
        assert_eq!(until("2026-11-22T08:00:00Z").expect("a moment"), moment);
        assert!(matches!(until("15m").expect("a duration"), Until::At(ReplayUntil::Timestamp(_))));
        for bad in ["", "first", "next", "tomorrow"] {
            assert!(until(bad).expect_err("no place").to_string().contains(": now, an offset"), "{bad}");
        }
    }
}
