//! Numbers, durations and moments as a reader wants them; `–` is what is unknown.

use chrono::{DateTime, Utc};
use store::ResultRow;

/// Stands for what is unknown.
pub(super) const UNKNOWN: &str = "–";

/// A number with about three significant digits: `0.0123`, `1.23`, `12.3`, `1,235`.
pub(super) fn number(value: f64) -> String {
    if !value.is_finite() {
        return UNKNOWN.to_owned();
    }
    let size = value.abs();
    if size >= 99.95 {
        return grouped(value);
    }
    let decimals = [(9.995, 1), (0.9995, 2), (0.099_95, 3), (0.009_995, 4)].into_iter().find(|(from, _)| size >= *from);
    match decimals {
        Some((_, decimals)) => format!("{value:.decimals$}"),
        None if size == 0.0 => "0".to_owned(),
        None => format!("{value:.2e}"),
    }
}

/// A number where it is known.
pub(super) fn maybe(value: Option<f64>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), number)
}

/// A count where it is known.
pub(super) fn count(value: Option<u32>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), |value| grouped(f64::from(value)))
}

/// A number without decimals, its thousands apart.
fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

/// A percentage of whole percent from ten up.
pub(super) fn percent(value: f64) -> String {
    if value.abs() >= 9.95 { format!("{}%", grouped(value)) } else { format!("{value:.1}%") }
}

/// Seconds as `12.3 s`, `3 min 12 s` or `2 h 5 min`.
pub(super) fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{} s", number(seconds));
    }
    let whole = seconds.round();
    if whole < 3600.0 {
        return format!("{} min {} s", (whole / 60.0).floor(), whole % 60.0);
    }
    let minutes = (seconds / 60.0).round();
    format!("{} h {} min", grouped((minutes / 60.0).floor()), minutes % 60.0)
}

/// An RFC 3339 moment to the second in UTC; the text itself if it is none.
pub(super) fn moment(text: &str) -> String {
    match DateTime::parse_from_rfc3339(text) {
        Ok(moment) => moment.with_timezone(&Utc).format("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => text.to_owned(),
    }
}

/// The shape of one item of a benchmark's batch.
pub(super) fn shape(row: &ResultRow) -> String {
    match (row.sequence_length, row.image_size) {
        (Some(tokens), _) => format!("{tokens} tokens"),
        (None, Some(pixels)) => format!("{pixels} px"),
        (None, None) => UNKNOWN.to_owned(),
    }
}

/// The platform, in a browser with its name; a GPU interface that computes on the processor says so.
pub(crate) fn platform(row: &ResultRow) -> String {
    let is_software = row.web.as_ref().is_some_and(|web| web.is_fallback == Some(true));
    let software = if is_software { " (on the processor)" } else { "" };
    match &row.browser {
        Some(browser) => format!("{} in {browser}{software}", row.platform),
        None => format!("{}{software}", row.platform),
    }
}

/// A metric's name and unit for a heading; an unknown metric as it is called.
pub(super) fn metric(name: &str) -> (&str, &str) {
    match name {
        "latency_ms" => ("Latency", "ms per batch"),
        "throughput_items_per_second" => ("Throughput", "items/s"),
        "memory_peak_mb" => ("Peak memory", "MB"),
        "power_w" => ("Power", "W"),
        other => (other, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_about_three_digits() {
        let cases = [
            (0.0, "0"),
            (0.000_123_4, "1.23e-4"),
            (0.012_34, "0.0123"),
            (0.123_4, "0.123"),
            (0.999_9, "1.00"),
            (1.234, "1.23"),
            (9.999, "10.0"),
            (12.34, "12.3"),
            (99.99, "100"),
            (1_234_567.8, "1,234,568"),
            (-1234.0, "-1,234"),
            (f64::NAN, "–"),
        ];
        for (value, expected) in cases {
            assert_eq!(number(value), expected, "{value}");
        }
        assert_eq!((percent(2.345), percent(12.6), percent(1234.0)), ("2.3%".into(), "13%".into(), "1,234%".into()));
    }

    #[test]
    fn durations_carry_into_the_larger_unit() {
        let cases =
            [(0.5, "0.500 s"), (59.0, "59.0 s"), (119.7, "2 min 0 s"), (192.0, "3 min 12 s"), (7500.0, "2 h 5 min")];
        for (seconds, expected) in cases {
            assert_eq!(duration(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn moments_are_in_utc_and_what_is_none_stays() {
        assert_eq!(moment("2026-11-22T10:00:01.5+01:00"), "2026-11-22 09:00:01 UTC");
        assert_eq!(moment("soon"), "soon");
    }
}
