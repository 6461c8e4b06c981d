//! Places at which a daemon may be made to die, for the fault suite: exactly between two steps, as no signal can.
//!
//! `AUGUR_TEST_FAILPOINT=worker-after-confirm:0.1,aggregator-before-commit:0.05` aborts the process, without any
//! clean-up, one time in ten that it passes the first place and one time in twenty that it passes the second. The
//! variable is read once; where it is not set, a place costs one relaxed atomic load.

use std::sync::{
    OnceLock,
    atomic::{AtomicU8, Ordering},
};

use tracing::error;

/// Where the places and their probabilities come from.
const VARIABLE: &str = "AUGUR_TEST_FAILPOINT";

/// The variable was not looked at yet.
const UNKNOWN: u8 = 0;
/// It is not set: nobody dies.
const DISARMED: u8 = 1;
/// It is set.
const ARMED: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(UNKNOWN);

/// A result is confirmed and its job is not acked yet.
pub const WORKER_AFTER_CONFIRM: &str = "worker-after-confirm";
/// A batch is decoded and nothing of it is written yet.
pub const AGGREGATOR_BEFORE_COMMIT: &str = "aggregator-before-commit";
/// A batch is committed and not acked yet.
pub const AGGREGATOR_AFTER_COMMIT: &str = "aggregator-after-commit";
/// A release is trained and nothing of it is written yet.
pub const UPDATER_BEFORE_RELEASE: &str = "updater-before-release";
/// A release is the current one and nobody was told of it yet.
pub const UPDATER_BEFORE_NEWS: &str = "updater-before-news";

/// Aborts this process with the probability that `AUGUR_TEST_FAILPOINT` gives to `name`.
///
/// A variable that cannot be understood aborts too: a fault that never happens would prove nothing.
#[inline]
pub fn hit(name: &str) {
    if STATE.load(Ordering::Relaxed) != DISARMED {
        hit_armed(name);
    }
}

#[cold]
fn hit_armed(name: &str) {
    static POINTS: OnceLock<Vec<Point>> = OnceLock::new();
    let points = POINTS.get_or_init(|| {
        let value = std::env::var(VARIABLE).unwrap_or_default();
        let points = parse(&value).unwrap_or_else(|reason| {
            error!(variable = VARIABLE, reason, "fail points are not understood; aborting");
            std::process::abort()
        });
        STATE.store(if points.is_empty() { DISARMED } else { ARMED }, Ordering::Relaxed);
        points
    });
    let probability = points.iter().find(|point| point.name == name).map_or(0.0, |point| point.probability);
    if fastrand::f64() < probability {
        error!(name, "fail point: aborting");
        std::process::abort();
    }
}

/// A place and how often it kills.
#[derive(Debug, PartialEq)]
struct Point {
    name: String,
    /// From 0 (never) to 1 (always).
    probability: f64,
}

/// Reads `name:probability[,name:probability]`.
fn parse(text: &str) -> Result<Vec<Point>, String> {
    let point = |part: &str| {
        let (name, probability) = part.split_once(':').ok_or_else(|| format!("`{part}` is no `name:probability`"))?;
        let probability: f64 = probability.parse().map_err(|_| format!("`{probability}` is no number"))?;
        if !(0.0..=1.0).contains(&probability) {
            return Err(format!("`{probability}` is no probability"));
        }
        Ok(Point { name: name.to_owned(), probability })
    };
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_probabilities_are_read() {
        let point = |name: &str, probability| Point { name: name.to_owned(), probability };
        assert_eq!(parse(""), Ok(Vec::new()));
        assert_eq!(parse("a:0.5, b:1"), Ok(vec![point("a", 0.5), point("b", 1.0)]));
        for bad in ["a", "a:", "a:x", "a:1.5", "a:-0.1", "a:NaN"] {
            assert!(parse(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn without_the_variable_nobody_dies() {
        hit(WORKER_AFTER_CONFIRM);
        hit(AGGREGATOR_BEFORE_COMMIT);
        assert_eq!(STATE.load(Ordering::Relaxed), DISARMED);
    }
}
