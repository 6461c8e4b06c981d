//! Rate limits: jobs that a worker starts per second.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use messages::Platform;
use tokio::time::Instant;

/// Spaces the starts of jobs, per platform.
pub(super) struct Pace {
    lanes: BTreeMap<Platform, Spacing>,
}

struct Spacing {
    interval: Duration,
    next: Mutex<Instant>,
}

impl Spacing {
    /// Takes the next start that is free, now or later.
    fn reserve(&self, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let start = (*next).max(now);
        *next = start + self.interval;
        start
    }
}

impl Pace {
    /// Limits in jobs per second; what is not a positive number limits nothing.
    pub(super) fn new(limits: &BTreeMap<Platform, f64>) -> Self {
        let spacing = |(platform, per_second): (&Platform, &f64)| {
            let interval = Duration::try_from_secs_f64(1.0 / per_second).ok().filter(|interval| !interval.is_zero())?;
            Some((*platform, Spacing { interval, next: Mutex::new(Instant::now()) }))
        };
        Self { lanes: limits.iter().filter_map(spacing).collect() }
    }

    /// Waits for the next start that the platform's limit allows.
    pub(super) async fn wait(&self, platform: Platform) {
        let Some(spacing) = self.lanes.get(&platform) else { return };
        tokio::time::sleep_until(spacing.reserve(Instant::now())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_spaced_and_other_platforms_are_free() {
        let pace = Pace::new(&BTreeMap::from([(Platform::Cpu, 4.0), (Platform::Cuda, 0.0)]));
        assert_eq!(pace.lanes.keys().collect::<Vec<_>>(), [&Platform::Cpu], "none per second limits nothing");
        let spacing = &pace.lanes[&Platform::Cpu];
        let began = Instant::now() + Duration::from_secs(1);
        let starts = [0, 0, 100, 2_000, 2_000].map(|ms| {
            let start = spacing.reserve(began + Duration::from_millis(ms));
            (start - began).as_millis()
        });
        assert_eq!(starts, [0, 250, 500, 2_000, 2_250]);
    }
}
