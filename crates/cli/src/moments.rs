//! Durations and moments as flags spell them: `90s`, `15m`, `2026-11-22T08:00:00Z`.

use std::time::Duration;

use anyhow::anyhow;
use messages::Timestamp;

/// Farthest that a moment on the command line may lie ahead: a year. What lies farther is a slip of the pen.
const AHEAD_MAX: Duration = Duration::from_hours(365 * 24);

/// Reads a count with its unit: `90s`, `15m`, `2h`, `7d`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let count: u64 = text[..text.len() - 1].parse().ok()?;
    Some(Duration::from_secs(count.checked_mul(unit)?))
}

/// Reads a moment in RFC 3339: `2026-11-22T08:00:00Z`.
pub(crate) fn moment(text: &str) -> Option<Timestamp> {
    chrono::DateTime::parse_from_rfc3339(text).ok().map(|moment| Timestamp::from_micros(moment.timestamp_micros()))
}

/// The moment `back` before now.
pub(crate) fn ago(back: Duration) -> Timestamp {
    Timestamp::from_micros(Timestamp::now().as_micros().saturating_sub(micros(back)))
}

/// The value of a flag such as `--delay`.
///
/// # Errors
///
/// If it is no duration, or longer than a year.
pub(crate) fn delay(text: &str) -> anyhow::Result<Duration> {
    let delay =
        duration(text).ok_or_else(|| anyhow!("`{text}` is no duration; one such as 90s, 15m, 2h or 7d is expected"))?;
    if delay > AHEAD_MAX { Err(too_far(text)) } else { Ok(delay) }
}

/// The value of a flag such as `--at`.
///
/// # Errors
///
/// If it is no moment, or more than a year ahead.
pub(crate) fn at(text: &str) -> anyhow::Result<Timestamp> {
    let at = moment(text)
        .ok_or_else(|| anyhow!("`{text}` is no moment; one such as 2026-11-22T08:00:00Z is expected, with its zone"))?;
    if at > after(AHEAD_MAX) { Err(too_far(text)) } else { Ok(at) }
}

/// The moment `delay` from now.
pub(crate) fn after(delay: Duration) -> Timestamp {
    Timestamp::from_micros(Timestamp::now().as_micros().saturating_add(micros(delay)))
}

fn too_far(text: &str) -> anyhow::Error {
    anyhow!("`{text}` is more than {} days ahead; a nearer moment is possible", AHEAD_MAX.as_secs() / 86_400)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        let seconds = |text| duration(text).map(|duration| duration.as_secs());
        assert_eq!(["90s", "15m", "2h", "7d"].map(seconds), [Some(90), Some(900), Some(7_200), Some(604_800)]);
        assert_eq!(["", "m", "-3s", "5x", "1.5h", "99999999999999999999d"].map(seconds), [None; 6]);
    }

    #[test]
    fn moments_have_zones() {
        let moment = |text| moment(text).map(Timestamp::as_seconds);
        assert_eq!(moment("2026-11-22T08:00:00Z"), Some(1_795_334_400));
        assert_eq!(moment("2026-11-22T09:00:00+01:00"), Some(1_795_334_400));
        assert_eq!(moment("2026-11-22 08:00"), None);
    }

    #[test]
    fn what_lies_too_far_ahead_is_refused() {
        assert!(delay("365d").is_ok() && at("2026-11-22T08:00:00Z").is_ok());
        for error in [delay("366d").expect_err("too far"), at("9999-01-01T00:00:00Z").expect_err("too far")] {
            assert!(error.to_string().contains("more than 365 days ahead"), "{error}");
        }
    }
}
