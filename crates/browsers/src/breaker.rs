//! A circuit breaker for one backend of one browser.
//!
//! Jobs go there only while it is closed. Failures in a row open it; after a while a probe, never a job, is the trial
//! that closes it or keeps it open for twice as long.

use std::time::{Duration, Instant};

use crate::BreakerSettings;

/// Whether jobs are let through; time is told, never asked.
#[derive(Debug, Clone)]
pub(crate) struct Breaker {
    settings: BreakerSettings,
    circuit: Circuit,
    /// Times that it opened since the pool started.
    opened: u64,
}

/// The state, as `browsers status` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Circuit {
    /// Jobs pass.
    Closed {
        /// Failures since the last success.
        failures: u32,
    },
    /// Nothing passes for now.
    Open {
        /// When a trial is due.
        until: Instant,
        /// How long it is open this time.
        open: Duration,
    },
    /// A trial is under way.
    HalfOpen {
        /// How long it was open before.
        open: Duration,
    },
}

impl Breaker {
    pub(crate) fn new(settings: BreakerSettings) -> Self {
        Self { settings, circuit: Circuit::Closed { failures: 0 }, opened: 0 }
    }

    pub(crate) fn circuit(&self) -> Circuit {
        self.circuit
    }

    pub(crate) fn opened(&self) -> u64 {
        self.opened
    }

    /// Whether a job may go there.
    pub(crate) fn lets_jobs_through(&self) -> bool {
        matches!(self.circuit, Circuit::Closed { .. })
    }

    /// Begins a trial if one is due; says whether it did.
    pub(crate) fn begin_trial(&mut self, now: Instant) -> bool {
        match self.circuit {
            Circuit::Open { until, open } if now >= until => {
                self.circuit = Circuit::HalfOpen { open };
                true
            }
            Circuit::Open { .. } | Circuit::Closed { .. } | Circuit::HalfOpen { .. } => false,
        }
    }

    /// A trial came to nothing for a reason that is ours: another is due.
    pub(crate) fn abandon_trial(&mut self, now: Instant) {
        if let Circuit::HalfOpen { open } = self.circuit {
            self.circuit = Circuit::Open { until: now, open };
        }
    }

    /// A job or a trial went well.
    pub(crate) fn succeed(&mut self) {
        self.circuit = match self.circuit {
            // A job that started before it opened proves nothing about now.
            open @ Circuit::Open { .. } => open,
            Circuit::Closed { .. } | Circuit::HalfOpen { .. } => Circuit::Closed { failures: 0 },
        };
    }

    /// A job or a trial failed for a reason that is the browser's.
    pub(crate) fn fail(&mut self, now: Instant) {
        match self.circuit {
            Circuit::Closed { failures } if failures + 1 < self.settings.failures_to_open => {
                self.circuit = Circuit::Closed { failures: failures + 1 };
            }
            Circuit::Closed { .. } => self.open(now, Duration::from_millis(self.settings.open_ms)),
            Circuit::HalfOpen { open } => self.open(now, open * 2),
            Circuit::Open { .. } => {}
        }
    }

    /// Opens it at once: what failed was the whole browser.
    pub(crate) fn trip(&mut self, now: Instant) {
        match self.circuit {
            Circuit::Closed { .. } => self.open(now, Duration::from_millis(self.settings.open_ms)),
            Circuit::HalfOpen { .. } | Circuit::Open { .. } => self.fail(now),
        }
    }

    fn open(&mut self, now: Instant, open: Duration) {
        let open = open.min(Duration::from_millis(self.settings.open_ms_max));
        self.circuit = Circuit::Open { until: now + open, open };
        self.opened += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: BreakerSettings = BreakerSettings { failures_to_open: 3, open_ms: 1_000, open_ms_max: 3_000 };

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_good_trial_closes_it() {
        let start = Instant::now();
        let mut breaker = Breaker::new(SETTINGS);
        breaker.fail(start);
        breaker.fail(start);
        breaker.succeed();
        breaker.fail(start);
        breaker.fail(start);
        assert!(breaker.lets_jobs_through(), "the success in between counts");
        breaker.fail(start);
        assert!(!breaker.lets_jobs_through());
        assert!(!breaker.begin_trial(after(start, 999)));
        assert!(breaker.begin_trial(after(start, 1_000)));
        assert!(!breaker.begin_trial(after(start, 1_000)), "one trial at a time");
        assert!(!breaker.lets_jobs_through(), "jobs are no trials");
        breaker.succeed();
        assert!(breaker.lets_jobs_through());
        assert_eq!(breaker.opened(), 1);
    }

    #[test]
    fn a_trial_that_was_given_up_doubles_nothing() {
        let start = Instant::now();
        let mut breaker = Breaker::new(SETTINGS);
        breaker.trip(start);
        let due = after(start, 1_000);
        assert!(breaker.begin_trial(due));
        breaker.abandon_trial(due);
        assert!(!breaker.lets_jobs_through());
        assert!(breaker.begin_trial(due), "the next is due at once");
        assert_eq!(breaker.circuit(), Circuit::HalfOpen { open: Duration::from_secs(1) });
        assert_eq!(breaker.opened(), 1);
        breaker.succeed();
        breaker.abandon_trial(due);
        assert!(breaker.lets_jobs_through(), "there was no trial");
    }

    #[test]
    fn each_bad_trial_doubles_the_time_up_to_the_limit() {
        let start = Instant::now();
        let mut breaker = Breaker::new(SETTINGS);
        (0..3).for_each(|_| breaker.fail(start));
        let mut now = start;
        for expected_ms in [1_000, 2_000, 3_000, 3_000] {
            let Circuit::Open { until, .. } = breaker.circuit() else { panic!("it is open") };
            assert_eq!(until, after(now, expected_ms));
            now = until;
            assert!(breaker.begin_trial(now));
            breaker.fail(now);
        }
    }

    proptest! {
        /// Whatever happens, it never stays open longer than its limit, and jobs pass only when it is closed.
        #[test]
        fn it_always_comes_back(events in prop::collection::vec((0_u8..3, 0_u64..2_000), 0..60)) {
            let start = Instant::now();
            let mut now = start;
            let mut breaker = Breaker::new(SETTINGS);
            for (event, pause_ms) in events {
                now += Duration::from_millis(pause_ms);
                match event {
                    0 => breaker.fail(now),
                    1 => breaker.succeed(),
                    _ => { breaker.begin_trial(now); }
                }
                if let Circuit::Open { until, open } = breaker.circuit() {
                    prop_assert!(until <= now + Duration::from_millis(SETTINGS.open_ms_max));
                    prop_assert!(open >= Duration::from_millis(SETTINGS.open_ms));
                }
                prop_assert_eq!(breaker.lets_jobs_through(), matches!(breaker.circuit(), Circuit::Closed { .. }));
            }
            now += Duration::from_millis(SETTINGS.open_ms_max);
            breaker.begin_trial(now);
            breaker.succeed();
            prop_assert!(breaker.lets_jobs_through());
        }
    }
}
